"""The same rows in five forms: Hum's format variants, each with its own ways to say "nothing".

Rows are what NER, RE, SPO and EET answer: a label and its cells. A form is asked for together
with its empty outcome, and only that one is well-formed: another one is read as nothing too, but
counted as a fault. Cells are escaped where a form needs it, so almost everything reads back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.instruct.parsing import balanced, load_literal
from unmask.instruct.seqgpt_answers import label_key, split_label

STYLES = ("json", "json-list", "lines", "markdown", "code")
EMPTIES = ("[]", "NAN", '""', "omit")

COLUMNS: dict[str, tuple[str, ...]] = {
    "NER": ("entity_type", "entity"),
    "RE": ("subject", "predicate", "object"),
    "SPO": ("subject", "predicate", "object"),
    "EET": ("event_type", "trigger"),
}
LABEL_COLUMN = {"NER": 0, "RE": 1, "SPO": 1, "EET": 0}
CLASSES = {"NER": "Entity", "RE": "Triple", "SPO": "Triple", "EET": "Event"}

Row = tuple[str, ...]
"""A label, then the other cells in the order of the columns."""

_ESCAPES = {"\\": "\\\\", "|": "\\|", "\n": "\\n", "\r": "\\r"}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_CELL = re.compile(r"(?:[^|\\]|\\.)*+", re.DOTALL)
_CALL = re.compile(r"\b(?:Entity|Triple|Event)\(")
_KEYWORD = re.compile(r'\s*(\w{1,20})\s*=\s*("(?:[^"\\]|\\.)*+")\s*,?', re.DOTALL)


def header(task: str, style: str) -> str:
    """What an instruction says about the form of a row.

    >>> header("RE", "markdown"), header("NER", "lines")
    ('| subject | predicate | object |', 'entity_type: entity')
    """
    columns = COLUMNS[task]
    label, rest = _divided(task, columns)
    if style == "markdown":
        return f"| {' | '.join(columns)} |"
    if style == "lines":
        return f"{label}: {' | '.join(rest)}"
    if style == "code":
        return f"{CLASSES[task]}({', '.join(name + '=...' for name in columns)})"
    if style == "json-list":
        return json.dumps(dict.fromkeys(columns, ""))
    return json.dumps({label: [dict.fromkeys(rest, "")] if len(rest) > 1 else [""]})


def write_rows(
    task: str, rows: Sequence[Row], labels: Sequence[str], style: str, empty: str
) -> str:
    r"""Rows as text, by label in the order of `labels`.

    >>> write_rows("NER", [("person", "Bush")], ["person", "place"], "lines", "NAN")
    'person: Bush\nplace: NAN'
    """
    by_label: dict[str, list[Row]] = {label: [] for label in labels}
    for row in rows:
        by_label.setdefault(row[0], []).append(row)
    if style == "json":
        return json.dumps(json_object(task, by_label, empty), ensure_ascii=False)
    blank = () if empty == "omit" else (empty,) * (len(COLUMNS[task]) - 1)
    full: list[tuple[Any, ...]] = []
    for label, found in by_label.items():
        full += found or ([(label, *blank)] if blank else [])
    if style == "lines":
        return "\n".join(f"{row[0]}: {' | '.join(map(_escape, row[1:]))}" for row in full)
    ordered = [_joined(task, row) for row in full]
    if style == "json-list":
        columns = COLUMNS[task]
        records = [dict(zip(columns, row, strict=True)) for row in ordered]
        return json.dumps(records, ensure_ascii=False)
    if style == "markdown":
        lines = [header(task, style), "|" + " --- |" * len(COLUMNS[task])]
        return "\n".join([*lines, *(f"| {' | '.join(map(_escape, row))} |" for row in ordered)])
    calls = "".join(f"    {_call(task, row)},\n" for row in ordered)
    return f"[\n{calls}]" if calls else "[]"


def json_object(task: str, by_label: Mapping[str, Sequence[Row]], empty: str) -> dict[str, Any]:
    """An object from label to strings, or to objects where a row has more than one other cell."""
    nothing: Any = {"[]": [], "NAN": "NAN", '""': ""}.get(empty)
    _, rest = _divided(task, COLUMNS[task])
    return {
        label: [row[1] if len(rest) == 1 else dict(zip(rest, row[1:], strict=True)) for row in rows]
        or nothing
        for label, rows in by_label.items()
        if rows or empty != "omit"
    }


def read_rows(
    task: str, text: str, labels: Sequence[str], style: str, empty: str
) -> tuple[list[Row] | None, list[str]]:
    """Rows of an answer in the form asked for, and what was wrong; None when it is not of it."""
    reader = {
        "json": _read_object,
        "json-list": _read_list,
        "lines": _read_lines,
        "markdown": _read_table,
        "code": _read_code,
    }[style]
    raw = reader(task, text, labels)
    if raw is None:
        return None, [f"not the form asked for ({style}): {text.strip()[:60]}"]
    known, rows, errors = set(labels), [], []
    for row in raw:
        fault = _fault(row, known, empty)
        if fault is None:
            rows.append(row)
        elif fault:
            errors.append(fault)
    if not raw and not text.strip() and empty != "omit":
        return None, ["nothing was written: "]
    return rows, errors


def _fault(row: tuple[Any, ...], known: set[str], empty: str) -> str | None:
    """None for a good row; what is wrong with it, and "" for one that says "nothing"."""
    label, cells = row[0], row[1:]
    if not isinstance(label, str) or label not in known:
        return f"unknown label: {str(label)[:60]}"
    tokens = [_empty_of(cell) for cell in cells]
    if all(tokens):
        if set(tokens) == {empty}:
            return ""
        return f"another way to say nothing than {empty}: {str(cells[0])[:20]}"
    if any(tokens) or not all(isinstance(cell, str) for cell in cells):
        return f"incomplete or of another kind: {str(row)[:60]}"
    return None


def _empty_of(cell: Any) -> str:
    """The empty outcome that a cell is, "" for none."""
    if isinstance(cell, list):
        return "[]" if not cell else ""
    if not isinstance(cell, str):
        return ""
    return {"": '""', '""': '""', "[]": "[]", "NAN": "NAN"}.get(cell, "")


def _divided(task: str, row: Sequence[str]) -> tuple[str, Row]:
    place = LABEL_COLUMN[task]
    return row[place], (*row[:place], *row[place + 1 :])


def _joined(task: str, row: Sequence[Any]) -> tuple[Any, ...]:
    place = LABEL_COLUMN[task]
    return (*row[1 : place + 1], row[0], *row[place + 1 :])


def _escape(cell: str) -> str:
    return "".join(_ESCAPES.get(letter, letter) for letter in cell)


def _unescape(cell: str) -> str:
    return _ESCAPED.sub(lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), cell.strip())


def _cells(line: str) -> list[str]:
    cells, position = [], 0
    while position <= len(line):
        end = _CELL.match(line, position).end()  # type: ignore[union-attr]
        if end < len(line) and line[end] == "\\":  # a backslash that escapes nothing
            end = len(line)
        cells.append(_unescape(line[position:end]))
        position = end + 1
    return cells


def _call(task: str, row: Sequence[str]) -> str:
    pairs = zip(COLUMNS[task], row, strict=True)
    words = (f"{name}={json.dumps(cell, ensure_ascii=False)}" for name, cell in pairs)
    return f"{CLASSES[task]}({', '.join(words)})"


def load_json(text: str, opening: str) -> Any:
    """The value of the first bracket of this kind, whatever stands around it, or None.

    >>> load_json('Yes: {"a": []}', "{")
    {'a': []}
    """
    start = text.find(opening)
    end = balanced(text, start) if start >= 0 else None
    if end is None:
        return None
    found, value = load_literal(text[start:end])
    return value if found else None


def _read_object(task: str, text: str, labels: Sequence[str]) -> list[tuple[Any, ...]] | None:
    value = load_json(text, "{")
    if not isinstance(value, dict):
        return None
    _, rest = _divided(task, COLUMNS[task])
    rows: list[tuple[Any, ...]] = []
    for label, cells in value.items():
        if not isinstance(cells, list) or not cells:
            # A lone string is no list of entities, but may say "nothing" in this answer's way.
            cell = cells if _empty_of(cells) else None
            rows.append((label, *(cell for _ in rest)))
            continue
        for one in cells:
            many = isinstance(one, dict) and len(rest) > 1
            rows.append((label, *(one.get(name) for name in rest)) if many else (label, one))
    return [row if len(row) == len(rest) + 1 else (*row[:1], None) for row in rows]


def _read_list(task: str, text: str, labels: Sequence[str]) -> list[tuple[Any, ...]] | None:
    value = load_json(text, "[")
    if not isinstance(value, list):
        return None
    label, rest = _divided(task, COLUMNS[task])
    return [
        (one.get(label), *(one.get(name) for name in rest))
        if isinstance(one, dict)
        else (one, None)
        for one in value
    ]


def _read_lines(task: str, text: str, labels: Sequence[str]) -> list[tuple[Any, ...]] | None:
    known = {label_key(label): label for label in labels}
    longest = max(map(len, known), default=0)
    rows: list[tuple[Any, ...]] = []
    num_read = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        label, rest = split_label(line.strip(), known, longest)
        num_read += label is not None
        cells = _cells(rest) if label is not None else [line.strip()]
        good = len(cells) == len(COLUMNS[task]) - 1 or _empty_of(cells[0])
        rows.append((label if label is not None else cells[0], *(cells if good else [None])))
    return rows if num_read or not rows else None


def _read_table(task: str, text: str, labels: Sequence[str]) -> list[tuple[Any, ...]] | None:
    rows: list[tuple[Any, ...]] = []
    titles: tuple[str, ...] = ()
    for line in text.split("\n"):
        if not line.strip().startswith("|"):
            continue
        cells = tuple(_cells(line.strip().removeprefix("|")))
        # The bar at the end opens one more cell, which is empty.
        cells = cells[:-1] if len(cells) > 1 and not cells[-1] else cells
        if not titles:
            titles = cells
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            rows.append(_divided_cells(task, cells))
    return rows if titles == COLUMNS[task] else None


def _divided_cells(task: str, cells: Row) -> tuple[Any, ...]:
    if len(cells) != len(COLUMNS[task]):
        return (cells[0] if cells else "", None)
    label, rest = _divided(task, cells)
    return (label, *rest)


def _read_code(task: str, text: str, labels: Sequence[str]) -> list[tuple[Any, ...]] | None:
    label, rest = _divided(task, COLUMNS[task])
    rows: list[tuple[Any, ...]] = []
    position = 0
    while found := _CALL.search(text, position):
        position = found.end()
        words: dict[str, Any] = {}
        while word := _KEYWORD.match(text, position):
            position = word.end()
            read, value = load_literal(word[2])
            words[word[1]] = value if read else None
        rows.append((words.get(label), *(words.get(name) for name in rest)))
    return rows if rows or text.strip() == "[]" else None
