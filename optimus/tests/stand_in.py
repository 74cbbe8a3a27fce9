"""A CUDA device that is none: code for a device runs on the CPU, and what CUDA refuses is refused.

Inside `stand_in` PyTorch seems to have a CUDA device. Tensors that are made without a device are
the host's; ``device=``, `to` and `cuda` put them on the stand-in. A call that mixes the two, reads
one of the device as an array or draws with a generator of the other place raises `WrongDevice`.
What PyTorch makes by itself, such as gradients, counts as the device's. Copies between the two for
which the host would wait are noted. Nothing is said about kernels, speed or memory, and there are
no CUDA graphs.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch._dynamo.trace_rules import get_torch_obj_rule_map
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
MOVING = ("copy_", "set_", "is_pinned", "_has_compatible_shallow_copy_type")
READING = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "__repr__")
MAKING = ("tensor", "as_tensor", "asarray")  # of numbers that the host has
INDEXING = ("__getitem__", "__setitem__", "index_put", "index_put_")
PACKING = ("_pack_padded_sequence", "_pad_packed_sequence")  # sizes stay on the host
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")  # are given those sizes


class WrongDevice(RuntimeError):
    """CUDA would have refused this."""


class StandIn(TorchFunctionMode):
    """Knows what is the host's; everything else is on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.host: dict[int, Any] = {}  # storage -> what forgets it
        self.generators: weakref.WeakSet[torch.Generator] = weakref.WeakSet()  # of the device
        self.waits: Counter[str] = Counter()  # file:function -> copies that the host waits for

    def give_to_host(self, value: Any) -> None:
        for tensor in tensors(value):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.host:
                self.host[key] = weakref.finalize(storage, self.host.pop, key, None)

    def of_host(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.host

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "__get__":
            return self._attribute(getattr(func.__self__, "__name__", ""), args[0], func(*args))
        if name in ("__set__", "__delete__"):
            return func(*args, **kwargs)
        if name in ("numpy", "__array__") and not self.of_host(args[0]):
            raise WrongDevice("a tensor of the device is no array")
        if name == "pin_memory":
            if not self.of_host(args[0]):
                raise WrongDevice("only tensors of the host can be pinned")
            return self._copy(args[0], host=True)
        if name in ("cpu", "cuda"):
            if self.of_host(args[0]) == (name == "cpu"):
                return args[0]
            self._wait()
            return self._copy(args[0], host=name == "cpu")
        if name == "to":
            return self._to(func, *args, **kwargs)
        device = kwargs.get("device")
        if device is not None:
            device = CUDA if isinstance(device, int) else torch.device(device)
            kwargs["device"] = "cpu" if device.type == "cuda" else device
        given = tensors((args, kwargs))
        if name in READING and not self.of_host(args[0]):
            self._wait()
        self._check(name, given, args)
        wanted = self.of_host(given[0]) if given else True
        on_host = device.type == "cpu" if device is not None else wanted
        noise = kwargs.get("generator")
        if noise is not None and on_host == (noise in self.generators):
            raise WrongDevice(f"{name}: the generator is of the other place")
        out = func(*args, **kwargs)
        there = bool(given) and not self.of_host(given[0])
        if name in MAKING and not on_host and not there and out.numel():
            self._wait()
        if name in PACKING:
            self.give_to_host(out[1])
        elif name not in READING:
            if device is None and given:
                on_host = all(self.of_host(one) for one in given)
            if on_host:
                self.give_to_host([one for one in tensors(out) if not _is_in(one, given)])
            elif any(self.of_host(one) for one in tensors(out)):  # shares its memory: as_tensor
                out = tree_map(lambda one: self._copy(one, host=False), out)
        return out

    def _attribute(self, name: str, tensor: torch.Tensor, value: Any) -> Any:
        if name == "device" and value.type == "cpu":
            return value if self.of_host(tensor) else CUDA
        if name in ("is_cuda", "is_cpu"):
            return self.of_host(tensor) == (name == "is_cpu")
        return value

    def _copy(self, tensor: Any, *, host: bool) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        out = tensor.clone()
        if host:
            self.give_to_host(out)
        return out

    def _to(self, func: Any, tensor: torch.Tensor, *rest: Any, **kwargs: Any) -> torch.Tensor:
        names = ["dtype", "non_blocking", "copy"]
        if rest and isinstance(rest[0], torch.Tensor):
            kwargs["device"] = "cpu" if self.of_host(rest[0]) else CUDA
            rest = (rest[0].dtype, *rest[1:])
        elif rest and not isinstance(rest[0], torch.dtype):
            names.insert(0, "device")
        kwargs |= dict(zip(names, rest, strict=False))
        device = kwargs.pop("device", None)
        waits = not kwargs.pop("non_blocking", None)
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        if device is not None and torch.device(device).type == "meta":
            return func(tensor, "meta")
        host = self.of_host(tensor)
        wanted = host if device is None else torch.device(device).type == "cpu"
        if wanted != host and (waits or wanted):
            self._wait()
        out = func(tensor, **kwargs) if kwargs else tensor
        if out.untyped_storage()._cdata == tensor.untyped_storage()._cdata:
            return out if wanted == host else self._copy(out, host=wanted)
        if wanted:
            self.give_to_host(out)
        return out

    def _wait(self) -> None:
        """Note who copies: the innermost function that is neither PyTorch's nor of this file."""
        frame = sys._getframe(2)
        while (
            "torch" in Path(frame.f_code.co_filename).parts or frame.f_code.co_filename == __file__
        ):
            frame = frame.f_back  # type: ignore[assignment]
        self.waits[f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}"] += 1

    def _check(self, name: str, given: list[torch.Tensor], args: Any) -> None:
        """Raise where tensors of both places meet; single numbers of the host may go anywhere."""
        places = {self.of_host(one) for one in given if one.dim() or not self.of_host(one)}
        if len(places) < 2 or name in (*MOVING, *RECURRENT):
            return
        if name in PACKING:
            if not self.of_host(args[1]):
                raise WrongDevice(f"{name}: the sizes must be the host's")
        elif name not in INDEXING or self.of_host(args[0]):  # the device takes indices of the host
            shapes = ", ".join(
                f"{tuple(one.shape)} {'host' if self.of_host(one) else 'device'}" for one in given
            )
            raise WrongDevice(f"{name}: tensors of both places, {shapes}")


def _is_in(tensor: torch.Tensor, given: list[torch.Tensor]) -> bool:
    return any(tensor is one for one in given)


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors inside, those of packed sequences too."""
    leaves = tree_leaves(value)
    return [one for one in leaves if isinstance(one, torch.Tensor) and one.layout is torch.strided]


class Event:
    """Of a stream: a millisecond after any other."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self, *_: Any) -> None: ...
    def synchronize(self) -> None: ...

    def elapsed_time(self, _: Any) -> float:
        return 1.0


@contextlib.contextmanager
def stand_in() -> Iterator[StandIn]:
    """CUDA, as far as the code inside can see."""
    mode = StandIn()
    get_torch_obj_rule_map()  # torch.compile learns PyTorch's functions here, not the stand-in's
    with contextlib.ExitStack() as stack:
        for owner, replaced in _replacements(mode).items():
            for name, value in replaced.items():
                stack.enter_context(mock.patch.object(owner, name, value))
        stack.enter_context(mode)
        yield mode


def _replacements(mode: StandIn) -> dict[Any, dict[str, Any]]:
    """What is put in the place of PyTorch's own, by module."""
    from_numpy, load, run = torch.from_numpy, torch.load, threading.Thread.run
    generator, autocast, scaler = torch.Generator, torch.autocast, torch.amp.GradScaler

    def kept_on_host(array: Any) -> torch.Tensor:
        out = from_numpy(array)
        mode.give_to_host(out)
        return out

    def loaded(*args: Any, map_location: Any = None, **options: Any) -> Any:
        out = load(*args, map_location="cpu", **options)
        if map_location is None or torch.device(map_location).type == "cpu":
            mode.give_to_host(out)
        return out

    def run_inside(thread: threading.Thread) -> None:
        with mode:
            run(thread)

    def of_the_cpu(function: Any) -> Any:
        return lambda kind, *rest: function("cpu" if kind == "cuda" else kind, *rest)

    class Generator(generator):  # type: ignore[misc, valid-type]
        def __new__(cls, device: Any = "cpu") -> Any:
            made = generator.__new__(cls)
            if torch.device(device).type == "cuda":
                mode.generators.add(made)
            return made

    class Autocast(autocast):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *args: Any, **options: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **options)

    class GradScaler(scaler):  # type: ignore[misc, valid-type]
        def __init__(self, device: str = "cuda", *args: Any, **options: Any) -> None:
            super().__init__("cpu", *args, **options)

    def nothing() -> Any:  # another one at every call: torch.compile asks which function it is
        return lambda *_, **__: None

    silent = (
        *("synchronize", "set_device", "set_rng_state", "set_rng_state_all", "manual_seed"),
        *("manual_seed_all", "reset_peak_memory_stats", "set_sync_debug_mode"),
    )
    cuda: dict[str, Any] = {name: nothing() for name in silent}
    cuda |= {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "stand-in",
        "get_device_capability": lambda *_: (9, 0),
        "is_bf16_supported": lambda *_, **__: True,
        "is_current_stream_capturing": lambda: False,
        "mem_get_info": lambda *_: (2**33, 2**34),
        "max_memory_allocated": lambda *_: 2**20,
        "get_rng_state": lambda *_: torch.zeros(1, dtype=torch.uint8),
        "get_rng_state_all": list,
        "Event": Event,
    }
    own = {"from_numpy": kept_on_host, "load": loaded, "Generator": Generator, "autocast": Autocast}
    own |= {name: of_the_cpu(getattr(torch, name))
            for name in ("is_autocast_enabled", "get_autocast_dtype")}  # fmt: skip
    return {
        torch: own,
        torch.cuda: cuda,
        torch.amp: {"autocast": Autocast, "GradScaler": GradScaler},
        torch.backends.cudnn: {"is_acceptable": lambda _: False},
        threading.Thread: {"run": run_inside},
    }
