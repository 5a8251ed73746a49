"""Splits made out of other splits, only when asked for.

The one thing that is easy to get wrong: `train:0.1` and `train:200` are drawn differently. A
fraction is drawn at random by a stated seed, a count takes the last sentences in file order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from unmask.data.folders import split_of
from unmask.data.sentence import Corpus

SPLIT_SEED = 120
"""Seed of random hold-outs: the first of the paper's run seeds, the same for every run."""


@dataclass(frozen=True, slots=True)
class Share:
    """Part of a split: all of it, a random fraction, or a count of its last sentences."""

    split: str
    fraction: float | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "train", "train:0.1" (a fraction) or "train:200" (a count).

        Raises:
            ValueError: for anything else.

        >>> Share.parse("dev:0.5")
        Share(split='validation', fraction=0.5, count=None)
        """
        name, colon, amount = text.partition(":")
        try:
            split = split_of(name.strip())
            if split is None or (colon and not amount.strip()):
                raise ValueError
            if not colon:
                return cls(split)
            if amount.strip().isdecimal() and int(amount) >= 1:
                return cls(split, count=int(amount))
            if 0 < float(amount) < 1:
                return cls(split, fraction=float(amount))
            raise ValueError
        except ValueError:
            raise ValueError(
                f"cannot read {text!r} as a share of a split; write a split (train, dev, test), "
                "a fraction of it drawn at random (train:0.1), or a count of its last sentences "
                "(train:200)"
            ) from None


def take_split(corpus: Corpus, target: str, request: str, seed: int = SPLIT_SEED) -> Corpus:
    """The corpus with its empty split `target` filled from another split, as `request` says.

    What is taken leaves the other split; a note says what was done. Sentences stay in order.

    Raises:
        ValueError: for an unreadable request, a `target` that has sentences already, or a share
            that is empty or (for a fraction or count) leaves nothing.
    """
    share = Share.parse(request)
    available = corpus.split(share.split)
    if corpus.split(target):
        raise ValueError(
            f"{corpus.name} has a {target} split of {len(corpus.split(target))} sentences already; "
            f"leave out --{target}-from {request}"
        )
    taken = _chosen(len(available), share, seed)
    if not taken or (share != Share(share.split) and len(taken) == len(available)):
        raise ValueError(
            f"--{target}-from {request} would take {len(taken)} of the {len(available)} sentences "
            f"of {share.split}; both parts need at least one"
        )
    how = "all of it"
    if share.fraction is not None:
        how = f"a random {share.fraction:g} of it, seed {seed}"
    elif share.count is not None:
        how = "the last in file order"
    note = (
        f"{target}: {len(taken)} of the {len(available)} {share.split} sentences, {how}, as asked"
    )
    return replace(
        corpus,
        notes=(*corpus.notes, note),
        **{
            target: tuple(sentence for i, sentence in enumerate(available) if i in taken),
            share.split: tuple(sentence for i, sentence in enumerate(available) if i not in taken),
        },
    )


def _chosen(num_sentences: int, share: Share, seed: int) -> set[int]:
    """Indices of the sentences taken. `random()` is the one draw Python promises not to change."""
    if share.count is not None:
        return set(range(max(0, num_sentences - share.count), num_sentences))
    if share.fraction is None:
        return set(range(num_sentences))
    generator = random.Random(seed)
    draws = [generator.random() for _ in range(num_sentences)]
    order = sorted(range(num_sentences), key=draws.__getitem__)
    return set(order[: round(num_sentences * share.fraction)])
