"""The tasks that have a name: what is known of each corpus before it is read.

Nothing is loaded here; `unmask.data.tasks.load_task` does that. The one thing that is easy to get
wrong: `sizes` are the splits as distributed. Those that the paper holds out itself (rest14) come
from `--validation-from`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from unmask.data.hub import PARQUET_REVISION
from unmask.data.tags import tag_names

GENERATED = "lookright"
"""The one task that needs no files: `unmask.data.lookright` makes it."""


@dataclass(frozen=True)
class Task:
    """What is known of a corpus before it is read.

    `labels` are the entity labels, None where any will do. `sizes` are the sentences of train,
    validation and test as distributed, 0 where there is no such split. `integer_tags` names
    integer tags of a table that has lost its names, in the customary order.
    """

    name: str
    description: str
    licence: str
    licence_page: str
    is_open: bool = True
    """Its sentences may be passed on."""
    labels: tuple[str, ...] | None = None
    sizes: tuple[int, int, int] = (0, 0, 0)
    column: str | None = None
    files: str = "train.txt, dev.txt and test.txt"
    hub_id: str | None = None
    hub_revision: str = PARQUET_REVISION
    hub_config: str | None = None
    integer_tags: tuple[str, ...] | None = None


_NER_LABELS = ("PER", "ORG", "LOC", "MISC")
_CHUNKS = ("ADJP", "ADVP", "CONJP", "INTJ", "LST", "NP", "PP", "PRT", "SBAR", "UCP", "VP")
_CONLL03 = Task(
    name="conll03_ner",
    description="CoNLL-2003 English: people, organisations, places and other names in news",
    licence="Reuters corpus agreement; not to be passed on",
    licence_page="https://www.clips.uantwerpen.be/conll2003/ner/",
    is_open=False,
    labels=tuple(sorted(_NER_LABELS)),
    sizes=(14041, 3250, 3453),
    column="ner",
    files="eng.train, eng.testa and eng.testb",
    hub_id="lhoestq/conll2003",
    integer_tags=("O", *(f"{prefix}-{label}" for label in _NER_LABELS for prefix in "BI")),
)

_ACE_EVENTS = {
    "Business": "Declare-Bankruptcy End-Org Merge-Org Start-Org",
    "Conflict": "Attack Demonstrate",
    "Contact": "Meet Phone-Write",
    "Justice": "Acquit Appeal Arrest-Jail Charge-Indict Convict Execute Extradite Fine Pardon "
    "Release-Parole Sentence Sue Trial-Hearing",
    "Life": "Be-Born Die Divorce Injure Marry",
    "Movement": "Transport",
    "Personnel": "Elect End-Position Nominate Start-Position",
    "Transaction": "Transfer-Money Transfer-Ownership",
}

_CROSSNER: dict[str, tuple[tuple[int, int, int], str]] = {
    "ai": (
        (100, 350, 431),
        "algorithm conference country field location metrics misc organisation person product "
        "programlang researcher task university",
    ),
    "literature": (
        (100, 400, 416),
        "award book country event literarygenre location magazine misc organisation person poem "
        "writer",
    ),
    "music": (
        (100, 380, 465),
        "album award band country event location misc musicalartist musicalinstrument musicgenre "
        "organisation person song",
    ),
    "politics": (
        (200, 541, 651),
        "country election event location misc organisation person politicalparty politician",
    ),
    "science": (
        (200, 450, 543),
        "academicjournal astronomicalobject award chemicalcompound chemicalelement country "
        "discipline enzyme event location misc organisation person protein scientist theory "
        "university",
    ),
}


def _crossner_tasks() -> Iterator[Task]:
    for domain, (sizes, labels) in _CROSSNER.items():
        yield Task(
            name=f"crossner_{domain}",
            description=f"CrossNER: names of many types in English Wikipedia, domain {domain}",
            licence="MIT (annotation), CC BY-SA (text of Wikipedia)",
            licence_page="https://github.com/zliucr/CrossNER",
            labels=tuple(labels.split()),
            sizes=sizes,
            hub_id="DFKI-SLT/cross_ner",
            hub_config=domain,
        )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _CONLL03,
        replace(
            _CONLL03,
            name="conll03_chunking",
            description="CoNLL-2003 English: phrases without recursion (the chunk column)",
            labels=_CHUNKS,
            column="chunk",
            integer_tags=tag_names(_CHUNKS),
        ),
        Task(
            name="rest14",
            description="SemEval-2014 Task 4: aspect terms of restaurant reviews with polarity",
            licence="terms of the shared task; not to be passed on",
            licence_page="https://alt.qcri.org/semeval2014/task4/",
            is_open=False,
            labels=("conflict", "negative", "neutral", "positive"),
            sizes=(3041, 0, 800),
            files="Restaurants_Train_v2.xml and Restaurants_Test_Gold.xml, with "
            "--validation-from train:0.1",
        ),
        Task(
            name="ace05",
            description="ACE 2005 English: event triggers of 33 types",
            licence="LDC User Agreement; not to be passed on",
            licence_page="https://catalog.ldc.upenn.edu/LDC2006T06",
            is_open=False,
            labels=tuple(
                f"{kind}:{event}"
                for kind, events in _ACE_EVENTS.items()
                for event in events.split()
            ),
            sizes=(14672, 873, 711),
            files="train.json, dev.json and test.json",
        ),
        Task(
            name="wnut17",
            description="WNUT-2017: rare and emerging names in social media",
            licence="CC BY 4.0",
            licence_page="https://noisy-text.github.io/2017/emerging-rare-entities.html",
            labels=("corporation", "creative-work", "group", "location", "person", "product"),
            sizes=(3394, 1009, 1287),
            hub_id="leondz/wnut_17",
        ),
        *_crossner_tasks(),
        Task(
            name="uner_ewt",
            description="Universal NER on the English Web Treebank: people, organisations, places",
            licence="CC BY-SA 4.0",
            licence_page="https://www.universalner.org/",
            labels=("LOC", "ORG", "PER"),
            sizes=(12543, 2001, 2077),
            files="dev.iob2 and test.iob2, with --train-from dev --validation-from train:200",
            hub_id="universalner/universal_ner",
            hub_config="en_ewt",
        ),
        Task(
            name=GENERATED,
            description="generated sentences; what a causal labeler can reach is known exactly",
            licence="Apache-2.0",
            licence_page="https://www.apache.org/licenses/LICENSE-2.0",
        ),
    )
}
