"""Records of JSON: `{"tokens", "ner_tags"}` or `{"text", "spans"}`, one a line or in one array.

The one thing that is easy to get wrong: integer tags mean nothing without their names. They are
looked for in a file beside the data (`labels.json`, `label.json`, `labels.txt`) and never made up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unmask.data.sentence import Span
from unmask.data.source import (
    RawSentence,
    Reading,
    ReadOptions,
    Source,
    finish_reading,
    read_lines,
    read_text,
)
from unmask.data.tags import tags_from_spans
from unmask.data.words import split_words

WORD_KEYS = ("tokens", "words")
TAG_KEYS = ("ner_tags", "tags", "labels", "chunk_tags")
NAME_FILES = ("labels.json", "label.json", "labels.txt")


def read_jsonl(path: Path, options: ReadOptions) -> Reading:
    """Sentences of a file with one JSON record a line.

    Raises:
        ValueError: naming the line, for what is not JSON, not a known record, or not consistent.
    """
    return _read_records(iter_json_lines(path), path, "JSON lines", options)


def read_json_array(path: Path, options: ReadOptions) -> Reading:
    """Sentences of a file that is one JSON array of records.

    Raises:
        ValueError: naming the line, for what is not JSON, not a known record, or not consistent.
    """
    return _read_records(iter_json_array(path), path, "a JSON array", options)


def iter_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each line that is not empty."""
    for number, line in read_lines(path):
        text = line.strip()
        if not text:
            continue
        try:
            value, end = _decode(text, 0, path, number)
        except ValueError as error:
            raise ValueError(
                f"{error}; each line must be one object, or the file one array"
            ) from None
        if end != len(text):
            raise ValueError(f"{path}:{number}: more than one JSON value; put each on its own line")
        yield number, _object(value, path, number)


