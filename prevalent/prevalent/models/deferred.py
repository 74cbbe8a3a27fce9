"""Linear maps of a recurrence whose weight gradients are computed once for all steps.

A walk applies the same large weights to a few rows at every step. Autograd then writes a gradient
as large as the weights at each step and adds them up, which takes most of the backward pass on a
CPU. Here the steps keep their inputs and output gradients, and one product at the end of the
backward pass makes the sum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .products import multiply

Steps = list[tuple[Tensor, Tensor]]
_pending: dict[int, tuple[Tensor, Steps]] = {}


class _DeferredProduct(torch.autograd.Function):
    """``inputs`` (..., i) times the transpose of ``weight`` (o, i)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.weight = weight
        return multiply(inputs, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        (inputs,), (gradient,), weight = ctx.saved_tensors, gradients, ctx.weight
        if not _pending:
            torch.autograd.Variable._execution_engine.queue_callback(_add_up)
        _, steps = _pending.setdefault(id(weight), (weight, []))
        steps.append((inputs.flatten(0, -2), gradient.flatten(0, -2)))
        return (
            multiply(gradient, weight, transposed=True) if ctx.needs_input_grad[0] else None
        ), None


def _add_up() -> None:
    """Add the gradients of all steps to the weights; runs when the backward pass has ended."""
    found = list(_pending.values())
    _pending.clear()
    for weight, steps in found:
        inputs, gradients = (torch.cat(parts) for parts in zip(*steps, strict=True))
        gradient = gradients.t() @ inputs
        weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, with the weight's gradient deferred on a CPU in fp32.

    It is then added to ``weight.grad`` as `backward` ends; `torch.autograd.grad` does not see it.
    """
    device = inputs.device.type
    if device != "cpu" or torch.is_autocast_enabled(device) or weight.dtype != torch.float32:
        return F.linear(inputs, weight, bias)
    if not torch.is_grad_enabled():
        product = multiply(inputs, weight)
    elif weight.requires_grad:
        product = _DeferredProduct.apply(inputs, weight)
    else:
        return F.linear(inputs, weight, bias)
    return product if bias is None else product + bias


class DeferredLinear(nn.Linear):
    """A linear layer for recurrences, see `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class DeferredLSTMCell(nn.LSTMCell):
    """An LSTM cell for recurrences, see `linear`."""

    def forward(  # type: ignore[override]
        self, input: Tensor, hx: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if input.device.type != "cpu":
            return super().forward(input, hx)
        hidden, cell = hx
        gates = linear(input, self.weight_ih, self.bias_ih)
        gates = gates + linear(hidden, self.weight_hh, self.bias_hh)
        take, keep, new, show = gates.chunk(4, dim=1)
        cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
        return show.sigmoid() * cell.tanh(), cell
