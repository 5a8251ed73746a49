"""Training texts laid end to end in rows of one length.

    none         |aaaa    |bbb     |cccccc  |     a row each
    separate     |aaaabbb |cccccc  |              whole texts share a row, blind to each other
    concatenate  |aaaabbbc|ccccc                  one stream cut into rows, as TRL packs

Positions restart at each text in `separate`, and transformers reads from that, when it is given no
attention mask, which tokens may see which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.instruct.encoding import IGNORED, EncodedQuery


@dataclass(frozen=True)
class Row:
    """Token ids, label ids and positions of one row, all of one length."""

    token_ids: tuple[int, ...]
    label_ids: tuple[int, ...]
    position_ids: tuple[int, ...]


def pack_none(texts: Sequence[EncodedQuery], max_length: int) -> list[Row]:
    """A row for each text."""
    return [_row([text]) for text in texts]


def pack_separate(texts: Sequence[EncodedQuery], max_length: int) -> list[Row]:
    """Whole texts in the order given, as many to a row as fit."""
    rows: list[list[EncodedQuery]] = []
    room = 0
    for text in texts:
        if len(text.token_ids) > room:
            rows.append([])
            room = max_length
        rows[-1].append(text)
        room -= len(text.token_ids)
    return [_row(row) for row in rows]


def pack_concatenate(texts: Sequence[EncodedQuery], max_length: int) -> list[Row]:
    """One stream cut into full rows; what is left over is dropped unless it is all there is."""
    token_ids = tuple(token for text in texts for token in text.token_ids)
    label_ids = tuple(label for text in texts for label in text.label_ids)
    length = min(max_length, len(token_ids))
    return [
        Row(
            token_ids[start : start + length],
            label_ids[start : start + length],
            tuple(range(length)),
        )
        for start in range(0, len(token_ids) - length + 1, max(length, 1))
        if length
    ]


PACKINGS: dict[str, Callable[[Sequence[EncodedQuery], int], list[Row]]] = {
    "none": pack_none,
    "separate": pack_separate,
    "concatenate": pack_concatenate,
}


def batch_rows(rows: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
    """Rows as model inputs, each [rows, longest row]; padding is a text of its own, not trained."""
    longest = max(len(row.token_ids) for row in rows)

    def padded(values: Sequence[int], filling: Sequence[int]) -> list[int]:
        return [*values, *filling[: longest - len(values)]]

    return {
        "input_ids": torch.tensor([padded(row.token_ids, [pad_id] * longest) for row in rows]),
        "labels": torch.tensor([padded(row.label_ids, [IGNORED] * longest) for row in rows]),
        "position_ids": torch.tensor([padded(row.position_ids, range(longest)) for row in rows]),
    }


def _row(texts: Sequence[EncodedQuery]) -> Row:
    # The first token of a text is predicted from nothing, never from the text before it.
    labels = [label for text in texts for label in (IGNORED, *text.label_ids[1:])]
    return Row(
        tuple(token for text in texts for token in text.token_ids),
        tuple(labels),
        tuple(position for text in texts for position in range(len(text.token_ids))),
    )
