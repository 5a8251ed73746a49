"""The well-formed answers to InstructUIE's nine tasks, for constrained decoding.

Mentions stand in the sentence where its words are known, and hold none of the separators of their
task: an answer in which they did could not be read back.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from unmask.instruct.prompts import Query
from unmask.instruct.span_grammar import mentions_of
from unmask.instruct.system import Grammar

SEPARATORS = {"NER": ";\n", "ET": ";\n", "EET": ";\n", "EEA": ";\n", "ES": ",\n"}
"""What no mention may hold; of other tasks those of `PAIRS`."""
PAIRS = ",;\n"
EVENTS = ",:()\n"


def grammar_of(query: Query, role_first: bool) -> Grammar:
    """None, or items by the task of `query`; `role_first` as in `parse_answer`."""
    task, types, roles = query.task, _any_of(query.labels), _any_of(query.roles)
    if task == "EE":
        return _events(types, roles, _mention(query, EVENTS), role_first)
    mention = _mention(query, SEPARATORS.get(task, PAIRS))
    item = {
        "ES": mention,
        "EP": f"{mention}, {mention}",
        "EEA": f"{mention}: {roles}",
        "RE": f"{types}: {mention}, {mention}",
        "EPR": f"{types}: {mention}, {mention}",
    }.get(task, f"{types}: {mention}")
    between = ", " if task == "ES" else "; "
    return Grammar(rf" ?(?:None|(?P<item>{item})(?:{between}(?&item))*)", ("", "None"))


def _events(types: str, roles: str, mention: str, role_first: bool) -> Grammar:
    """A trigger in brackets with its arguments, or None for those; events follow each other."""
    argument = f"{roles}: {mention}" if role_first else f"{mention}: {roles}"
    arguments = rf" (?P<argument>{argument})(?:, (?&argument))*|None"
    event = rf" \( {types}: {mention}, (?:{arguments})\) "
    pattern = rf" ?None|(?P<event>{event})(?:,(?&event))*"
    return Grammar(pattern, ("", "None", " ", ") ", "None) ", " None) ", ", None) "))


def _mention(query: Query, separators: str) -> str:
    escaped = regex.escape(separators)
    found = mentions_of(query.words or (), separators) or rf"[^{escaped}\s][^{escaped}]*"
    return f"(?:{found})"


def _any_of(names: Sequence[str]) -> str:
    return f"(?:{'|'.join(map(regex.escape, names))})"
