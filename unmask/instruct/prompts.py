"""A question to a model as segments of text: what it reads, and what it is trained to write.

One picture of it, UniversalNER with two types (trained segments in brackets, `$` ends a turn):

    Text: X ASSISTANT: |[I've read this text.$]|USER: What ...? ASSISTANT: |[["Bush"]$]

The last segment is always the answer that the query asks for. Prompt and training text are cut
from the same segments, so the prompt is a prefix of the training text by construction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from unmask.instruct.examples import Item, item_from_dict, item_to_dict


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that is tokenised by itself.

    `trained` puts it into the loss; `ends` appends the tokenizer's end-of-text token, which is
    in the loss as the text is.
    """

    text: str
    trained: bool = False
    ends: bool = False


_PLAIN_FIELDS = (
    "id",
    "example_id",
    "task",
    "text",
    "dataset",
    "about",
    "ground_truth",
    "collision",
)


@dataclass(frozen=True)
class Query:
    """One question about one text, with the answer that the gold gives.

    `labels` are the natural names that may be answered, in the order they are asked; `roles` those
    of arguments. `about` is what the question names besides the text: one entity type, an event
    type, a question. `items` are what the answer says, with natural names as types.
    `ground_truth` is what a released evaluator compares with, where that is not the answer.
    `collision` says in words why the answer does not read back as `items`; empty when it does.
    """

    id: str
    example_id: str
    task: str
    text: str
    labels: tuple[str, ...]
    segments: tuple[Segment, ...]
    items: tuple[Item, ...] = ()
    words: tuple[str, ...] | None = None
    dataset: str = ""
    about: str = ""
    roles: tuple[str, ...] = ()
    ground_truth: str = ""
    collision: str = ""

    @property
    def answer(self) -> str:
        """The gold answer: the text of the last segment."""
        return self.segments[-1].text

    @property
    def prompt_segments(self) -> tuple[Segment, ...]:
        """Everything before the answer."""
        return self.segments[:-1]

    def prompt(self, end: str = "</s>") -> str:
        """What the model reads, as one string; `end` stands for the end-of-text token."""
        return joined(self.prompt_segments, end)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a segment is [text, trained, ends]."""
        return {
            **{name: getattr(self, name) for name in _PLAIN_FIELDS},
            "labels": list(self.labels),
            "roles": list(self.roles),
            "segments": [[part.text, part.trained, part.ends] for part in self.segments],
            "items": [item_to_dict(item) for item in self.items],
            "words": None if self.words is None else list(self.words),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Query:
        """The inverse of `to_dict`."""
        words = values["words"]
        changed = {
            "labels": tuple(values["labels"]),
            "roles": tuple(values["roles"]),
            "segments": tuple(Segment(*part) for part in values["segments"]),
            "items": tuple(map(item_from_dict, values["items"])),
            "words": None if words is None else tuple(words),
        }
        return cls(**{**values, **changed})


def joined(segments: Iterable[Segment], end: str = "</s>") -> str:
    """Segments as one string; `end` stands for the end-of-text token."""
    return "".join(part.text + (end if part.ends else "") for part in segments)


def single_turn(prompt: str, answer: str) -> tuple[Segment, Segment]:
    """A prompt that is not trained and an answer that is, with the end-of-text token."""
    return Segment(prompt), Segment(answer, trained=True, ends=True)
