"""What every reader hands back, and the two steps that all of them share.

A reader turns its format into `RawSentence`s, each word with the line it stands on;
`finish_reading` then finds the tag scheme of the whole file, converts to IOB2 and says what it
did. The one thing that is easy to get wrong: lines end at line feeds only. `str.splitlines` also
breaks at characters such as U+2028 and U+0085, which occur inside words of web text.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.sentence import Sentence
from unmask.data.tags import TagError, detect_scheme, invalid_positions, repair, to_iob2


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a caller may ask of a reader.

    `column` picks the tags: an index or one of word, pos, chunk, ner in column files, a key in
    JSON and tables; None takes the reader's default. `repair` makes entities of stray tags.
    `tag_names` are the names behind integer tags when the data does not carry them.
    """

    column: int | str | None = None
    repair: bool = False
    tag_names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RawSentence:
    """Words and tags as the file has them; `lines` holds one line number per word, from 1."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """The sentences of one file, tags in IOB2, and in words what the reader found and changed."""

    sentences: tuple[Sentence, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A file or table: `path` is written in errors, `name` in sentence ids and notes."""

    path: str
    name: str

    @classmethod
    def of(cls, path: Path) -> Source:
        """The source for a file: errors give its path, ids only its name."""
        return cls(str(path), path.name)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 file, with or without a BOM."""
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    yield from enumerate(text.split("\n"), start=1)


def read_text(path: Path) -> str:
    """The whole file as text, without a byte order mark.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not UTF-8, naming the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        likely = "UTF-16" if is_wide else "ISO-8859-1"
        raise ValueError(
            f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8; convert the file, for "
            f"example with iconv -f {likely} -t UTF-8"
        ) from None


def finish_reading(
    raws: Iterable[RawSentence],
    source: Source,
    format_name: str,
    options: ReadOptions,
    notes: Sequence[str] = (),
) -> Reading:
    """Raw sentences as IOB2 sentences whose ids are `name:line`.

    Raises:
        ValueError: for a tag that cannot be read or text that is not valid Unicode, with its
            line; for a source without any sentence.
    """
    raws = list(raws)
    if not raws:
        raise ValueError(f"{source.path}: no sentences found when read as {format_name}")
    _check_unicode(raws, source)
    try:
        scheme = detect_scheme(raw.tags for raw in raws)
    except TagError as error:
        line = raws[error.sequence].lines[error.position]
        raise ValueError(f"{source.path}:{line}: {error}") from None
    sentences: list[Sentence] = []
    stray: list[str] = []
    for raw in raws:
        place = f"{source.name}:{raw.lines[0]}"
        tags, stray_lines = _converted(raw, scheme, source, options)
        stray.extend(f"{source.name}:{line}" for line in stray_lines)
        sentences.append(Sentence(place, raw.words, tags))
    said = f"{source.name}: {len(sentences)} sentences read as {format_name}, tags {scheme}"
    if scheme != "IOB2":
        said += " converted to IOB2"
    said_notes = [said, *(f"{source.name}: {note}" for note in notes)]
    if stray:
        said_notes.append(f"{source.name}: {_stray_note(stray, options.repair)}")
    return Reading(tuple(sentences), tuple(said_notes))


def _converted(
    raw: RawSentence, scheme: str, source: Source, options: ReadOptions
) -> tuple[tuple[str, ...], list[int]]:
    stray = [raw.lines[position] for position in invalid_positions(raw.tags, scheme)]
    if options.repair:
        return repair(raw.tags, scheme)[0], stray
    try:
        return to_iob2(raw.tags, scheme), stray
    except TagError as error:
        raise ValueError(
            f"{source.path}:{raw.lines[error.position]}: {error}; mend the file or ask for repair"
        ) from None


def _stray_note(places: Sequence[str], repaired: bool) -> str:
    first = f"{len(places)} stray tags, the first at {places[0]}"
    if repaired:
        return f"{first}, were repaired into entities, as asked"
    return f"{first}; strict reading makes no entity of them (ask for repair to change that)"


def _check_unicode(raws: Iterable[RawSentence], source: Source) -> None:
    for raw in raws:
        for line, *texts in zip(raw.lines, raw.words, raw.tags, strict=True):
            for text in texts:
                if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
                    raise ValueError(
                        f"{source.path}:{line}: {text!r} holds half a surrogate pair, which is no "
                        "character; mend the escape in the file"
                    )
