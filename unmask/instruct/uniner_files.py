"""The conversation files that UniversalNER published: test sets and training data.

A file is a JSON array of `{"id": ..., "conversations": [{"from": "human" | "gpt", "value": ...}]}`
whose first pair is the text and its acknowledgement. The data is CC BY-NC 4.0 and not part of
this package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unmask.instruct.examples import Entity
from unmask.instruct.prompts import Query
from unmask.instruct.uniner import ACKNOWLEDGEMENT, conversation_segments

_QUESTION = re.compile(r"What describes (.+) in the text\?", re.DOTALL)


def read_conversations(path: Path, loss_on_ack: bool = False) -> list[Query]:
    """Every conversation as a query whose answer is its last turn.

    Raises:
        ValueError: when the file, or a record of it, is not of that form.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(records, list):
        raise ValueError(f"{path} holds no JSON array; expected an array of conversations")
    return [_read_record(path, index, one, loss_on_ack) for index, one in enumerate(records)]


def _read_record(path: Path, index: int, record: Any, loss_on_ack: bool) -> Query:
    try:
        values = [turn["value"] for turn in record["conversations"]]
        speakers = [turn["from"] for turn in record["conversations"]]
        passage, questions, answers = values[0], values[2::2], values[3::2]
        types = [_type_asked(question) for question in questions]
        strings = [json.loads(answer) for answer in answers]
        if speakers != ["human", "gpt"] * (len(values) // 2) or not answers:
            raise ValueError("turns must alternate human, gpt and ask at least one question")
        if any(not isinstance(text, str) for texts in strings for text in texts):
            raise ValueError("an answer is not a list of strings")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}, record {index}: not a conversation of text, questions and JSON lists: {error}"
        ) from None
    identity = str(record.get("id", index))
    text = passage.split("Text: ", 1)[-1]
    return Query(
        f"{identity}#{index}",
        f"{path.stem}/{text}",
        "ner",
        text,
        tuple(types),
        conversation_segments(passage, zip(questions, answers, strict=True), loss_on_ack),
        tuple(
            Entity(string, kind)
            for kind, texts in zip(types, strings, strict=True)
            for string in dict.fromkeys(texts)
        ),
        dataset=path.stem,
        about=types[-1] if len(types) == 1 else "",
    )


def _type_asked(question: str) -> str:
    match = _QUESTION.fullmatch(question)
    if match is None:
        raise ValueError(f"the question {question!r} is not 'What describes ... in the text?'")
    return match.group(1)


def to_conversation(query: Query) -> dict[str, Any]:
    """A query in the published form."""
    passage = query.segments[0].text.partition(" USER: ")[2].removesuffix(" ASSISTANT:")
    turns = [("human", passage), ("gpt", ACKNOWLEDGEMENT)]
    for question, answer in zip(query.segments[2::2], query.segments[3::2], strict=True):
        asked = question.text.removeprefix("USER: ").removesuffix(" ASSISTANT:")
        turns += [("human", asked), ("gpt", answer.text.removeprefix(" "))]
    return {
        "id": query.id,
        "conversations": [{"from": speaker, "value": value} for speaker, value in turns],
    }


def write_conversations(path: Path, queries: Iterable[Query]) -> None:
    """Queries as one published file."""
    path.write_text(json.dumps([to_conversation(query) for query in queries]), encoding="utf-8")


def summarise(queries: Sequence[Query]) -> dict[str, int]:
    """Counts to hold against those of the published files."""
    from unmask.instruct.uniner_answers import normalise

    answers = [json.loads(query.answer) for query in queries]
    return {
        "queries": len(queries),
        "empty": sum(not answer for answer in answers),
        "types": len({name for query in queries for name in query.labels}),
        "mentions": sum(map(len, answers)),
        "unique": sum(len({normalise(text) for text in answer}) for answer in answers),
        "texts": len({query.text for query in queries}),
    }
