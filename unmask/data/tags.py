"""Tag sequences and spans: IOB1, IOB2, BIOES (or BILOU) and IO, there and back.

Everything inside the package is IOB2 under the strict reading: an I-X that no B-X or I-X of the
same label precedes belongs to no entity. The one thing that is easy to get wrong: `I-PER I-LOC`
is broken IOB2 but sound IOB1, where it is two entities. So the scheme is found once for a whole
file (`detect_scheme`), never a sentence at a time, and nothing is repaired unless asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from unmask.data.sentence import Span

SCHEMES = ("IOB1", "IOB2", "BIOES", "IO")

_PREFIXES = "BIESLU"
_UNLABELLED = frozenset(f"{prefix}-" for prefix in _PREFIXES)
_BILOU_LETTERS = {"L": "E", "U": "S"}


class TagError(ValueError):
    """A tag that cannot be read, with the place it stands at.

    `sequence` counts the sequences given to `detect_scheme` (0 elsewhere), `position` the tags
    in that sequence; both from 0.
    """

    def __init__(self, message: str, position: int, sequence: int = 0) -> None:
        super().__init__(message)
        self.position = position
        self.sequence = sequence


def split_tag(tag: str) -> tuple[str, str]:
    """A tag as (prefix, label); "O" is ("O", ""), a bare label counts as inside.

    BILOU letters come back as their BIOES equals, L as E and U as S.

    >>> split_tag("L-creative-work")
    ('E', 'creative-work')
    >>> split_tag("person")
    ('I', 'person')
    """
    if tag == "O":
        return "O", ""
    if len(tag) > 2 and tag[1] == "-" and tag[0] in _PREFIXES:
        return _BILOU_LETTERS.get(tag[0], tag[0]), tag[2:]
    return "I", tag


def detect_scheme(sequences: Iterable[Sequence[str]]) -> str:
    """The scheme that all sequences of a file are written in: one of SCHEMES.

    E, S, L or U anywhere mean BIOES. Otherwise a B- that does not directly follow its own label
    means IOB2, and entities that begin with I- mean IOB1, or IO when there is no B- at all (the
    two read alike then). Bare labels ("person") are IO. A file with no entity is IOB2.

    Raises:
        TagError: for a tag that no scheme allows, for a label that begins or ends with a hyphen or
            white space, and for a mixture of bare and prefixed tags.
    """
    letters: set[str] = set()
    begins_freely = False
    bare: TagError | None = None
    for number, tags in enumerate(sequences):
        previous_label = ""
        for position, tag in enumerate(tags):
            prefix, label = split_tag(tag)
            if prefix != "O" and (not label.strip() or tag in _UNLABELLED):
                raise TagError(_malformed(tag), position, number)
            # Others would train, and fail when scored: seqeval takes "-X" and "X" for one label.
            if label != label.strip().strip("-"):
                raise TagError(
                    f"the label {label!r} of tag {tag!r} begins or ends with a hyphen or a space; "
                    "rename it",
                    position,
                    number,
                )
            if prefix != "O" and label == tag:
                bare = bare or TagError(_malformed(tag), position, number)
                prefix = "bare"
            begins_freely |= prefix == "B" and label != previous_label
            previous_label = label
            letters.add(prefix)
    if bare is not None and (letters & {"B", "I", "E", "S"} or "O" not in letters):
        raise bare
    if letters & {"E", "S"}:
        return "BIOES"
    if not letters & {"B", "I", "bare"} or begins_freely:
        return "IOB2"
    return "IOB1" if "B" in letters else "IO"


def spans_from_tags(tags: Sequence[str], scheme: str = "IOB2") -> tuple[Span, ...]:
    """The entities in `tags`, in order, under the strict reading of `scheme`.

    IOB2 counts B-X and the I-X that follow it without a gap; BIOES counts whole B I* E runs and
    S; IOB1 and IO begin an entity at each change of label, and IOB1 at each B- as well.

    >>> spans_from_tags(["I-PER", "I-LOC"], "IOB1")
    (Span(start=0, end=1, label='PER'), Span(start=1, end=2, label='LOC'))
    >>> spans_from_tags(["I-PER", "I-LOC"], "IOB2")
    ()
    """
    _check_scheme(scheme)
    if scheme == "BIOES":
        return _bioes_spans(tags)
    spans: list[Span] = []
    start, open_label = 0, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, label = split_tag(tag)
        begins = prefix == "B" and scheme != "IO"
        if open_label and (begins or label != open_label):
            spans.append(Span(start, position, open_label))
            open_label = ""
        if begins or (label and not open_label and scheme != "IOB2"):
            start, open_label = position, label
    return tuple(spans)


def tags_from_spans(spans: Iterable[Span], num_words: int, scheme: str = "IOB2") -> tuple[str, ...]:
    """One tag per word, in `scheme`.

    IO cannot tell two neighbours of one label apart: they come back as one.

    Raises:
        ValueError: for spans that overlap, are empty, or leave 0 .. num_words.

    >>> tags_from_spans([Span(1, 3, "LOC")], 4)
    ('O', 'B-LOC', 'I-LOC', 'O')
    """
    _check_scheme(scheme)
    tags = ["O"] * num_words
    previous = Span(0, 0, "")
    for span in sorted(spans):
        if not 0 <= span.start < span.end <= num_words:
            raise ValueError(
                f"span {span.label!r} covers words {span.start} to {span.end}, which is not a "
                f"stretch of this sentence of {num_words} words; ends are exclusive"
            )
        if span.start < previous.end:
            raise ValueError(
                f"spans overlap: {previous.label!r} at words {previous.start} to {previous.end} "
                f"and {span.label!r} at {span.start} to {span.end}; one word can carry one tag"
            )
        touches = span.start == previous.end and span.label == previous.label
        tags[span.start : span.end] = _written(span, scheme, touches)
        previous = span
    return tuple(tags)


def to_iob2(tags: Sequence[str], scheme: str) -> tuple[str, ...]:
    """The same entities in IOB2. Tags that are IOB2 already come back unchanged, broken or not.

    Raises:
        TagError: for BIOES in which a run is not closed or not opened; IOB2 could not show that.
    """
    _check_scheme(scheme)
    if scheme == "IOB2":
        return tuple(tags)
    broken = invalid_positions(tags, scheme)
    if broken:
        raise TagError(
            f"tag {tags[broken[0]]!r} is not part of a whole {scheme} entity (B, any I, then E; "
            "or S alone)",
            broken[0],
        )
    return tags_from_spans(spans_from_tags(tags, scheme), len(tags))


def invalid_positions(tags: Sequence[str], scheme: str = "IOB2") -> tuple[int, ...]:
    """Where `tags` break the rules of `scheme`.

    In IOB2 these are the I-X that follow neither B-X nor I-X; in BIOES every tag outside a whole
    run. IOB1 and IO have a reading for any order of tags, so nothing in them is invalid.

    >>> invalid_positions(["O", "I-PER", "I-PER", "B-LOC", "I-PER"])
    (1, 4)
    """
    _check_scheme(scheme)
    if scheme == "IOB2":
        labels = [split_tag(tag) for tag in ("O", *tags)]
        return tuple(
            position
            for position, ((_, before), (prefix, label)) in enumerate(pairwise(labels))
            if prefix == "I" and label != before
        )
    if scheme == "BIOES":
        inside = {word for span in _bioes_spans(tags) for word in range(span.start, span.end)}
        return tuple(i for i, tag in enumerate(tags) if tag != "O" and i not in inside)
    return ()


def repair(tags: Sequence[str], scheme: str = "IOB2") -> tuple[tuple[str, ...], int]:
    """IOB2 in which each stray tag is kept as (part of) an entity, and how many were stray.

    A run opens where its label begins, closes where it ends; E reads as I and S as B.

    >>> repair(["O", "I-PER", "I-PER"])
    (('O', 'B-PER', 'I-PER'), 1)
    """
    num_invalid = len(invalid_positions(tags, scheme))
    if scheme in ("IOB1", "IO"):
        return to_iob2(tags, scheme), num_invalid
    letters = {"B": "B", "I": "I", "E": "I", "S": "B"}
    mended = [
        "O" if prefix == "O" else f"{letters[prefix]}-{label}"
        for prefix, label in map(split_tag, tags)
    ]
    for position in invalid_positions(mended):
        mended[position] = f"B-{split_tag(mended[position])[1]}"
    return tuple(mended), num_invalid


def tag_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Every IOB2 tag of a label set, "O" first; a tag's index here is its label id.

    >>> tag_names(["PER", "LOC"])
    ('O', 'B-LOC', 'I-LOC', 'B-PER', 'I-PER')
    """
    return ("O", *(f"{prefix}-{label}" for label in sorted(set(labels)) for prefix in "BI"))


