"""SeqGPT (Yu et al., 2308.10529): every task as extraction or choice, with labels as the prompt.

One frame of three lines, in Chinese for texts in any language; the released models know no
other. Relations and events are asked in two steps: `follow_ups` asks the second from the answer
to the first. What was published is inference only: training follows the paper, and where neither
says anything (how absent labels are written, how several labels are separated) the choice is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from unmask.instruct.examples import Event, IEExample, Relation
from unmask.instruct.grounding import ALL
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import Parsed, malformed, parsed
from unmask.instruct.prompts import Query, single_turn
from unmask.instruct.seqgpt_answers import (
    labels_answer,
    read_labels,
    read_spans,
    spans_answer,
)
from unmask.instruct.seqgpt_labels import Draw, Quota, draw_labels, in_batches, label_pools
from unmask.instruct.seqgpt_rouge import TOKENIZERS
from unmask.instruct.seqgpt_scoring import score_answers
from unmask.instruct.seqgpt_tasks import (
    CLS,
    COMPOSITE,
    EXT,
    FOLLOWED_BY,
    TASKS,
    Question,
    event_question,
    frame,
    item_of,
    questions,
    relation_question,
)
from unmask.instruct.span_grammar import mentions_of
from unmask.instruct.system import Decoding, Grammar, System

UNLIMITED = frozenset({"SA", "NLI"})
"""Tasks with so few labels that the quota would starve them."""


@dataclass(frozen=True)
class SeqGPT(System):
    """See the module.

    `use` names tasks, separated by commas ("RE" and "EE" are both their steps). `frame_lang` is
    the language of the frame, "zh" as released; `question_lang` that of questions and part labels
    ("auto": the example's). For training a text makes `repeats` instructions with up to
    `max_positive` and `max_negative` labels; `quota` bounds instructions per data set and label,
    0 lifts it. `negatives_from` is "dataset", or "task" for pretraining data. In evaluation at
    most `batch_labels` labels are extracted at once. `explicit_none` writes a line for labels that
    have no span; `grounded` drops spans that are not in the text.
    """

    use: str = "NER"
    frame_lang: str = "zh"
    question_lang: str = "auto"
    gen_token: str = "[GEN]"
    repeats: int = 3
    max_positive: int = 11
    max_negative: int = 21
    quota: int = 500
    negatives_from: str = "dataset"
    batch_labels: int = 6
    explicit_none: bool = True
    grounded: bool = False
    rouge_tokenizer: str = "cjk"

    name: ClassVar[str] = "seqgpt"
    tasks: ClassVar[tuple[str, ...]] = (*TASKS, *COMPOSITE)
    occurrences: ClassVar[str] = ALL
    recipe: ClassVar[dict[str, Any]] = {
        "batch_size": 4,
        "accumulation": 32,
        "learning_rate": 1e-4,
        "max_steps": 4000,
        "max_subtokens": 1024,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("frame_lang", ("zh", "en"))
        self._check("question_lang", ("auto", "zh", "en"))
        self._check("negatives_from", ("dataset", "task"))
        self._check("rouge_tokenizer", TOKENIZERS)
        for field in ("repeats", "max_positive", "max_negative"):
            if getattr(self, field) < 1:
                raise ValueError(f"seqgpt: {field} must be at least 1, got {getattr(self, field)}")
        unknown = [name for name in self._named() if name not in self.tasks]
        if unknown:
            raise ValueError(
                f"seqgpt: use names unknown tasks {unknown}; choose of {', '.join(self.tasks)}"
            )

    def _named(self) -> list[str]:
        return [name.strip() for name in self.use.split(",")]

    @property
    def used(self) -> tuple[str, ...]:
        """The tasks of `use`, composite ones as their steps."""
        steps = (step for name in self._named() for step in COMPOSITE.get(name, (name,)))
        return tuple(dict.fromkeys(steps))

    def decoding(self) -> Decoding:
        """Beam search of width 4; mode "official" has the released script's other values."""
        if self.mode == "official":
            return Decoding(max_new_tokens=256, num_beams=4, repetition_penalty=2.0)
        return Decoding(max_new_tokens=128, num_beams=4)

    def queries(self, example: IEExample, labels: LabelSet, train: bool) -> Iterable[Query]:
        """For evaluation all labels, extraction in batches; for training labels drawn."""
        for index, question in self._questions(example, labels):
            if train:
                yield from self._instructions(example, question, index, Quota(0))
                continue
            batches: Sequence[tuple[str, ...]] = [question.pool]
            if TASKS[question.task] == EXT:
                batches = in_batches(question.pool, self.batch_labels)
            for number, batch in enumerate(batches):
                yield self._query(example, question, batch, f"{index}.{number}")

    def render_all(
        self, examples: Sequence[IEExample], labels: LabelSet, train: bool = False
    ) -> Iterator[Query]:
        """As `render`; for training with the quota, in an order that favours no end of the corpus.

        Wrong labels come from the example's data set, or from all that occurs in the task.
        """
        if not train:
            yield from super().render_all(examples, labels)
            return
        pools = label_pools(examples, labels, self.negatives_from)
        quota = Quota(self.quota)
        order = list(range(len(examples)))
        self.generator("order").shuffle(order)
        for example in (examples[index] for index in order):
            for index, question in self._questions(example, pools[example.dataset]):
                limit = Quota(0) if question.task in UNLIMITED else quota
                for query in self._instructions(example, question, index, limit):
                    yield from self.proven(query)

    def pretraining(self, labelled: Mapping[str, Sequence[IEExample]]) -> list[Query]:
        """The first of two stages, on texts with open labels by task."""
        from unmask.instruct.seqgpt_pretraining import pretraining_queries

        return pretraining_queries(labelled, self)

    def _questions(self, example: IEExample, labels: LabelSet) -> Iterator[tuple[str, Question]]:
        lang = self._lang(example)
        for task in self.used:
            asked = questions(example, labels, task, lang, self.mode)
            for number, question in enumerate(asked):
                yield f"{task}{number}", question

    def _lang(self, example: IEExample) -> str:
        if self.question_lang != "auto":
            return self.question_lang
        return "zh" if example.lang == "zh" else "en"

    def _instructions(
        self, example: IEExample, question: Question, index: str, quota: Quota
    ) -> Iterator[Query]:
        if question.fixed:
            yield self._query(example, question, question.pool, index)
            return
        generator = self.generator(f"{example.id}/{index}")
        draw = Draw(self.repeats, self.max_positive, self.max_negative)
        present = [label for label in question.pool if label in question.gold]
        for number in range(draw.repeats):
            allowed = quota.open(example.dataset, present)
            if present and not allowed:
                return
            positive, asked = draw_labels(question.pool, question.gold, allowed, draw, generator)
            if not asked:
                return
            quota.count(example.dataset, positive)
            yield self._query(example, question, asked, f"{index}.{number}")

    def _query(
        self, example: IEExample, question: Question, asked: Sequence[str], suffix: str
    ) -> Query:
        atomic = TASKS[question.task]
        gold = {label: question.gold[label] for label in asked if label in question.gold}
        if atomic == EXT:
            answer = spans_answer(gold, asked, self.explicit_none)
            pairs = [(label, span) for label in gold for span in gold[label]]
        else:
            answer = labels_answer(gold, asked)
            pairs = [(label, "") for label in gold]
        shown = asked
        if self.mode == "official":
            shown = [label.replace(",", "\uff0c") for label in asked]
        prompt = frame(atomic, question.text, shown, self.frame_lang, self.gen_token)
        return Query(
            f"{example.id}#{suffix}",
            example.id,
            question.task,
            example.text,
            tuple(asked),
            single_turn(prompt, answer if self.frame_lang == "zh" else f" {answer}"),
            tuple(item_of(question.task, label, span, question.about) for label, span in pairs),
            example.words,
            example.dataset,
            question.about,
        )

    def follow_ups(
        self, example: IEExample, labels: LabelSet, query: Query, output: str
    ) -> list[Query]:
        """The second step of a relation or event, about what the answer to the first names.

        Every subject with every object of its relation, or every trigger, once each.
        """
        if query.task not in FOLLOWED_BY:
            return []
        lang, found = self._lang(example), self.parse(output, query).items
        asked = (
            [relation_question(example, labels, *pair, lang, self.mode) for pair in _pairs(found)]
            if query.task == "RE-EXT"
            else [
                event_question(example, labels, trigger, lang, self.mode)
                for trigger in _triggers(found)
            ]
        )
        suffix = query.id.removeprefix(f"{example.id}#")
        return [
            proven
            for number, question in enumerate(asked)
            for proven in self.proven(
                self._query(example, question, question.pool, f"{suffix}>{number}")
            )
        ]

    def parse(self, output: str, query: Query) -> Parsed:
        """Items of the query's task under the labels asked for."""
        pairs: list[tuple[str, str]] | None
        if TASKS.get(query.task) == EXT:
            pairs, errors = read_spans(output, query.labels)
        else:
            names, errors = read_labels(output, query.labels)
            pairs = None if names is None else [(name, "") for name in names]
        if pairs is None:
            return malformed(errors[0])
        if self.grounded and TASKS[query.task] == EXT:
            errors += [f"not in the text: {span}" for _, span in pairs if span not in query.text]
            pairs = [(label, span) for label, span in pairs if span in query.text]
        pairs = list(dict.fromkeys(pairs))
        return parsed([item_of(query.task, *pair, query.about) for pair in pairs], errors)

    def evaluate(self, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        """`score`, the mean of micro F1 and mean ROUGE, and both; the mean over atomic tasks.

        Items are exact (label, span) pairs or labels; ROUGE compares what was written with what
        should be, the batches of one question together.
        """
        by_task: dict[str, list[tuple[Query, str]]] = {}
        for query, output in pairs:
            by_task.setdefault(query.task, []).append((query, output))
        scores = {
            task: score_answers(
                [(query, self.parse(output, query).items, output) for query, output in found],
                self.rouge_tokenizer,
            )
            for task, found in by_task.items()
        }
        means = {
            key: sum(one[key] for one in scores.values()) / len(scores) if scores else 0.0
            for key in ("f1", "rouge", "score")
        }
        return {**means, "tasks": scores}

    def grammar(self, query: Query) -> Grammar:
        """Lines of known labels, or known labels separated by tabs."""
        import regex

        lead = "" if self.frame_lang == "zh" else " ?"
        names = "|".join(regex.escape(label) for label in query.labels)
        if TASKS[query.task] == CLS:
            choice = rf"(?:{names})(?:\t(?:{names}))*"
            return Grammar(rf"{lead}(?:None|{choice})\n", ("", "\n", "None\n"))
        span = r"[^\s][^\t\n]*"
        if self.grounded and (mentions := mentions_of(query.words or (), "\t\n")):
            span = f"(?:{mentions})"
        spans = rf"(?:None|{span}(?:\t{span})*)"
        return Grammar(rf"{lead}(?:(?:{names}): {spans}\n)*", ("", "\n", " None\n", "None\n"))


def _pairs(found: Iterable[Any]) -> list[tuple[str, str]]:
    halves = [item for item in found if isinstance(item, Relation)]
    pairs = (
        (subject.head, one.tail)
        for one in halves
        for subject in halves
        if one.tail and subject.head and one.type == subject.type and one.tail != subject.head
    )
    return list(dict.fromkeys(pairs))


def _triggers(found: Iterable[Any]) -> list[str]:
    events = (item for item in found if isinstance(item, Event))
    return list(dict.fromkeys(event.trigger for event in events if event.trigger))
