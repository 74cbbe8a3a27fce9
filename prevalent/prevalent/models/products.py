"""Products of few rows with large weights that serve many times before they change.

A step of a walk multiplies some twenty rows with megabytes of weights. On a CPU that is bound by
reading the weights, and oneDNN's own layout of them reads up to three times as fast as a plain
matrix; it pays from the third or fourth product on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

WORTHWHILE = 2**17  # numbers in a weight; smaller ones stay in the cache anyway
FIRST_USES = 3  # products with a plain matrix before it is laid out
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
    uses: int = 0
    tensor: Tensor | None = None


_layouts = WeakIdKeyDictionary()  # weight -> its layout and that of its transpose


def multiply(inputs: Tensor, weight: Tensor, *, transposed: bool = False, uses: int = 1) -> Tensor:
    """``inputs`` (..., i) times the transpose of ``weight`` (o, i), outside of autograd.

    Args:
        inputs: any number of rows.
        weight: a layout of it is kept until it changes.
        transposed: ``inputs`` (..., o) times ``weight`` itself instead.
        uses: how many such products are to come at least.
    """
    layout = _layout(weight, transposed, uses) if _is_suitable(inputs, weight) else None
    if layout is None:
        return inputs @ (weight if transposed else weight.t())
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


def _layout(weight: Tensor, transposed: bool, uses: int) -> Tensor | None:
    known = _layouts.setdefault(weight, {})
    found = known.get(transposed)
    if found is None or found.version != weight._version:
        found = known[transposed] = _Layout(weight._version)
    found.uses += uses
    if found.tensor is None and found.uses > FIRST_USES:
        plain = weight.detach().t().contiguous() if transposed else weight.detach()
        found.tensor = torch.ops.mkldnn._reorder_linear_weight(plain, ROWS)
    return found.tensor
