"""Proof by perturbation that each layer sees what its configuration says.

Every layer is probed by itself: in a normal forward pass its own input is changed at one token,
the layer is run again, and the outputs of the tokens to the left and to the right are compared.
Final logits would only tell that *some* layer is open. This file knows nothing of how the mask
is made: a proof must not live in the code that it proves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unmask.attention import decoder_layers
from unmask.config import UnmaskConfig
from unmask.packing import PackedBatch, positions

PROBE_LENGTHS = (5, 6, 1)
"""Tokens of the probe's sentences. The middle one is probed; those on both sides must not notice
(a causal layer that ignores where sentences end leaks to the right alone)."""

MOVED = 1e-6
"""A state counts as moved when it changes by more than this share of the probed token's change.

What a mask hides has weight exactly 0, so in practice the changes are 0 or of order 0.01 to 1.
"""


@dataclass(frozen=True)
class LayerProof:
    """What the probe of one layer saw."""

    layer: int
    should_look_right: bool
    looks_right: bool
    looks_left: bool
    leaks: bool
    """A token of another sentence moved."""

    @property
    def agrees(self) -> bool:
        """Does the layer do what it should?"""
        return self.looks_right == self.should_look_right and self.looks_left and not self.leaks


@dataclass(frozen=True)
class MaskProof:
    """One `LayerProof` per layer, input side first."""

    layers: tuple[LayerProof, ...]

    @property
    def agrees(self) -> bool:
        """Do all layers do what they should?"""
        return all(layer.agrees for layer in self.layers)

    def check(self) -> None:
        """Raise when a layer disagrees.

        Raises:
            RuntimeError: naming the layers and what is wrong with each.
        """
        wrong = [layer for layer in self.layers if not layer.agrees]
        if wrong:
            raise RuntimeError(
                "the mask is not what the configuration says: "
                + "; ".join(_complaint(layer) for layer in wrong)
                + ". Training with it would measure something else"
            )

    def to_text(self) -> str:
        """A table, one line per layer."""
        lines = ["layer  should see  sees right  sees left  leaks  verdict"]
        for p in self.layers:
            should = "both sides" if p.should_look_right else "left only"
            cells = ("yes" if x else "no" for x in (p.looks_right, p.looks_left, p.leaks))
            right, left, leaks = cells
            verdict = "ok" if p.agrees else "WRONG"
            lines.append(
                f"{p.layer:>5}  {should:<10}  {right:<10}  {left:<9}  {leaks:<5}  {verdict}"
            )
        return "\n".join(lines)


def verify(
    backbone: nn.Module,
    config: UnmaskConfig,
    forward: Callable[[PackedBatch], object],
    lengths: Sequence[int] = PROBE_LENGTHS,
) -> MaskProof:
    """Probe every layer of one run in one packed forward pass; see `verify_runs`.

    One sentence of at least 3 tokens probes a `forward` that hands `token_ids[None]` to the
    backbone without packing.
    """
    return verify_runs(backbone, [config], forward, lengths)[0]


def verify_runs(
    backbone: nn.Module,
    configs: Sequence[UnmaskConfig | None],
    forward: Callable[[PackedBatch], object],
    lengths: Sequence[int] = PROBE_LENGTHS,
) -> list[MaskProof]:
    """Probe every layer for several runs of a stack, all in one packed forward pass.

    Args:
        backbone: the transformers model.
        configs: what the layers should see in each run; None for a run that gets no token.
        forward: runs the backbone on a packed batch, however the caller does that.
        lengths: tokens of each sentence of a run; the middle one is probed.

    Returns:
        A proof for each run that is probed, in order.
    """
    probed = [config for config in configs if config is not None]
    batch = _probe_batch(configs, lengths).to(backbone.device)  # pyright: ignore[reportArgumentType, reportCallIssue]
    before = len(lengths) // 2
    start, stop = sum(lengths[:before]), sum(lengths[: before + 1])
    sentences = [
        slice(run * sum(lengths) + start, run * sum(lengths) + stop) for run in range(len(probed))
    ]
    proofs: dict[int, list[LayerProof]] = {}

    def probe(index: int, layer: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        if index in proofs:
            return  # the second call, made below
        proofs[index] = []
        change = _change(layer, args, kwargs, _first(output), sentences)
        proofs[index] = [
            LayerProof(index, config.bidirectional[index], *_moved(change, sentences, run, lengths))
            for run, config in enumerate(probed)
        ]

    hooks = [
        layer.register_forward_hook(
            lambda module, args, kwargs, output, index=index: probe(
                index, module, args, kwargs, output
            ),
            with_kwargs=True,
        )
        for index, layer in enumerate(decoder_layers(backbone))
    ]
    try:
        with torch.no_grad():
            forward(batch)
    finally:
        for hook in hooks:
            hook.remove()
    by_layer = [proofs[index] for index in range(len(hooks))]
    return [MaskProof(tuple(layer[run] for layer in by_layer)) for run in range(len(probed))]


def _change(
    layer: nn.Module, args: tuple, kwargs: dict, before: Tensor, sentences: Sequence[slice]
) -> Tensor:
    """[tokens]: how much each state moves when the middle of every probed sentence does."""
    hidden = args[0] if args else kwargs["hidden_states"]
    changed = hidden.clone()
    for sentence in sentences:
        middle = _middle(sentence)
        changed[:, middle] = -2 * changed[:, middle] + changed[:, sentence.start]
    if args:
        after = _first(layer(changed, *args[1:], **kwargs))
    else:
        after = _first(layer(**{**kwargs, "hidden_states": changed}))
    return (after - before).float().abs().amax(dim=-1)[0]


def _moved(
    change: Tensor, sentences: Sequence[slice], run: int, lengths: Sequence[int]
) -> tuple[bool, bool, bool]:
    """In one run: did tokens to the left, to the right, and of other sentences move?

    Those to the left of the probed token see it by looking right.
    """
    probed = sentences[run]
    middle = _middle(probed)
    moved = change > MOVED * change[middle]
    own = slice(run * sum(lengths), (run + 1) * sum(lengths))
    others = torch.cat([moved[own.start : probed.start], moved[probed.stop : own.stop]])
    return (
        bool(moved[probed.start : middle].any()),
        bool(moved[middle + 1 : probed.stop].any()),
        bool(others.any()),
    )


def _middle(sentence: slice) -> int:
    return (sentence.start + sentence.stop) // 2


def _probe_batch(configs: Sequence[UnmaskConfig | None], lengths: Sequence[int]) -> PackedBatch:
    probed = [config for config in configs if config is not None]
    cu_seqlens = torch.tensor([0, *list(lengths) * len(probed)]).cumsum(0).int()
    tokens = int(cu_seqlens[-1])
    sizes = [0 if config is None else sum(lengths) for config in configs]
    return PackedBatch(
        token_ids=torch.arange(tokens) % sum(lengths) % 7 + 3,
        position_ids=positions(cu_seqlens),
        label_ids=torch.zeros(tokens, dtype=torch.long),
        cu_seqlens=cu_seqlens,
        max_seqlen=max(lengths),
        causal=torch.tensor([config.causal for config in probed for _ in lengths]),
        run_offsets=torch.tensor([0, *sizes]).cumsum(0).int(),
    )


def _first(output: object) -> Tensor:
    return output[0] if isinstance(output, tuple) else output  # pyright: ignore[reportReturnType]


def _complaint(layer: LayerProof) -> str:
    if layer.leaks:
        return f"layer {layer.layer} sees other sentences"
    if not layer.looks_left:
        return f"layer {layer.layer} does not even see left"
    seen = "looks right" if layer.looks_right else "is causal"
    should = "look right" if layer.should_look_right else "be causal"
    return f"layer {layer.layer} {seen} but should {should}"