def _bioes_spans(tags: Sequence[str]) -> tuple[Span, ...]:
    spans: list[Span] = []
    start, open_label = 0, ""
    for position, (prefix, label) in enumerate(map(split_tag, tags)):
        if prefix == "S":
            spans.append(Span(position, position + 1, label))
        elif prefix == "E" and label == open_label:
            spans.append(Span(start, position + 1, label))
        if prefix == "B":
            start, open_label = position, label
        elif prefix != "I" or label != open_label:
            open_label = ""
    return tuple(spans)


def _written(span: Span, scheme: str, touches_same_label: bool) -> list[str]:
    length = span.end - span.start
    if scheme == "BIOES":
        prefixes = "S" if length == 1 else "B" + "I" * (length - 2) + "E"
    elif scheme == "IOB2" or (scheme == "IOB1" and touches_same_label):
        prefixes = "B" + "I" * (length - 1)
    else:
        prefixes = "I" * length
    return [f"{prefix}-{span.label}" for prefix in prefixes]


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"unknown tag scheme {scheme!r}; choose one of {', '.join(SCHEMES)}")


def _malformed(tag: str) -> str:
    return (
        f"tag {tag!r} is neither 'O' nor a prefix and a label such as 'B-PER'; if this is not "
        "the column of tags, name the right one"
    )
