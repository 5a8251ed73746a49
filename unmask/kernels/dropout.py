"""Dropout that is counted, not drawn: a hash of run, module and place in the run.

A mask depends on nothing else, so a run gets the same one alone, fused with others, recomputed
under gradient checkpointing, on any device, and in parts on several. Each hash of 32 bits serves
two features:

    token t of a run, features 2 i and 2 i + 1:   hash(t * ceil(features / 2) + i, key)
    feature 2 i       kept where the lower half, as int16, reaches the threshold
    feature 2 i + 1   the upper half
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PLACE_FACTOR = -0x61C88647
FIRST_FACTOR = 0x7FEB352D
SECOND_FACTOR = -0x7B935975
"""Odd factors as signed 32-bit numbers: the golden ratio, and a finaliser of low bias
(github.com/skeeto/hash-prospector)."""


@dataclass(frozen=True)
class Dropout:
    """What a mask depends on besides the place."""

    probability: float
    """Of an element to be dropped, in (0, 1)."""
    keys: tuple[int, ...] | Tensor
    """For every run 32 bits made of its seed, its step and the module: numbers from 0 to 2**32 - 1;
    or int32 [runs, 2] with the same bits and the place of the run's first token here, which is not
    0 where others have those before it. A tensor on the device is not waited for."""

    @property
    def draws(self) -> Tensor:
        """`keys` as a tensor, int32 [runs, 2]."""
        if isinstance(self.keys, Tensor):
            return self.keys
        return torch.tensor([(as_signed(key), 0) for key in self.keys], dtype=torch.int32)

    @property
    def threshold(self) -> int:
        """The smallest of the int16 hashes that is kept."""
        return round(self.probability * 2**16) - 2**15

    @property
    def rescale(self) -> float:
        """The factor on what is kept."""
        return 1 / (1 - self.probability)

    def kept(self, run_offsets: Tensor, like: Tensor) -> Tensor:
        """1 for the elements that stay and 0 for the others: a factor.

        Args:
            run_offsets: int32 [runs + 1] on the CPU, where each run's tokens begin.
            like: [tokens, features]; the mask has its dtype, since products of unlike dtypes are
                slow, and its device.

        Returns:
            [tokens, features], or [tokens of a run, features] where all runs have one and the
            same mask: configurations of one seed, which share their batches.
        """
        lengths = run_offsets.diff().tolist()
        draws = self.draws.tolist()
        runs = [(key, first, n) for (key, first), n in zip(draws, lengths, strict=True)]
        masks = {run: self._of_run(*run, like) for run in dict.fromkeys(runs)}
        return masks[runs[0]] if len(masks) == 1 else torch.cat([masks[run] for run in runs])

    def _of_run(self, key: int, first: int, length: int, like: Tensor) -> Tensor:
        features = like.shape[1]
        out = like.new_empty(length, features)
        return torch.ge(_hashes(key, first, length, features, like.device), self.threshold, out=out)


def drop(x: Tensor, kept: Tensor) -> Tensor:
    """Elements that are not kept become 0; the rest is not rescaled. A NaN stays one.

    Args:
        x: [tokens, features].
        kept: as `Dropout.kept` gives it.
    """
    if kept.shape == x.shape:
        return x * kept
    return (x.reshape(-1, *kept.shape) * kept).view(x.shape)


def mix(a: Any, b: Any) -> Any:
    """Two integers to one of 32 bits, by the finaliser of MurmurHash3; or arrays of uint64."""
    x = (a * 0x9E3779B1 + b * 0x85EBCA77 + 0x165667B1) & 0xFFFFFFFF
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


def as_signed(key: int) -> int:
    """The int32 with the bits of a number from 0 to 2**32 - 1; an int32 stays what it is."""
    return key - 2**32 if key >= 2**31 else key


def _hashes(key: int, first: int, length: int, features: int, device: torch.device) -> Tensor:
    """int16 [length, features] from token `first` on, all values alike."""
    width = (features + 1) // 2
    x = torch.arange(first * width, (first + length) * width, dtype=torch.int32, device=device)
    x = x.mul_(PLACE_FACTOR).bitwise_xor_(key)
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(FIRST_FACTOR)
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(SECOND_FACTOR)
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))
    return x.view(torch.int16).view(length, 2 * width)[:, :features]
