"""Column files: one word a line, an empty line after each sentence.

Reads the files of the CoNLL shared tasks and what descends from them, and the `.iob2` files of
Universal NER. The one thing that is easy to get wrong: "#" begins a comment in some files and
is a word (a hashtag, a number sign) in others. A line counts as a comment only if it does not
have the columns of a row, tag included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unmask.data.source import (
    RawSentence,
    Reading,
    ReadOptions,
    Source,
    finish_reading,
    read_lines,
)

COLUMN_NAMES = ("word", "pos", "chunk", "ner")

_DOCUMENT_START = "-DOCSTART-"
_TAG = re.compile(r"O|[BIESLU]-\S+")
_SPACES = re.compile(r"[ \t]+")
_UNER_COLUMNS = ("word id", "word", "tag", "-", "annotator")


def read_conll(path: Path, options: ReadOptions) -> Reading:
    """Sentences of a column file; words are in the first column.

    Columns are separated by TABs if the first row has one, else by spaces. The tags are in the
    last column unless `options.column` says otherwise: an index (negative from the right), or
    "ner" (the last of four or more, or the only tags), "chunk" (the one before it, or the last
    of three), "pos". -DOCSTART- lines are left out and counted.

    Raises:
        ValueError: for a row with another number of columns than the first, or a missing column.
    """
    source = Source.of(path)
    table = _Table(source)
    raws = list(table.sentences(path, options.column))
    separator = "TABs" if table.by_tabs else "spaces"
    notes = []
    if table.num_document_starts:
        notes.append(f"left out {table.num_document_starts} {_DOCUMENT_START} lines")
    if table.num_comments:
        notes.append(f"left out {table.num_comments} comment lines")
    name = f"CoNLL columns separated by {separator}"
    return finish_reading(raws, source, name, options, notes)


def read_iob2(path: Path, options: ReadOptions) -> Reading:
    """Sentences of a Universal NER file: id, word, tag, "-" and annotator, separated by TABs.

    Rows whose id is no whole number (the range "1-2" of a contraction, the empty word "3.1")
    are left out and counted: the words they stand for have rows of their own.

    Raises:
        ValueError: for a row that does not have these five columns.
    """
    source = Source.of(path)
    raws: list[RawSentence] = []
    rows: list[tuple[int, str, str]] = []
    num_left_out = 0
    for number, line in [*read_lines(path), (0, "")]:
        cells = _tabbed(line)
        if not line.strip():
            if rows:
                raws.append(_raw_sentence(rows))
            rows = []
        elif line.startswith("#"):
            continue
        elif len(cells) != len(_UNER_COLUMNS):
            raise ValueError(
                f"{path}:{number}: {len(cells)} columns separated by TABs, expected "
                f"{len(_UNER_COLUMNS)} ({', '.join(_UNER_COLUMNS)})"
            )
        elif cells[0].isdecimal():
            rows.append((number, cells[1], cells[2]))
        else:
            num_left_out += 1
    notes = [f"left out {num_left_out} ranges and empty words"] if num_left_out else []
    return finish_reading(raws, source, "Universal NER", options, notes)


@dataclass
class _Table:
    """Reading state of a column file: its layout, fixed by its first row, and what it left out."""

    source: Source
    by_tabs: bool = False
    num_columns: int = 0
    num_document_starts: int = 0
    num_comments: int = 0
    rows: list[tuple[int, str, str]] = field(default_factory=list)

    def sentences(self, path: Path, column: int | str | None) -> Iterator[RawSentence]:
        tag_column = 0
        for number, line in read_lines(path):
            if not line.strip(" \t"):
                yield from self._close()
            elif line.startswith(_DOCUMENT_START):
                self.num_document_starts += 1
                yield from self._close()
            elif self._is_comment(line):
                self.num_comments += 1
            else:
                if not self.num_columns:
                    self._take_layout(line)
                    tag_column = self._find_column(number, column)
                cells = self._cells(line)
                if len(cells) != self.num_columns:
                    raise ValueError(self._ragged(number, cells))
                self.rows.append((number, cells[0], cells[tag_column]))
        yield from self._close()

    def _close(self) -> Iterator[RawSentence]:
        if self.rows:
            yield _raw_sentence(self.rows)
        self.rows = []

    def _take_layout(self, line: str) -> None:
        self.by_tabs = "\t" in line.strip(" \t")
        self.num_columns = len(self._cells(line))

    def _cells(self, line: str) -> list[str]:
        return _tabbed(line) if self.by_tabs else _SPACES.split(line.strip(" \t"))

    def _is_comment(self, line: str) -> bool:
        if not line.startswith("#"):
            return False
        cells = _tabbed(line) if "\t" in line else _SPACES.split(line.strip(" "))
        has_row_shape = len(cells) > 1 and self.num_columns in (0, len(cells))
        has_tag = (self.num_columns and self.by_tabs) or _TAG.fullmatch(cells[-1])
        return not (has_row_shape and has_tag)

    def _find_column(self, number: int, column: int | str | None) -> int:
        if self.num_columns < 2:
            raise ValueError(
                f"{self.source.path}:{number}: one column only; expected a word and its tag, "
                "separated by a TAB or a space"
            )
        try:
            return column_index(column, self.num_columns)
        except ValueError as error:
            raise ValueError(f"{self.source.path}:{number}: {error}") from None

    def _ragged(self, number: int, cells: list[str]) -> str:
        separator = "TABs" if self.by_tabs else "spaces"
        return (
            f"{self.source.path}:{number}: {len(cells)} columns separated by {separator}, "
            f"expected {self.num_columns} as in the first row: {cells}"
        )


def column_index(column: int | str | None, num_columns: int) -> int:
    """Which column holds the tags, counted from 0.

    Four columns are word, pos, chunk, ner; three are word, pos and the tags; more than four
    have their extra ones after the word.

    Raises:
        ValueError: for a name that is not in COLUMN_NAMES or a column that is not there.

    >>> [column_index(name, 4) for name in ("pos", "chunk", "ner", None)]
    [1, 2, 3, 3]
    """
    places: dict[str | None, int] = {None: -1, "ner": -1, "word": 0}
    if num_columns >= 3:
        places["chunk"] = -2 if num_columns >= 4 else -1
        places["pos"] = -3 if num_columns >= 4 else -2
    text = str(column)
    if column is None or text in COLUMN_NAMES:
        index = places.get(column if column is None else text)
    elif re.fullmatch(r"-?\d{1,4}", text):
        index = int(text)
    else:
        raise ValueError(
            f"unknown column {column!r}; give an index from 0 or one of {', '.join(COLUMN_NAMES)}"
        )
    if index is None or not -num_columns <= index < num_columns:
        raise ValueError(
            f"there is no column {column!r} among {num_columns}; give an index between 0 and "
            f"{num_columns - 1}"
        )
    return index % num_columns


def _tabbed(line: str) -> list[str]:
    """Cells between TABs, without the spaces at their ends: "B-ORG " would be another label."""
    return [cell.strip(" ") for cell in line.split("\t")]


def _raw_sentence(rows: list[tuple[int, str, str]]) -> RawSentence:
    lines, words, tags = zip(*rows, strict=True)
    return RawSentence(words, tags, lines)
