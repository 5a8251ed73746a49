"""Gradients of a stack, those of one shape side by side in memory.

Adapters are many small tensors of few shapes, the same in every layer. On a GPU a launch for each
takes longer than its work, so what is done to all of them is done to the few tensors that hold
them: [parameters of a shape, runs, ...].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

AT_ONCE = 2**25
"""Elements whose norms are taken together: PyTorch writes them out in float64, which is 256 MiB."""


class Gradients:
    """The `.grad` of stacked parameters [runs, ...], from here on.

    Recorded passes add to this memory: make it before the first.
    """

    def __init__(self, stacked: Iterable[nn.Parameter]) -> None:
        alike: dict[tuple[torch.Size, torch.dtype], list[nn.Parameter]] = {}
        for parameter in stacked:
            alike.setdefault((parameter.shape, parameter.dtype), []).append(parameter)
        self._held = [same[0].new_zeros(len(same), *same[0].shape) for same in alike.values()]
        self._own = [
            (parameter, own)
            for same, held in zip(alike.values(), self._held, strict=True)
            for parameter, own in zip(same, held, strict=True)
        ]
        self.held()

    @torch.no_grad()
    def held(self) -> list[Tensor]:
        """[parameters, runs, ...] for each shape. A `.grad` that lies elsewhere is taken over."""
        for parameter, own in self._own:
            if parameter.grad is not own:
                own.zero_() if parameter.grad is None else own.copy_(parameter.grad)
                parameter.grad = own
        return self._held

    def norms(self) -> Tensor:
        """[runs], float64 where the device has it."""
        held = self.held()
        # So precise that a run's norm is the same whoever is summed beside it.
        dtype = held[0].dtype if held[0].device.type == "mps" else torch.float64
        parts = [p for x in held for p in x.flatten(2).split(max(1, AT_ONCE // x[0].numel()))]
        norms = [torch.linalg.vector_norm(part, dim=2, dtype=dtype) for part in parts]
        return torch.cat(norms).square().sum(0).sqrt()

    def scale(self, factors: Sequence[float]) -> None:
        """Multiply those of each run by its factor."""
        on_device: dict[torch.dtype, Tensor] = {}
        for x in self.held():
            if x.dtype not in on_device:
                on_device[x.dtype] = x.new_tensor(factors)
            x.mul_(on_device[x.dtype].view(-1, *[1] * (x.ndim - 2)))

    def of(self, runs: Sequence[int]) -> list[Tensor]:
        """Views of those of some runs; where these are all, one for each shape."""
        held = self.held()
        return held if len(runs) == held[0].shape[1] else [x[:, run] for x in held for run in runs]

    def clear(self, runs: Sequence[int]) -> None:
        """Zero those of some runs."""
        for x in self.of(runs):
            x.zero_()
