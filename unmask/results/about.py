"""What a sweep knows of a corpus and its results do not tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class About:
    """What stands in a report beside the scores.

    `notes` say what the reader of the corpus changed; `ceiling` is an F1 to draw as a line, with
    `ceiling_caption` what it is; `settings` are what the sweep was asked for, in words.
    """

    notes: tuple[str, ...] = ()
    ceiling: float | None = None
    ceiling_caption: str = "best F1 a causal labeler can reach"
    settings: Mapping[str, str] = field(default_factory=dict)
