"""Predictions in the shapes that other tools read: a format is a name and one function.

    unmask   [{"text", "label", "score", "start", "end"}], as `predict` returns them
    hf       [{"entity_group", "score", "word", "start", "end"}], like transformers' pipeline
    html     a stretch of HTML with the spans marked, drawn by displacy
    spacy    {"text", "ents": [{"start", "end", "label"}], "title"}, what displacy draws
    conll    "word TAG" lines in IOB2, a blank line at the end
    brat     the contents of an .ann file

Offsets count characters of the text; of the words joined by single spaces when words were given.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from unmask.data.sentence import Span
from unmask.data.tags import tags_from_spans
from unmask.data.words import split_words
from unmask.predict import Prediction, Spans

Input = str | Sequence[str]


def convert(name: str, item: Input, spans: list[Prediction]) -> Any:
    """The spans that were predicted for one input, in the named format.

    Raises:
        ValueError: for a format that is not in `FORMATS`.
    """
    check_format(name)
    found = FORMATS[name](item, spans)
    if isinstance(found, list) and isinstance(spans, Spans):
        return Spans(found, spans.num_words_left_out)
    return found


def check_format(name: str) -> None:
    """Raise for a format that is not in `FORMATS`."""
    if name not in FORMATS:
        raise ValueError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")


def _hf(item: Input, spans: list[Prediction]) -> list[dict[str, Any]]:
    return [
        {
            "entity_group": span["label"],
            "score": span["score"],
            "word": span["text"],
            "start": span["start"],
            "end": span["end"],
        }
        for span in spans
    ]


def _spacy(item: Input, spans: list[Prediction]) -> dict[str, Any]:
    ents = [{"start": s["start"], "end": s["end"], "label": s["label"]} for s in spans]
    return {"text": _text(item), "ents": ents, "title": None}


def _html(item: Input, spans: list[Prediction]) -> str:
    from spacy import displacy

    # jupyter=False: what is returned must not depend on where it is called.
    return str(displacy.render(_spacy(item, spans), style="ent", manual=True, jupyter=False))


def _conll(item: Input, spans: list[Prediction]) -> str:
    words, starts = _words(item)
    found = [
        Span(bisect_left(starts, span["start"]), bisect_left(starts, span["end"]), span["label"])
        for span in spans
    ]
    tags = tags_from_spans(found, len(words))
    return "".join(f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"


def _brat(item: Input, spans: list[Prediction]) -> str:
    lines = []
    for number, span in enumerate(spans, start=1):
        text = " ".join(span["text"].split("\n"))
        label = "_".join(span["label"].split())
        lines.append(f"T{number}\t{label} {_fragments(span)}\t{text}\n")
    return "".join(lines)


def _fragments(span: Prediction) -> str:
    """Offsets as brat wants them: a span over a line break is one piece per line."""
    pieces, start = [], span["start"]
    for line in span["text"].split("\n"):
        if line:
            pieces.append(f"{start} {start + len(line)}")
        start += len(line) + 1
    return ";".join(pieces)


def _text(item: Input) -> str:
    return item if isinstance(item, str) else " ".join(item)


def _words(item: Input) -> tuple[list[str], list[int]]:
    """Words and the character at which each begins."""
    if isinstance(item, str):
        offsets = split_words(item)
        return [item[start:end] for start, end in offsets], [start for start, _ in offsets]
    starts, position = [], 0
    for word in item:
        starts.append(position)
        position += len(word) + 1
    return list(item), starts


FORMATS: dict[str, Callable[[Input, list[Prediction]], Any]] = {
    "unmask": lambda item, spans: spans,
    "hf": _hf,
    "html": _html,
    "spacy": _spacy,
    "conll": _conll,
    "brat": _brat,
}
