"""Products of few rows with large weights that serve many times before they change.

A step of a walk multiplies some twenty rows with megabytes of weights. On a CPU that is bound by
reading the weights, and oneDNN's own layout of them reads up to three times as fast as a plain
matrix; it pays from the third or fourth product on. The layout is chosen by sizes alone, never by
what came before, so that a continued run computes what an uninterrupted one does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
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
