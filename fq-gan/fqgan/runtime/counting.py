"""What a step asks of a device, counted on a CPU: kernels, casts, memory, and waits of the host.

A kernel is an operation that computes; views and empty memory are none. An allocation is a storage
that an operation gives back and was not given; what it needs for itself while it runs is not seen.
On a device the host waits where it needs a value or a size that the device has to find: `WAITING`,
a mask as an index, and the methods that hand values to Python. Operations that add in any order on
a GPU and have no other form there are counted too: `--deterministic` would end at them.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")
INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_")
CASTS = ("_to_copy", "to", "copy_")
FREE = ("empty", "empty_like", "empty_strided", "new_empty", "detach", "alias", "lift_fresh")
UNREPEATABLE = (
    *("avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"),
    *("adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "max_unpool2d"),
    *("fractional_max_pool3d_backward", "max_unpool3d", "upsample_linear1d_backward"),
    *("upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
    *("upsample_trilinear3d_backward", "reflection_pad1d_backward", "reflection_pad2d_backward"),
    *("reflection_pad3d_backward", "replication_pad1d_backward", "replication_pad2d_backward"),
    *("replication_pad3d_backward", "nll_loss2d_forward", "nll_loss2d_backward"),
    *("_ctc_loss_backward", "put", "put_", "histc", "median", "kthvalue"),
    *("grid_sampler_2d_backward", "grid_sampler_3d_backward"),
)
"""What `torch.use_deterministic_algorithms` documents to raise on CUDA, whatever the types are."""
PACKAGE = Path(__file__).resolve().parent.parent

COLUMNS = f"{'kernels':>9}{'casts':>7}{'allocations':>13}{'MB':>8}{'peak MB':>9}"
"""Heads of `Counts.columns`."""


class Counts(NamedTuple):
    """Of a step."""

    kernels: Counter[str]
    casts: int  # kernels that do nothing but change the type
    waits: Counter[str]  # file:function of this package -> how often the host waits there
    unrepeatable: Counter[str]  # operation -> how often, of those that --deterministic refuses
    memory: Memory

    def columns(self) -> str:
        """Kernels, casts, allocations, and MB allocated and held at most, below `COLUMNS`."""
        memory, kernels = self.memory, sum(self.kernels.values())
        numbers = f"{kernels:>9}{self.casts:>7}{sum(memory.allocations.values()):>13}"
        return f"{numbers}{memory.allocated / 1e6:>8.2f}{memory.peak / 1e6:>9.2f}"


class Memory(NamedTuple):
    """What a step allocates, above what it finds."""

    allocations: Counter[str]  # operation -> how often it gave new memory
    allocated: int  # bytes, all together
    peak: int  # bytes that were held at one time, at most


def count(step: Callable[[], Any], *, on_the_host: tuple[str, ...] = ()) -> Counts:
    """Counts of one call of ``step``.

    Args:
        step: what to count.
        on_the_host: files and functions, such as ``text.py`` and ``optimizer.py:step``, whose
            tensors stay on the CPU, so that nothing waits for a device there.
    """
    kernels, asked = _Kernels(), _Waits()
    with asked, kernels:
        step()
    found = asked.found + kernels.waits
    waits = {
        place: number
        for place, number in found.items()
        if place not in on_the_host and place.partition(":")[0] not in on_the_host
    }
    return Counts(
        kernels.found, kernels.casts, Counter(waits), kernels.unrepeatable, kernels.memory()
    )


class _Kernels(TorchDispatchMode):
    """Counts operations below autograd, where autocast's casts are seen."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.casts = 0
        self.waits: Counter[str] = Counter()
        self.unrepeatable: Counter[str] = Counter()
        self.allocations: Counter[str] = Counter()
        self._allocated = self._held = self._peak = 0

    def memory(self) -> Memory:
        return Memory(self.allocations, self._allocated, self._peak)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        if not (func.is_view or name in FREE):
            self.found[name] += 1
            if name in CASTS and tensors and isinstance(out, torch.Tensor):
                self.casts += out.dtype != tensors[-1].dtype
        if name in WAITING or (name in INDEXED and _has_mask(args)):
            self.waits[_caller()] += 1
        if name in UNREPEATABLE or _adds_in_any_order(name, args):
            self.unrepeatable[name] += 1
        self._see_new_memory(name, (args, kwargs), out)
        return out

    def _see_new_memory(self, name: str, given: Any, out: Any) -> None:
        """Count the storages of ``out`` that are none of those ``given``, until they are freed."""
        known = {one.data_ptr() for one in _storages(given)}
        for storage in _storages(out):
            size, place = storage.nbytes(), storage.data_ptr()
            if size and place not in known:
                known.add(place)
                self.allocations[name] += 1
                self._allocated += size
                self._held += size
                self._peak = max(self._peak, self._held)
                weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self._held -= size


class _Waits(TorchFunctionMode):
    """Counts what Python asks of tensors where no operation shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        # `item` and its like end in `_local_scalar_dense`; behind `cpu` nothing is waited for.
        if getattr(func, "__name__", "") in ("cpu", "tolist"):
            self.found[_caller()] += 1
        return func(*args, **(kwargs or {}))


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    for one in tree_leaves(values):
        if isinstance(one, torch.Tensor) and one.layout is torch.strided:
            yield one.untyped_storage()


def _has_mask(args: tuple[Any, ...]) -> bool:
    indices = args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    masks = (torch.bool, torch.uint8)
    return any(isinstance(one, torch.Tensor) and one.dtype in masks for one in indices)


def _adds_in_any_order(name: str, args: tuple[Any, ...]) -> bool:
    """Sums along a row, and weighted counts, of floating numbers."""
    if name == "cumsum":
        return bool(args[0].is_floating_point())
    return name == "bincount" and len(args) > 1 and args[1] is not None


def _caller() -> str:
    """The innermost function of this package that led here, as ``file.py:function``."""
    for frame in _frames():
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE) and path.name != "counting.py":
            return f"{path.name}:{frame.f_code.co_name}"
    return "elsewhere"


def _frames() -> Iterator[Any]:
    frame = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]
