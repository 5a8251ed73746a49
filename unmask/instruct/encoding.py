"""Queries as token ids with labels, one token at a time known to be trained on or not.

Prompt and training text are made by the same function, segment by segment, so that what a model
is asked is the beginning of what it was trained on. A text that is too long loses words of the
passage, never of the frame around it; what is lost is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unmask.instruct.prompts import Query, Segment

IGNORED = -100
"""The label of a token that is not trained on."""


@dataclass(frozen=True)
class EncodedQuery:
    """Token ids of a whole training text, and for each the id to predict at its place or -100.

    Labels stand at the token that they name; the model shifts them. `num_lost_words` were cut
    from the passage, `num_lost_answers` from the end of a conversation.
    """

    query_id: str
    token_ids: tuple[int, ...]
    label_ids: tuple[int, ...]
    num_lost_words: int = 0
    num_lost_answers: int = 0


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of what a model reads before it answers."""

    query_id: str
    token_ids: tuple[int, ...]
    num_lost_words: int = 0


def encode_training(
    query: Query, in_loss: Sequence[bool], tokenizer: Any, max_length: int
) -> EncodedQuery:
    """The training text of a query, at most `max_length` tokens long.

    The passage is shortened where that is enough; else the text is cut at its end.
    """
    fitted, lost_words = _fitted(query, query.segments, tokenizer, max_length)
    token_ids, label_ids = segment_ids(fitted, in_loss, tokenizer)
    lost_answers = 0
    if len(token_ids) > max_length:
        ends = _ends(fitted, tokenizer)
        trained = [end for end, segment in zip(ends, fitted, strict=True) if segment.trained]
        lost_answers = sum(end > max_length for end in trained)
    return EncodedQuery(
        query.id,
        tuple(token_ids[:max_length]),
        tuple(label_ids[:max_length]),
        lost_words,
        lost_answers,
    )


def encode_prompt(query: Query, tokenizer: Any, max_length: int) -> EncodedPrompt:
    """The prompt of a query; the passage is shortened to keep it within `max_length` tokens."""
    fitted, lost_words = _fitted(query, query.prompt_segments, tokenizer, max_length)
    token_ids, _ = segment_ids(fitted, [False] * len(fitted), tokenizer)
    return EncodedPrompt(query.id, tuple(token_ids), lost_words)


def segment_ids(
    segments: Sequence[Segment], in_loss: Sequence[bool], tokenizer: Any
) -> tuple[list[int], list[int]]:
    """(token ids, label ids), after a beginning-of-text token where the tokenizer puts one."""
    token_ids = _beginning(tokenizer)
    label_ids = [IGNORED] * len(token_ids)
    for segment, trained in zip(segments, in_loss, strict=True):
        ids = list(tokenizer(segment.text, add_special_tokens=False)["input_ids"])
        ids += [tokenizer.eos_token_id] if segment.ends else []
        token_ids += ids
        label_ids += ids if trained else [IGNORED] * len(ids)
    return token_ids, label_ids


def _beginning(tokenizer: Any) -> list[int]:
    # Some tokenizers have such a token, or name their end token so, and never put it there.
    begin = tokenizer.bos_token_id
    if begin is None or tokenizer("a")["input_ids"][0] != begin:
        return []
    return [begin]


def _ends(segments: Sequence[Segment], tokenizer: Any) -> list[int]:
    flags = [False] * len(segments)
    return [
        len(segment_ids(segments[: index + 1], flags[: index + 1], tokenizer)[0])
        for index in range(len(segments))
    ]


def _fitted(
    query: Query, segments: Sequence[Segment], tokenizer: Any, max_length: int
) -> tuple[tuple[Segment, ...], int]:
    """Segments whose passage has lost as few words as it takes, and how many."""

    def length(candidate: Sequence[Segment]) -> int:
        return len(segment_ids(candidate, [False] * len(candidate), tokenizer)[0])

    words = query.text.split(" ")
    found = _passage_place(query.text, segments)
    if found is None or length(segments) <= max_length:
        return tuple(segments), 0
    holder, written = found

    def shortened(num_words: int) -> tuple[Segment, ...]:
        passage = written(" ".join(words[:num_words]))
        text = segments[holder].text.replace(written(query.text), passage, 1)
        changed = replace(segments[holder], text=text)
        return (*segments[:holder], changed, *segments[holder + 1 :])

    low, high = 0, len(words) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(shortened(middle)) <= max_length else (low, middle - 1)
    if length(shortened(low)) > max_length:
        return tuple(segments), 0
    return shortened(low), len(words) - low


def _passage_place(
    text: str, segments: Sequence[Segment]
) -> tuple[int, Callable[[str], str]] | None:
    """The segment that holds the passage, and how it is written there: plainly or in JSON."""
    for written in (str, _in_json):
        for index, segment in enumerate(segments):
            if text and written(text) in segment.text:
                return index, written
    return None


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]
