"""Products of few rows with large weights that serve many times before they change.

A step of a walk multiplies some twenty rows with megabytes of weights. On a CPU that is bound by
reading the weights, and oneDNN's own layout of them reads up to three times as fast as a plain
matrix; it pays from the third or fourth product on. The layout is chosen by sizes alone, never by
what came before, so that a continued run computes what an uninterrupted one does.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.weak import WeakIdKeyDictionary

WORTHWHILE = 2**17  # numbers in a weight; smaller ones stay in the cache anyway
ROWS = 32  # what the layout is made for; it serves any number

_native = getattr(torch.ops, "mkldnn", None)
AVAILABLE = (
    torch.backends.mkldnn.is_available()
    and hasattr(_native, "_reorder_linear_weight")
    and hasattr(_native, "_linear_pointwise")
)


@dataclass
class _Layout:
    version: int  # of the weight it was made of
    tensor: Tensor


_layouts = WeakIdKeyDictionary()  # weight -> its layout and that of its transpose
_hooks: list[Any] = []


def _forget(*_: Any) -> None:
    """Every layout goes with an optimizer's step: fused ones do not count up versions."""
    _layouts.clear()


def multiply(inputs: Tensor, weight: Tensor, *, transposed: bool = False) -> Tensor:
    """``inputs`` (..., i) times the transpose of ``weight`` (o, i), outside of autograd.

    Args:
        inputs: any number of rows.
        weight: a layout of it is kept until it changes.
        transposed: ``inputs`` (..., o) times ``weight`` itself instead.
    """
    if not _is_suitable(inputs, weight):
        return inputs @ (weight if transposed else weight.t())
    layout = _layout(weight, transposed)
    return torch.ops.mkldnn._linear_pointwise(inputs, layout, None, "none", [], "")


def _is_suitable(inputs: Tensor, weight: Tensor) -> bool:
    return (
        AVAILABLE
        and weight.numel() >= WORTHWHILE
        and weight.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not weight.is_inference()
        and inputs.numel() > 0
    )


def _layout(weight: Tensor, transposed: bool) -> Tensor:
    if not _hooks:
        _hooks.append(register_optimizer_step_post_hook(_forget))
    known = _layouts.setdefault(weight, {})
    found = known.get(transposed)
    if found is None or found.version != weight._version:
        plain = weight.detach().t().contiguous() if transposed else weight.detach()
        laid_out = torch.ops.mkldnn._reorder_linear_weight(plain, ROWS)
        found = known[transposed] = _Layout(weight._version, laid_out)
    return found.tensor


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


def weight_precision(device: str) -> AbstractContextManager[Any]:
    """Where layers of an LSTM run in the type of their weights, fp32, under any autocast.

    Autocast gives cuDNN's LSTM fp16 whatever type was asked for, and under bf16 nothing scales the
    loss for that. On a CPU there is none in fp16.
    """
    return torch.autocast(device, enabled=False)


def full_lstm(lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None) -> Any:
    """``lstm(inputs, state)`` with `weight_precision`."""
    dtype = lstm.all_weights[0][0].dtype
    with weight_precision(inputs.device.type):
        start = None if state is None else tuple(part.to(dtype) for part in state)
        return lstm(inputs.to(dtype), start)


class Ragged(NamedTuple):
    """N words of B texts, step by step; within a step the longest texts come first."""

    sizes: list[int]  # (T,) texts that have a word at each step, falling
    places: Tensor  # (N,) of the words in B*T
    mirrored: Tensor  # (N,) the same for the words of each text from its last to its first
    order: Tensor  # (B,) texts, the longest first
    last: Tensor  # (B,) of the last word of each text in N, in that order

    @classmethod
    def of(cls, lengths: Tensor, width: int) -> Ragged:
        """Of texts with ``lengths`` (B,) >= 1, padded to ``width`` words."""
        sorted_lengths, order = lengths.sort(descending=True, stable=True)
        steps = torch.arange(int(sorted_lengths[0])).unsqueeze(1)  # (T, 1)
        there = steps < sorted_lengths  # (T, B)
        rows = order * width
        places = (rows + steps)[there]
        mirrored = (rows + sorted_lengths - 1 - steps)[there]
        sizes = there.sum(dim=1)
        starts = sizes.cumsum(0) - sizes
        last = starts[sorted_lengths - 1] + torch.arange(len(order))
        return cls(sizes.tolist(), places, mirrored, order, last)


