"""BRAT standoff: a folder of pairs, NAME.txt with the text and NAME.ann with the spans.

Each line of a text is a sentence, as BRAT shows it; lines that a span joins are one. The one thing
that is easy to get wrong: offsets count characters of the file as it is, so line ends must not be
normalised before they are applied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from unmask.data.sentence import Sentence, Span
from unmask.data.source import RawSentence, Reading, ReadOptions, Source, finish_reading
from unmask.data.tags import spans_from_tags, tags_from_spans
from unmask.data.words import split_words

_TEXT_BOUND = re.compile(r"(?P<id>T\S+)\t(?P<label>\S+) (?P<offsets>\d+ \d+(?:;\d+ \d+)*)\t.*")


def read_brat(folder: Path, options: ReadOptions) -> Reading:
    """The text-bound annotations of every pair in `folder`; relations and events are left out.

    Raises:
        FileNotFoundError: for an .ann without its .txt.
        ValueError: naming file and line, for a span that is not readable, not contiguous, does
            not begin and end where words do, or overlaps another.
    """
    raws: list[RawSentence] = []
    num_other = num_empty = 0
    annotations = sorted(folder.glob("*.ann"))
    for path in annotations:
        text = _exact_text(path.with_suffix(".txt"))
        spans, others = _read_annotations(path, text)
        num_other += others
        found = list(_sentences(text, spans, path))
        num_empty += not found
        raws.extend(found)
    notes = []
    if num_other:
        notes.append(f"{num_other} annotations that are no spans of text left out")
    if num_empty:
        notes.append(f"{num_empty} documents without words left out")
    unlabelled = len({p.stem for p in folder.glob("*.txt")} - {p.stem for p in annotations})
    if unlabelled:
        notes.append(f"{unlabelled} texts without an .ann file left out")
    return finish_reading(raws, Source.of(folder), "BRAT standoff", options, notes)


def is_brat(folder: Path) -> bool:
    """Does this folder hold .ann files?"""
    return folder.is_dir() and any(folder.glob("*.ann"))


def write_brat(sentences: Iterable[Sentence], folder: Path, name: str = "document") -> list[Path]:
    """Write NAME.txt, one sentence a line with single spaces between words, and NAME.ann.

    Raises:
        ValueError: for a word with white space inside, which would come back as two.
    """
    lines, annotations, position = [], [], 0
    for sentence in sentences:
        odd = next((word for word in sentence.words if len(word.split()) != 1), None)
        if odd is not None:
            raise ValueError(f"sentence {sentence.id}: the word {odd!r} has white space inside")
        starts = _starts(sentence.words, position)
        for span in spans_from_tags(sentence.tags):
            start, last = starts[span.start], span.end - 1
            text = " ".join(sentence.words[span.start : span.end])
            end = starts[last] + len(sentence.words[last])
            number = len(annotations) + 1
            annotations.append(f"T{number}\t{'_'.join(span.label.split())} {start} {end}\t{text}\n")
        lines.append(" ".join(sentence.words) + "\n")
        position += len(lines[-1])
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.txt", folder / f"{name}.ann"]
    for path, parts in zip(paths, (lines, annotations), strict=True):
        path.write_bytes("".join(parts).encode())
    return paths


def _starts(words: Sequence[str], position: int) -> list[int]:
    starts = []
    for word in words:
        starts.append(position)
        position += len(word) + 1
    return starts


def _exact_text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} beside {path.with_suffix('.ann').name}")
    content = path.read_bytes()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8") from None


def _read_annotations(path: Path, text: str) -> tuple[list[tuple[int, int, str, int]], int]:
    """(start, end, label, line) of each span in order, and how many other annotations there are."""
    spans: list[tuple[int, int, str, int]] = []
    num_other = 0
    for number, line in enumerate(_exact_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        if not line.startswith("T"):
            num_other += 1
            continue
        match = _TEXT_BOUND.fullmatch(line.rstrip("\r"))
        if match is None:
            raise ValueError(
                f"{path}:{number}: expected 'T1<TAB>LABEL START END<TAB>TEXT', got {line!r:.60}"
            )
        pieces = [tuple(map(int, piece.split())) for piece in match["offsets"].split(";")]
        start, end = pieces[0][0], pieces[-1][1]
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"{path}:{number}: characters {start} to {end} are not a stretch of the text, "
                f"which has {len(text)}"
            )
        gaps = [text[a:b] for (_, a), (b, _) in pairwise(pieces)]
        if any(gap.strip() for gap in gaps):
            raise ValueError(
                f"{path}:{number}: {match['id']} has words of others inside; only contiguous spans "
                "can be labelled, so mend or remove it"
            )
        spans.append((start, end, match["label"], number))
    return sorted(spans), num_other


def _sentences(
    text: str, spans: Sequence[tuple[int, int, str, int]], path: Path
) -> Iterator[RawSentence]:
    offsets = split_words(text)
    by_start = {start: index for index, (start, _) in enumerate(offsets)}
    by_end = {end: index + 1 for index, (_, end) in enumerate(offsets)}
    found: list[Span] = []
    for start, end, label, line in spans:
        if start not in by_start or end not in by_end:
            raise ValueError(
                f"{path}:{line}: {text[start:end]!r} at characters {start} to {end} does not begin "
                "and end where words do; move its ends to whole words"
            )
        if found and by_start[start] < found[-1].end:
            raise ValueError(
                f"{path}:{line}: {text[start:end]!r} overlaps an earlier span, and one word can "
                "carry one tag; remove one of them"
            )
        found.append(Span(by_start[start], by_end[end], label))
    tags = tags_from_spans(found, len(offsets))
    begin = 0
    for index in range(1, len(offsets) + 1):
        if _ends_here(text, offsets, tags, index):
            words = tuple(text[start:end] for start, end in offsets[begin:index])
            lines = tuple(text.count("\n", 0, start) + 1 for start, _ in offsets[begin:index])
            yield RawSentence(words, tags[begin:index], lines)
            begin = index


def _ends_here(
    text: str, offsets: Sequence[tuple[int, int]], tags: Sequence[str], index: int
) -> bool:
    """Does a sentence end before word `index`? At the end, or at a line break outside spans."""
    if index == len(offsets):
        return True
    breaks = "\n" in text[offsets[index - 1][1] : offsets[index][0]]
    return breaks and not tags[index].startswith("I-")
