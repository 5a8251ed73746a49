"""The well-formed answers to Hum's questions, for constrained decoding.

Every task but IG, whose answers are any text, in every form of `hum_formats`. In rows that are no
plain JSON object, cells stand in the sentence where its words are known: a text that a form takes
for "nothing" could not be read back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import regex

from unmask.instruct.examples import Answer, Category
from unmask.instruct.hum_answers import PARTS, write
from unmask.instruct.hum_formats import CLASSES, COLUMNS, LABEL_COLUMN, write_rows
from unmask.instruct.json_grammar import STRING, list_of, lists_by_key, object_of
from unmask.instruct.prompts import Query
from unmask.instruct.span_grammar import mentions_of
from unmask.instruct.system import Grammar

BAR = r" \| "
BARRED = "|\\\n"
"""What cells of lines and tables would have to escape."""
QUOTED = '"\\\n'
"""What strings would have to escape."""
ANY_CELL = r"[^|\\\s](?:[^|\\\n]*[^|\\\s])?"

VALUE = f"(?:{STRING}|{list_of(STRING)})"
"""Of a role or an attribute: one text or several."""


def grammar_of(query: Query) -> Grammar | None:
    """The well-formed answers in the form that is asked for; None for IG."""
    if query.task in COLUMNS:
        style, _, empty = query.about.partition(" ")
        return _rows(query, style, empty)
    if query.task in ("TC", "MRC") and query.labels:
        return _choice(query)
    return {
        "MRC": lambda: Grammar(object_of([('"answer"', STRING)]), _suffixes('{"answer": "NAN"}')),
        "OpenIE": _statements,
        "KGE": lambda: _graph(query),
        "EE": lambda: _events(query),
        "EEA": lambda: _events(query),
    }.get(query.task, lambda: None)()


def _choice(query: Query) -> Grammar:
    kind = Category if query.task == "TC" else Answer
    written = [write(query.task, (kind(label),), query.labels, {}) for label in query.labels]
    # An answer that was cut off goes on as the shortest one that begins so.
    return Grammar(_any_of(written), _suffixes(*written))


def _rows(query: Query, style: str, empty: str) -> Grammar:
    task, labels = query.task, query.labels
    if style == "json":
        rest = [name for at, name in enumerate(COLUMNS[task]) if at != LABEL_COLUMN[task]]
        element = object_of([(_json(name), STRING) for name in rest]) if len(rest) > 1 else STRING
        nothing = {"[]": "[]", "NAN": '"NAN"', '""': '""'}.get(empty)
        return lists_by_key([_json(label) for label in labels], element, nothing)
    if style in ("lines", "markdown"):
        return _table(query, style, empty)
    names = [_json(label) for label in labels]
    mentions = mentions_of(query.words or (), QUOTED)
    write_row = _object if style == "json-list" else _call
    row = write_row(task, names, f'"(?:{mentions})"' if mentions else STRING)
    if empty != "omit":
        row = f"(?:{row}|{write_row(task, names, regex.escape(_json(empty)))})"
    if style == "json-list":
        return Grammar(list_of(f"(?:{row})"), _suffixes('"}]', "[]"))
    return Grammar(rf"\[(?:\n(?:    {row},\n)+)?\]", _suffixes('"),\n]', "[]"))


def _object(task: str, labels: Sequence[str], cell: str) -> str:
    return object_of([(_json(name), text) for name, text in _cells(task, labels, cell)])


def _call(task: str, labels: Sequence[str], cell: str) -> str:
    words = ", ".join(f"{name}={text}" for name, text in _cells(task, labels, cell))
    return rf"{CLASSES[task]}\({words}\)"


def _cells(task: str, labels: Sequence[str], cell: str) -> Iterable[tuple[str, str]]:
    """The columns in order, each with the pattern of its cells."""
    for at, name in enumerate(COLUMNS[task]):
        yield name, _any_of(labels) if at == LABEL_COLUMN[task] else cell


def _table(query: Query, style: str, empty: str) -> Grammar:
    """Lines by label, or rows below a header."""
    task = query.task
    cell = f"(?:{mentions_of(query.words or (), BARRED) or ANY_CELL})"
    fillings = [cell] if empty == "omit" else [cell, regex.escape(empty)]
    rows = (_row(task, style, _any_of(query.labels), filling) for filling in fillings)
    row = f"(?P<row>{'|'.join(rows)})"
    if style == "markdown":
        head = write_rows(task, (), (), style, "omit")
        return Grammar(rf"{regex.escape(head)}(?:\n{row})*", _suffixes(head, " |"))
    some = rf"{row}(?:\n(?&row))*"
    first = write_rows(task, (), query.labels[:1], style, empty)
    return Grammar(f"(?:{some})?" if empty == "omit" else some, _suffixes(first))


def _row(task: str, style: str, labels: str, cell: str) -> str:
    cells = [text for _, text in _cells(task, (), cell)]
    cells[LABEL_COLUMN[task]] = labels
    if style == "markdown":
        return rf"\| {BAR.join(cells)} \|"
    label = cells.pop(LABEL_COLUMN[task])
    return f"{label}: {BAR.join(cells)}"


def _statements() -> Grammar:
    part = rf"{STRING}:\[(?:{'|'.join(PARTS)})\]"
    statement = rf"\({part}(?:, {part})*\)"
    return Grammar(rf"(?:{statement}(?:\n{statement})*)?", ("", ")"))


def _graph(query: Query) -> Grammar:
    """Entities by type, each with its attributes."""
    attributes = _object_of_any(STRING, VALUE)
    entities = _object_of_any(STRING, attributes)
    pattern = _object_of_any(_any_of([_json(label) for label in query.labels]), entities)
    return Grammar(pattern, ("", "}", "{}", "}}", "}}}", '"}}}', "]}}}", '"]}}}'))


def _events(query: Query) -> Grammar:
    """Lists of events by type; what has no event is [] in EE and {} in EEA."""
    arguments = _object_of_any(_any_of([_json(role) for role in query.roles]), VALUE)
    event = object_of([('"trigger"', STRING), ('"arguments"', arguments)])
    keys = [_json(label) for label in query.labels]
    if query.task == "EE":
        return lists_by_key(keys, event)
    return lists_by_key(keys, arguments, "{}")


def _object_of_any(key: str, value: str) -> str:
    """The pattern of an object with any number of such keys."""
    return rf"\{{(?:{key}: {value}(?:, {key}: {value})*)?\}}"


def _any_of(texts: Sequence[str]) -> str:
    return f"(?:{'|'.join(map(regex.escape, texts))})"


def _suffixes(*texts: str) -> tuple[str, ...]:
    ends = {text[start:] for text in texts for start in range(len(text) + 1)}
    return tuple(sorted(ends, key=lambda end: (len(end), end)))


def _json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