class _Direction(torch.autograd.Function):
    """(N, K) outputs and cells of an LSTM over (N, d) words in the order of `Ragged`."""

    @staticmethod
    def forward(
        ctx: Any,
        words: Tensor,
        input_weight: Tensor,
        weight: Tensor,
        bias: Tensor,
        sizes: list[int],
    ) -> tuple[Tensor, Tensor]:
        width = weight.shape[1]
        gates = torch.addmm(bias, words, input_weight.t())
        outputs, cells, squashed = (words.new_empty(len(words), width) for _ in range(3))
        # Views of all steps at once are cheaper than slices of each.
        parts = (gates, gates[:, : 2 * width], *gates.chunk(4, dim=1), outputs, cells, squashed)
        steps = zip(*(part.split(sizes) for part in parts), strict=True)
        hidden = last = None
        for size, (own, both, take, keep, new, show, output, cell, tanh) in zip(
            sizes, steps, strict=True
        ):
            if hidden is not None:
                own += multiply(hidden[:size], weight)
            both.sigmoid_()
            new.tanh_()
            show.sigmoid_()
            torch.mul(take, new, out=cell)
            if last is not None:
                cell.addcmul_(keep, last[:size])
            torch.mul(show, torch.tanh(cell, out=tanh), out=output)
            hidden, last = output, cell
        ctx.save_for_backward(words, input_weight, weight, gates, outputs, cells, squashed)
        ctx.sizes = sizes
        return outputs, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        words, input_weight, weight, gates, outputs, cells, squashed = ctx.saved_tensors
        sizes, width = ctx.sizes, weight.shape[1]
        take, keep, new, show = gates.chunk(4, dim=1)
        previous, first = _shifted(sizes), sizes[0]
        # What a unit of gradient on the cell (three gates) or the output (the fourth) is on a gate.
        slopes = torch.empty_like(gates)
        torch.mul(take * (1 - take), new, out=slopes[:, :width])
        slopes[:first, width : 2 * width] = 0
        later = keep[first:]
        torch.mul(later * (1 - later), cells[previous], out=slopes[first:, width : 2 * width])
        torch.mul(1 - new.square(), take, out=slopes[:, 2 * width : 3 * width])
        torch.mul(show * (1 - show), squashed, out=slopes[:, 3 * width :])
        to_cell = show * (1 - squashed.square())
        hidden, cell = words.new_zeros(2, first, width)
        parts = (slopes, keep, to_cell, *gradients)
        steps = list(zip(sizes, *(part.split(sizes) for part in parts), strict=True))
        for t, (size, own, kept, through, said, held) in reversed(list(enumerate(steps))):
            on_output = hidden[:size].add_(said)
            on_cell = cell[:size].add_(held).addcmul_(on_output, through)
            own.view(size, 4, width)[:, :3].mul_(on_cell.unsqueeze(1))
            own[:, 3 * width :].mul_(on_output)
            on_cell.mul_(kept)
            if t:
                hidden[:size] = multiply(own, weight, transposed=True)
        on_words = slopes @ input_weight if ctx.needs_input_grad[0] else None
        on_weight = slopes[first:].t() @ outputs[previous]
        return on_words, slopes.t() @ words, on_weight, slopes.sum(dim=0), None


def _shifted(sizes: list[int]) -> Tensor:
    """Places (N - B,) of the word before, for every word that is not the first of its text."""
    before, after = torch.tensor([0, *sizes]).unfold(0, 2, 1)[1:].unbind(1)
    return torch.arange(sizes[0], sum(sizes)) - before.repeat_interleave(after)


def ragged_lstm(lstm: nn.LSTM, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One LSTM layer over ``inputs`` (B, T, d) on a CPU.

    Returns:
        Outputs (B, T, K), zeros at the padding, and the last states (B, K) twice, in which the
        backward direction comes first.
    """
    batch, length = inputs.shape[:2]
    ragged = Ragged.of(lengths, length)
    flat, ends = inputs.flatten(0, 1), ragged.last[ragged.order.argsort()]
    suffixes = ("", "_reverse") if lstm.bidirectional else ("",)
    outputs, states = [], []
    for suffix in suffixes:
        places = ragged.mirrored if suffix else ragged.places
        input_weight, weight, input_bias, bias = (
            getattr(lstm, f"{name}_l0{suffix}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        said, cells = _Direction.apply(
            flat.index_select(0, places), input_weight, weight, input_bias + bias, ragged.sizes
        )
        padded = said.new_zeros(batch * length, said.shape[1]).index_copy(0, places, said)
        outputs.append(padded.view(batch, length, -1))
        states.append([part.index_select(0, ends) for part in (said, cells)])
    hidden, cell = (torch.cat(parts, dim=1) for parts in zip(*states[::-1], strict=True))
    return torch.cat(outputs, dim=2), hidden, cell
