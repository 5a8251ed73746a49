"""Event triggers of ACE 2005, from the JSON of the customary pre-processing tool.

Each object is a sentence: `words`, and `golden-event-mentions` with `event_type` and
`trigger.start`, `trigger.end` (word indices). The one thing that is easy to get wrong: triggers
overlap, and one word can carry one tag. The later trigger replaces the earlier one whole, so
that no piece of the earlier stays behind; how often that happened is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.data.records import iter_json_array, iter_json_lines
from unmask.data.sentence import Span
from unmask.data.source import (
    RawSentence,
    Reading,
    ReadOptions,
    Source,
    finish_reading,
    read_text,
)
from unmask.data.tags import tags_from_spans

MENTIONS_KEY = "golden-event-mentions"


def read_ace(path: Path, options: ReadOptions) -> Reading:
    """Sentences with one label per event type; an array of objects or one object a line.

    Raises:
        ValueError: naming the line, for an object without these keys or a trigger out of range.
    """
    is_array = read_text(path).lstrip().startswith("[")
    records = iter_json_array(path) if is_array else iter_json_lines(path)
    raws: list[RawSentence] = []
    num_replaced = num_repeated = num_empty = 0
    for line, record in records:
        words = record.get("words")
        mentions = record.get(MENTIONS_KEY)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f'{path}:{line}: "words" is not a list of strings')
        if not isinstance(mentions, list):
            raise ValueError(f"{path}:{line}: {MENTIONS_KEY!r} is not a list")
        if not words:
            num_empty += 1
            continue
        spans: list[Span] = []
        for mention in mentions:
            trigger = _trigger(mention, len(words), f"{path}:{line}")
            num_repeated += trigger in spans
            apart = [
                span for span in spans if span.end <= trigger.start or trigger.end <= span.start
            ]
            num_replaced += len(spans) - len(apart) - (trigger in spans)
            spans = [*apart, trigger]
        raws.append(
            RawSentence(tuple(words), tags_from_spans(spans, len(words)), (line,) * len(words))
        )
    counts = {
        "triggers replaced by a later one that overlaps them": num_replaced,
        "triggers given more than once": num_repeated,
        "sentences without words left out": num_empty,
    }
    notes = [f"{count} {what}" for what, count in counts.items() if count]
    return finish_reading(raws, Source.of(path), "ACE 2005 event triggers", options, notes)


def _trigger(mention: Any, num_words: int, place: str) -> Span:
    trigger = mention.get("trigger") if isinstance(mention, dict) else None
    if isinstance(trigger, dict):
        match [trigger.get("start"), trigger.get("end"), mention.get("event_type")]:
            case [int(start), int(end), str(label)] if (
                0 <= start < end <= num_words and label.strip()
            ):
                return Span(start, end, label)
    raise ValueError(
        f'{place}: an event needs "event_type" and a "trigger" whose "start" and "end" lie within '
        f"0 to {num_words}, end exclusive; got {mention!r:.80}"
    )
