"""The well-formed answers to Hum's questions in JSON, for constrained decoding."""

from __future__ import annotations

import json

import regex

from unmask.instruct.examples import Answer, Category
from unmask.instruct.hum_answers import write
from unmask.instruct.json_grammar import STRING, lists_by_key, object_of
from unmask.instruct.prompts import Query
from unmask.instruct.system import Grammar

PLAIN_FORM = "json []"
PAIR = object_of([('"subject"', STRING), ('"object"', STRING)])
ELEMENTS = {"NER": STRING, "EET": STRING, "RE": PAIR, "SPO": PAIR}


def grammar_of(query: Query) -> Grammar | None:
    """For lists by label, topics and choices; other tasks and forms have none."""
    if query.task in ELEMENTS and query.about == PLAIN_FORM:
        keys = [json.dumps(label, ensure_ascii=False) for label in query.labels]
        return lists_by_key(keys, ELEMENTS[query.task])
    if query.task not in ("TC", "MRC") or not query.labels:
        return None
    kind = Category if query.task == "TC" else Answer
    written = [write(query.task, (kind(label),), query.labels, {}) for label in query.labels]
    # An answer that was cut off goes on as the shortest one that begins so.
    ends = {text[start:] for text in written for start in range(len(text) + 1)}
    closers = tuple(sorted(ends, key=lambda end: (len(end), end)))
    return Grammar("|".join(map(regex.escape, written)), closers)