def iter_json_array(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number where it begins, object) of each element of a JSON array."""
    text = read_text(path)
    position, line = _skip(text, 0, 1)
    if text[position : position + 1] != "[":
        raise ValueError(f"{path}:{line}: expected a JSON array, which begins with '['")
    position, line = _skip(text, position + 1, line)
    while text[position : position + 1] != "]":
        value, end = _decode(text, position, path, line)
        yield line, _object(value, path, line)
        line += text.count("\n", position, end)
        position, line = _skip(text, end, line)
        separator = text[position : position + 1]
        if separator not in (",", "]"):
            raise ValueError(f"{path}:{line}: expected ',' or ']' after an element of the array")
        if separator == ",":
            position, line = _skip(text, position + 1, line)
    position, line = _skip(text, position + 1, line)
    if position != len(text):
        raise ValueError(f"{path}:{line}: more text after the end of the JSON array")


def record_sentence(
    record: dict[str, Any],
    place: str,
    line: int,
    options: ReadOptions,
) -> RawSentence | None:
    """The sentence in one record, None if it has no words. `place` is named in errors.

    Raises:
        ValueError: for a record of another shape, or one that contradicts itself.
    """
    if any(key in record for key in WORD_KEYS):
        words, tags = _tagged_words(record, place, options)
    elif "text" in record and "spans" in record:
        words, tags = _annotated_text(record["text"], record["spans"], place)
    else:
        raise ValueError(
            f'{place}: a record needs "tokens" and "ner_tags", or "text" and "spans"; this one '
            f"has {sorted(record)}"
        )
    return RawSentence(words, tags, (line,) * len(words)) if words else None


def tag_key(keys: Iterable[str], column: int | str | None) -> str | None:
    """Which of a record's keys holds the tags: the column asked for, else the first of TAG_KEYS.

    >>> tag_key(["tokens", "chunk_tags", "ner_tags"], "chunk")
    'chunk_tags'
    """
    present = set(keys)
    wanted = TAG_KEYS if column is None else (str(column), f"{column}_tags", "tags", "labels")
    return next((key for key in wanted if key in present), None)


def _read_records(
    records: Iterable[tuple[int, dict[str, Any]]],
    path: Path,
    format_name: str,
    options: ReadOptions,
) -> Reading:
    options = ReadOptions(
        options.column, options.repair, options.tag_names or _names_beside(path.parent)
    )
    raws: list[RawSentence] = []
    num_empty = 0
    for line, record in records:
        raw = record_sentence(record, f"{path}:{line}", line, options)
        if raw is None:
            num_empty += 1
        else:
            raws.append(raw)
    notes = [f"left out {num_empty} records without words"] if num_empty else []
    return finish_reading(raws, Source.of(path), format_name, options, notes)


def _tagged_words(
    record: dict[str, Any], place: str, options: ReadOptions
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    words = next(record[key] for key in WORD_KEYS if key in record)
    key = tag_key(record, options.column)
    if key is None:
        wanted = " or ".join(TAG_KEYS) if options.column is None else repr(options.column)
        raise ValueError(f"{place}: no column of tags ({wanted}) among {sorted(record)}")
    tags = record[key]
    if not _is_list_of(words, str):
        raise ValueError(f"{place}: the words are not a list of strings")
    if not isinstance(tags, list | tuple) or len(tags) != len(words):
        size = f"{len(tags)} tags" if isinstance(tags, list | tuple) else "no list of tags"
        raise ValueError(f"{place}: {len(words)} words but {size} in {key!r}; give one tag a word")
    if _is_list_of(tags, int):
        return tuple(words), tuple(_named(tag, place, options.tag_names) for tag in tags)
    if not _is_list_of(tags, str):
        raise ValueError(f"{place}: the tags in {key!r} are neither all strings nor all integers")
    return tuple(words), tuple(tags)


def _named(tag: int, place: str, names: tuple[str, ...] | None) -> str:
    if names is None:
        raise ValueError(
            f"{place}: tag {tag} is a number without a name; write the tags as strings, or their "
            f"names in number order into a file {NAME_FILES[0]} beside the data"
        )
    if not 0 <= tag < len(names):
        raise ValueError(f"{place}: tag {tag} is outside the {len(names)} known tag names")
    return names[tag]


def _annotated_text(text: Any, spans: Any, place: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(text, str) or not isinstance(spans, list):
        raise ValueError(f'{place}: "text" must be a string and "spans" a list')
    offsets = split_words(text)
    starts = {start: word for word, (start, _) in enumerate(offsets)}
    ends = {end: word + 1 for word, (_, end) in enumerate(offsets)}
    found: list[Span] = []
    for span in spans:
        start, end, label = _span_fields(span, place)
        if start not in starts or end not in ends or starts[start] >= ends[end]:
            raise ValueError(
                f"{place}: span {text[max(start, 0) : max(end, 0)]!r} at characters {start} to "
                f"{end} does not begin and end where words do; move its ends to whole words"
            )
        found.append(Span(starts[start], ends[end], label))
    try:
        tags = tags_from_spans(found, len(offsets))
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    return tuple(text[start:end] for start, end in offsets), tags


def _span_fields(span: Any, place: str) -> tuple[int, int, str]:
    fields = [span.get(key) for key in ("start", "end", "label")] if isinstance(span, dict) else []
    match fields:
        case [int(start), int(end), str(label)] if (
            label.strip() and not isinstance(start, bool) and not isinstance(end, bool)
        ):
            return start, end, label
    raise ValueError(
        f'{place}: a span needs whole numbers "start" and "end" and a "label", got {span!r:.80}'
    )


def _names_beside(folder: Path) -> tuple[str, ...] | None:
    path = next((folder / name for name in NAME_FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    text = read_text(path)
    if path.suffix == ".txt":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    value = _decode(text, _skip(text, 0, 1)[0], path, 1)[0]
    names = _in_number_order(value) if isinstance(value, dict) else value
    if names is None or not _is_list_of(names, str):
        raise ValueError(
            f"{path}: expected a list of tag names in number order, or an object that maps names "
            "to 0, 1, 2 and so on"
        )
    return tuple(names)


def _in_number_order(numbered: dict[str, Any]) -> list[str] | None:
    """Names of {name: number} or {number: name}, if the numbers are 0, 1, 2 and so on."""
    if all(isinstance(name, str) for name in numbered.values()):
        numbered = {name: int(key) if key.isdecimal() else -1 for key, name in numbered.items()}
    names = {number: name for name, number in numbered.items() if isinstance(number, int)}
    if sorted(names) != list(range(len(numbered))):
        return None
    return [names[number] for number in sorted(names)]


def _is_list_of(value: Any, kind: type) -> bool:
    return (
        isinstance(value, Sequence)
        and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
        and not isinstance(value, str)
    )


def _object(value: Any, path: Path, line: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}:{line}: expected a JSON object, got {value!r:.60}")
    return value


def _decode(text: str, position: int, path: Path, line: int) -> tuple[Any, int]:
    """The JSON value at `position`, which stands on `line`, and where it ends."""
    try:
        return json.JSONDecoder().raw_decode(text, position)
    except json.JSONDecodeError as error:
        line += text.count("\n", position, error.pos)
        raise ValueError(f"{path}:{line}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}:{line}: not valid JSON: {error}") from None


def _skip(text: str, position: int, line: int) -> tuple[int, int]:
    """The first position that is no white space, and its line."""
    start = position
    while text[position : position + 1] in (" ", "\t", "\n", "\r"):
        position += 1
    return position, line + text.count("\n", start, position)
