"""InstructUIE's answers read back, whatever a model wrote.

Lists are cut at ";" and pairs at ": " and ", ". Where a cut can fall in several places, the known
labels and then the text decide: a place is right when what it cuts off is a label, or occurs in
the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from unmask.instruct.examples import Argument, Entity, Event, Item, Relation
from unmask.instruct.parsing import Parsed, malformed, parsed
from unmask.instruct.prompts import Query

EMPTY = frozenset({"none", "", "na", "no relation", "[]"})
MAX_CUTS = 16
"""How many places to cut a piece at are tried; real pieces have one or two."""


def parse_answer(output: str, query: Query, role_first: bool = False) -> Parsed:
    """The items of an answer to `query`, by its task."""
    stripped = output.strip()
    if stripped.casefold() in EMPTY:
        return parsed([])
    errors: list[str] = []
    if query.task == "EE":
        items: list[Item] = list(_events(stripped, query, role_first, errors))
    elif query.task == "EEA":
        items = list(_arguments_only(stripped, query, errors))
    elif query.task == "ES":
        items = [Entity(piece, "") for piece in _pieces(stripped, ",")]
    else:
        items = [
            item
            for piece in _pieces(stripped, ";")
            if (item := _typed_piece(piece, query, errors)) is not None
        ]
    if not items:
        return malformed(errors[0] if errors else "nothing readable: " + stripped[:40])
    return parsed(items, errors)


def _typed_piece(piece: str, query: Query, errors: list[str]) -> Item | None:
    if query.task == "EP":
        pair = _pair(piece, query.text)
        if pair is None:
            errors.append("pair without a comma: " + piece[:40])
            return None
        return Relation(pair[0], "", pair[1])
    found = _label_and_rest(piece, query.labels)
    if found is None:
        kind = "no label" if ": " not in piece else "unknown label"
        errors.append(f"{kind}: {piece[:40]}")
        return None
    label, rest = found
    if query.task in ("NER", "ET"):
        return Entity(rest, label)
    if query.task == "EET":
        return Event(label, rest)
    pair = _pair(rest, query.text)
    if pair is None:
        errors.append("pair without a comma: " + piece[:40])
        return None
    return Relation(pair[0], label, pair[1])


def _label_and_rest(piece: str, labels: Sequence[str]) -> tuple[str, str] | None:
    """The longest known label before a ": ", and what follows."""
    known = {label.casefold(): label for label in labels}
    cuts = [cut for cut in _cuts(piece, ": ") if piece[:cut].strip().casefold() in known]
    if not cuts:
        return None
    return known[piece[: cuts[-1]].strip().casefold()], piece[cuts[-1] + 2 :].strip()


def _pair(piece: str, text: str) -> tuple[str, str] | None:
    """Two arguments; of several cuts the one whose sides both occur in the text."""
    cuts = list(_cuts(piece, ", "))
    if not cuts:
        return None
    sides = [(piece[:cut].strip(), piece[cut + 2 :].strip()) for cut in cuts]
    return max(sides, key=lambda pair: (pair[0] in text) + (pair[1] in text))


def _arguments_only(output: str, query: Query, errors: list[str]) -> Iterator[Event]:
    roles = {role.casefold(): role for role in query.roles}
    arguments = []
    for piece in _pieces(output, ";"):
        text, colon, role = piece.rpartition(": ")
        if not colon or role.strip().casefold() not in roles:
            errors.append("unknown role: " + piece[:40])
        else:
            arguments.append(Argument(roles[role.strip().casefold()], text.strip()))
    if arguments:
        yield Event(query.about, None, tuple(arguments))


def _events(output: str, query: Query, role_first: bool, errors: list[str]) -> Iterator[Event]:
    types = {label.casefold(): label for label in query.labels}
    for group in _groups(output):
        head, comma, rest = group.partition(",")
        kind, colon, trigger = head.partition(": ")
        if not colon:
            errors.append("event without a trigger: " + group[:40])
        elif kind.strip().casefold() not in types:
            errors.append("unknown label: " + group[:40])
        else:
            if not comma:
                errors.append("event without arguments or None: " + group[:40])
            arguments = tuple(_arguments(rest, query.roles, role_first, errors))
            yield Event(types[kind.strip().casefold()], trigger.strip(), arguments)


def _groups(output: str) -> Iterator[str]:
    """What stands in top-level brackets; a bracket missing at either end is no matter."""
    depth, start = 0, 0
    for position, letter in enumerate(output):
        if letter == "(":
            if depth == 0:
                if position and (before := output[start:position].strip(" ,)")):
                    yield before
                start = position + 1
            depth += 1
        elif letter == ")" and depth:
            depth -= 1
            if depth == 0:
                yield output[start:position].strip()
                start = position + 1
    if rest := output[start:].strip(" ,)"):
        yield rest


def _arguments(
    text: str, roles: Sequence[str], role_first: bool, errors: list[str]
) -> Iterator[Argument]:
    """Arguments of one event; a piece without a role belongs to its neighbour's text."""
    known = {role.casefold(): role for role in roles}
    found: list[tuple[str, list[str]]] = []
    waiting: list[str] = []
    for piece in _pieces(text, ",", outside_brackets=True):
        if piece.casefold() == "none" and not found and not waiting:
            continue
        argument = _argument(piece, known, role_first)
        if argument is not None:
            found.append((argument[0], [*waiting, argument[1]]))
            waiting = []
        elif role_first and found:
            found[-1][1].append(piece)
        else:
            waiting.append(piece)
    if waiting:
        errors.append("unknown role: " + ", ".join(waiting)[:40])
    for role, pieces in found:
        yield Argument(role, ", ".join(pieces))


def _argument(piece: str, known: Mapping[str, str], role_first: bool) -> tuple[str, str] | None:
    if role_first:
        role, colon, text = piece.partition(": ")
    else:
        text, colon, role = piece.rpartition(": ")
    if not colon or role.strip().casefold() not in known:
        return None
    return known[role.strip().casefold()], text.strip()


def _pieces(text: str, separator: str, outside_brackets: bool = False) -> list[str]:
    if not outside_brackets:
        return [piece.strip() for piece in text.split(separator) if piece.strip()]
    pieces, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")" and depth > 0)
        if letter == separator and depth == 0:
            pieces.append(text[start:position].strip())
            start = position + 1
    pieces.append(text[start:].strip())
    return [piece for piece in pieces if piece]


def _cuts(text: str, separator: str) -> Iterator[int]:
    position = text.find(separator)
    for _ in range(MAX_CUTS):
        if position < 0:
            return
        yield position
        position = text.find(separator, position + 1)
