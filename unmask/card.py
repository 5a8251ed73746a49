"""The model card that a saved labeler brings along: README.md, for people and for the hub.

Everything in it is taken from the labeler, its run and its corpus; what is not known is left out.
The mask is written as it was proved when the card was made, not as it was meant.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.backbones import BACKBONES
from unmask.data.catalogue import TASKS
from unmask.data.sentence import SPLITS, Corpus
from unmask.data.tags import spans_from_tags
from unmask.results.run import RunResult

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from unmask.verify import MaskProof

CARD_FILE = "README.md"
OWN_FOLDER = "THIS FOLDER"
"""What the card loads the labeler from, until it has an address."""
NUM_EXAMPLES = 4
NUM_TEXTS = 3
METRICS = ("f1", "precision", "recall")


@dataclass(frozen=True)
class CardFacts:
    """What a labeler does not know of itself.

    `examples` maps a label to the most frequent spans of the training split; `sizes` maps a split
    to its sentences; `texts` are sentences to try the labeler on. `proof` is what a probe of the
    mask just found; None: it is probed for the card.
    """

    result: RunResult | None = None
    corpus: str = ""
    licence: str = "unknown"
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    proof: MaskProof | None = None

    @classmethod
    def of(cls, corpus: Corpus, result: RunResult | None = None) -> CardFacts:
        """The facts of a run on a corpus.

        Sentences are quoted only of corpora that are known to be open.
        """
        sizes = {split: len(corpus.split(split)) for split in SPLITS}
        known = TASKS.get(corpus.name)
        texts = _texts(corpus) if known and known.is_open else ()
        return cls(result, corpus.name, corpus.licence, _examples(corpus), sizes, texts)


def write_card(model: Any, folder: Path, run: int = 0, facts: CardFacts | None = None) -> Path:
    """Write README.md for one run of an `UnmaskedForTokenClassification` into `folder`."""
    from huggingface_hub import ModelCard

    facts = facts or CardFacts()
    sections = [
        _opening(model, run, facts),
        _labels(model.run_labels[run], facts),
        _scores(facts),
        _mask(model, run, facts),
        _data(facts),
        _training(facts),
        _limits(),
    ]
    body = "\n\n".join(section for section in sections if section)
    card = ModelCard(f"---\n{_metadata(model, run, facts).to_yaml()}\n---\n\n{body}\n")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CARD_FILE
    path.write_text(str(card), encoding="utf-8")
    return path


def hub_id_of(load_from: str) -> str | None:
    """The hub id of a backbone, None for one that is on no hub."""
    if load_from in BACKBONES:
        return BACKBONES[load_from].hub_id
    is_hub_id = load_from.count("/") == 1 and not load_from.startswith((".", "/", "~"))
    return load_from if is_hub_id and not Path(load_from).exists() else None


def _metadata(model: Any, run: int, facts: CardFacts) -> Any:
    from huggingface_hub import ModelCardData

    task = TASKS.get(facts.corpus)
    name = _name(model, run)
    widget: dict[str, Any] = {}
    if facts.texts:
        widget["widget"] = [{"text": text} for text in facts.texts]
    return ModelCardData(
        base_model=hub_id_of(model.loaded.load_from),
        datasets=[task.hub_id] if task and task.hub_id else None,
        eval_results=_eval_results(facts) or None,
        language="en" if task else None,  # the known corpora all are; of others nothing is known
        library_name="unmask",
        license=_licence(model),
        metrics=list(METRICS),
        model_name=name,
        pipeline_tag="token-classification",
        tags=["unmask", "token-classification", "peft"],
        **widget,
    )


def _licence(model: Any) -> str | None:
    """That of the backbone, where it is known: adapters are made from its weights."""
    known = BACKBONES.get(model.loaded.load_from)
    return known.licence if known else None


def _eval_results(facts: CardFacts) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    if facts.result is None:
        return []
    return [
        EvalResult(
            task_type="token-classification",
            dataset_type=facts.corpus or facts.result.run.task,
            dataset_name=facts.corpus or facts.result.run.task,
            dataset_split=split,
            metric_type=metric,
            metric_name=f"strict {metric} (seqeval, IOB2)",
            metric_value=scores[metric],
        )
        for split, scores in facts.result.scores.items()
        for metric in METRICS
    ]


def _name(model: Any, run: int) -> str:
    return f"{model.loaded.weights.name}, {_code(model, run)}"


def _code(model: Any, run: int) -> str:
    return "encoder" if model.loaded.is_encoder else f"unmask {model.configs[run].code}"


def _opening(model: Any, run: int, facts: CardFacts) -> str:
    text = facts.texts[0] if facts.texts else "yesterday Velmora was flooded again"
    licence = _licence(model)
    said = f"\n\nLicence: {licence}, as its backbone." if licence else ""
    return (
        f"# {_name(model, run)}\n\n"
        f"A sequence labeler: {model.loaded.weights.name}, frozen, with LoRA adapters and a linear "
        f"head. {_view(model, run)}\n\n"
        "```python\n"
        "from unmask import UnmaskedForTokenClassification\n\n"
        f'model = UnmaskedForTokenClassification.from_pretrained("{OWN_FOLDER}")\n'
        f"model.predict({json.dumps(text, ensure_ascii=False)})\n"
        "```\n\n"
        f"Load it with `unmask`.{_warning(model, run)}" + said
    )


def _view(model: Any, run: int) -> str:
    if model.loaded.is_encoder:
        return "It is an encoder: every layer looks both ways."
    flags = model.configs[run].bidirectional
    if not any(flags):
        return "Its decoder layers all look left only (see the mask below)."
    which = "All" if all(flags) else "Some"
    return f"{which} of its decoder layers look right as well as left (see the mask below)."


def _warning(model: Any, run: int) -> str:
    if model.loaded.is_encoder or not any(model.configs[run].bidirectional):
        return ""
    return " PEFT alone would load the adapters onto a causal model, silently."


def _labels(labels: Sequence[str], facts: CardFacts) -> str:
    rows = [(label, ", ".join(facts.examples.get(label, ()))) for label in labels]
    return "## Labels\n\n" + _table(("label", "examples"), rows)


def _scores(facts: CardFacts) -> str:
    if facts.result is None:
        return ""
    parts = []
    for split, scores in facts.result.scores.items():
        rows = [_score_row("all (micro)", scores)]
        rows += [_score_row(label, one) for label, one in scores["per_label"].items()]
        parts.append(
            f"## Scores on {split}\n\nStrict entity-level scores by seqeval ({scores['scheme']}) "
            f"against the {scores['gold']} gold of {scores['num_sentences']} sentences; "
            f"{scores['num_truncated_words']} words were cut.\n\n"
            + _table(("label", "precision", "recall", "F1", "gold spans"), rows)
        )
    return "\n\n".join(parts)


def _score_row(label: str, scores: dict[str, Any]) -> tuple[str, ...]:
    numbers = (f"{scores[name]:.4f}" for name in ("precision", "recall", "f1"))
    return (label, *numbers, str(scores["support"]))


def _mask(model: Any, run: int, facts: CardFacts) -> str:
    if model.loaded.is_encoder:
        return "## Mask\n\nAn encoder: every layer looks both ways by design."
    proof = facts.proof or model.verify_mask(run)
    verdict = (
        "Every layer was probed when this card was written and does what the configuration says."
        if proof.agrees
        else "**The probe disagrees with the configuration; do not trust this labeler.**"
    )
    return (
        f"## Mask\n\n{verdict} Layers are counted from the input; a layer is probed by changing "
        f"its input at one token and looking which outputs move.\n\n```\n{proof.to_text()}\n```"
    )


def _data(facts: CardFacts) -> str:
    if not facts.corpus:
        return ""
    rows = [(split, str(size)) for split, size in facts.sizes.items()]
    table = _table(("split", "sentences"), rows)
    return f"## Data\n\n{facts.corpus}; licence: {facts.licence}\n\n{table}"


def _training(facts: CardFacts) -> str:
    if facts.result is None:
        return ""
    run = facts.result.run
    rows = [("seed", str(run.seed)), ("data fingerprint", run.data_fingerprint), ("run id", run.id)]
    rows += [(name, str(value)) for name, value in run.recipe.to_dict().items()]
    rows += sorted(facts.result.environment.items())
    rows += [(name, _number(value)) for name, value in sorted(facts.result.timings.items())]
    return "## Training\n\n`unmask reproduce run.json` trains this run again.\n\n" + _table(
        ("setting", "value"), rows
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _limits() -> str:
    return (
        "## Limits\n\nFlat spans that do not overlap. Scores are mean tag probabilities, "
        "calibrated only if `unmask_config.json` has a temperature other than 1. No generation: "
        "an unmasked layer sees what generation has not produced yet."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _examples(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    found: dict[str, Counter[str]] = {label: Counter() for label in corpus.labels}
    for sentence in corpus.train:
        for span in spans_from_tags(sentence.tags):
            found[span.label][" ".join(sentence.words[span.start : span.end])] += 1
    return {
        label: tuple(text for text, _ in counts.most_common(NUM_EXAMPLES))
        for label, counts in found.items()
    }


def _texts(corpus: Corpus) -> tuple[str, ...]:
    """The first training sentences that show a label which those before them do not."""
    found: list[str] = []
    shown: set[str] = set()
    for sentence in corpus.train:
        labels = {span.label for span in spans_from_tags(sentence.tags)}
        if labels - shown:
            found.append(" ".join(sentence.words))
            shown |= labels
        if len(found) == NUM_TEXTS:
            break
    return tuple(found)
