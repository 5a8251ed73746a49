"""Forward and backward of a low-rank update, written once over products that a device does its way.

Backward is written out, so that no step of forward keeps an operand of its own: kept are the
layer's input itself, which layers that read the same input share, what lies between the two small
matrices, and a mask only where it would be dear to make again.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from unmask.kernels.autocast import differentiable_once
from unmask.kernels.dropout import Dropout


class Products(Protocol):
    """Matrix products over the tokens of each run. `drop_*`: elements are dropped, not rescaled."""

    def mask(self, x: Tensor) -> Tensor | None:
        """What is dropped of `x`, to be kept for backward; None where it is made as needed."""
        ...

    def linear(
        self,
        x: Tensor,
        weight: Tensor,
        scale: float = 1.0,
        base: Tensor | None = None,
        drop_input: bool = False,
        drop_output: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`base + scale * x @ weight[run].T`, [tokens, out_features], in the dtype of `x`.

        Args:
            x: [tokens, in_features].
            weight: [runs, out_features, in_features], in any dtype and layout.
            scale: of the product.
            base: [tokens, out_features]; None means zero.
            drop_input: drop elements of `x` first.
            drop_output: drop elements of the result.
            mask: as `mask` gave it.
        """
        ...

    def outer(
        self,
        left: Tensor,
        right: Tensor,
        like: Tensor,
        drop_right: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`left.T @ right` over the tokens of each run, in shape and dtype of `like`.

        Args:
            left: [tokens, left_features].
            right: [tokens, right_features].
            like: [runs, left_features, right_features].
            drop_right: drop elements of `right` first.
            mask: as `mask` gave it.
        """
        ...


def low_rank_update(
    base: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    products: Products,
    scale: float,
    dropout: Dropout | None,
) -> Tensor:
    """`unmask.kernels.grouped_lora` by the given products, which know runs and masks."""
    rescale = 1.0 if dropout is None else dropout.rescale
    return _LowRankUpdate.apply(base, x, lora_a, lora_b, products, scale * rescale)


class _LowRankUpdate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor,
        x: Tensor,
        lora_a: Tensor,
        lora_b: Tensor,
        products: Products,
        scale: float,
    ) -> Tensor:
        mask = products.mask(x)
        inner = products.linear(x, lora_a, scale, drop_input=True, mask=mask)
        ctx.save_for_backward(x, inner, lora_a, lora_b, mask)
        ctx.products, ctx.scale = products, scale
        return products.linear(inner, lora_b, base=base)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, inner, lora_a, lora_b, mask = ctx.saved_tensors
        products: Products = ctx.products
        _, needs_x, needs_a, needs_b, *_ = ctx.needs_input_grad
        grad_x = grad_a = grad_b = None
        if needs_b:
            grad_b = products.outer(grad, inner, lora_b)
        if needs_x or needs_a:
            back = products.linear(grad, lora_b.transpose(1, 2), ctx.scale)
            if needs_a:
                grad_a = products.outer(back, x, lora_a, drop_right=True, mask=mask)
            if needs_x:
                weight = lora_a.transpose(1, 2)
                grad_x = products.linear(back, weight, drop_output=True, mask=mask)
        return grad, grad_x, grad_a, grad_b, None, None
