"""Files of others, read without running what is in them, and a report of every tensor."""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Report:
    """What became of every tensor of one file and of one network."""

    name: str
    loaded: dict[str, tuple[int, ...]]  # tensor -> shape
    missing: tuple[str, ...]  # the network has it, the file has not
    unexpected: tuple[str, ...]  # the file has it, the network has not
    mismatched: tuple[str, ...]  # "name: shape in the file, shape in the network"
    filled: tuple[str, ...] = ()  # absent in this kind of file by nature, set to its first value

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        return (
            f"{self.name}: {len(self.loaded)} tensors loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} of another shape"
            + (f", {len(self.filled)} filled in" if self.filled else "")
        )

    def text(self) -> str:
        """The summary and one line per tensor."""
        lines = [self.summary()]
        lines += [f"  loaded      {name} {list(shape)}" for name, shape in self.loaded.items()]
        for word in ("missing", "unexpected", "mismatched", "filled"):
            lines += [f"  {word:<11} {name}" for name in getattr(self, word)]
        return "\n".join(lines)


def load_with_report(
    network: nn.Module, state: State, name: str, *, filled: tuple[str, ...] = ()
) -> Report:
    """Load what fits and say what does not; nothing is loaded silently or left silently.

    Args:
        network: to be loaded into.
        state: tensors under the network's names.
        name: of the network, for the report.
        filled: entries of ``state`` that were not in the file.
    """
    own = network.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    mismatched = tuple(
        f"{key}: {list(value.shape)} in the file, {list(own[key].shape)} in the network"
        for key, value in state.items()
        if key in own and own[key].shape != value.shape
    )
    network.load_state_dict(fitting, strict=False)
    return Report(
        name,
        {key: tuple(value.shape) for key, value in fitting.items() if key not in filled},
        tuple(key for key in own if key not in state),
        tuple(key for key in state if key not in own),
        mismatched,
        filled,
    )


def require_complete(reports: Sequence[Report], source: Path) -> None:
    """Raise ``ValueError`` naming ``source`` and the first tensor that does not fit."""
    for report in reports:
        if not report.complete:
            first = (*report.mismatched, *report.missing, *report.unexpected)[0]
            raise ValueError(f"{source} does not fit: {report.summary()}; the first is {first}")


def write_report(out: Path, reports: Sequence[Report]) -> None:
    """``report.txt`` in the folder ``out``: one line per tensor."""
    (out / "report.txt").write_text("\n".join(report.text() for report in reports) + "\n")


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of torch.save before version 1.6
PLAIN_KINDS = "biufc"  # numpy types whose scalars are plain numbers


class InertModule:
    """Stands where a file has an activation module; holds its attributes and does nothing."""


class InertDtype:
    """Stands for ``numpy.dtype`` in a file: a name and a byte order."""

    def __init__(self, name: str, align: bool = False, copy: bool = False) -> None:
        self.name = name
        self.order: Literal["<", ">"] = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def plain_scalar(dtype: InertDtype, data: bytes | str = b"") -> int | float | bool | complex:
    """Stands for numpy's scalar constructor; gives a Python number."""
    kind = np.dtype(dtype.name).newbyteorder(dtype.order)
    if kind.kind not in PLAIN_KINDS:
        raise pickle.UnpicklingError(f"a numpy scalar of type {dtype.name}")
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, kind, count=1)[0].item()


ACTIVATIONS = ("ReLU", "LeakyReLU", "ELU", "SELU", "Tanh", "Softplus")
STAND_INS: dict[str, Any] = {
    **{f"torch.nn.modules.activation.{name}": InertModule for name in ACTIVATIONS},
    "numpy.dtype": InertDtype,
    "numpy.core.multiarray.scalar": plain_scalar,
    "numpy._core.multiarray.scalar": plain_scalar,
}


CONTAINERS = {
    "collections.OrderedDict": collections.OrderedDict,
    "builtins.set": set,
    "__builtin__.set": set,  # its name in Python 2, which protocol 2 keeps
}


def load_torch_file(path: str | Path) -> Any:
    """What ``torch.save`` wrote to ``path``, with tensors on the CPU.

    Both serialisations are read. Activation modules come back as `InertModule`, numpy scalars as
    Python numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, a damaged one, or one with anything but weights and numbers.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder; give the file in it" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}")
    # A list of pairs: torch accepts (object, name in the file) since 2.6.
    allowed: list[Any] = [(value, name) for name, value in STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            return _load_legacy_without_tensors(path, str(error))
        raise ValueError(_refusal(path, str(error))) from None
    except Exception as error:  # a damaged stream of bytes can lead to any of them
        raise ValueError(
            f"{path} is not a readable PyTorch file ({_first_line(str(error))}); "
            "fetch or copy it again"
        ) from None


class _PlainUnpickler(pickle.Unpickler):
    """Containers, numbers, strings and stand-ins; anything else is an error before it is made."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in CONTAINERS:
            return CONTAINERS[f"{module}.{name}"]
        if f"{module}.{name}" in STAND_INS:
            return STAND_INS[f"{module}.{name}"]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, saved_id: Any) -> Any:
        """Old files name the class of a module together with its source text, which is ignored."""
        if isinstance(saved_id, tuple) and saved_id and saved_id[0] == "module":
            return saved_id[1]  # already a stand-in, through find_class
        raise pickle.UnpicklingError("a tensor beside modules")


def _load_legacy_without_tensors(path: Path, first_error: str) -> Any:
    """The old serialisation of a ``state_dict.pth``: modules and numbers, which torch refuses."""
    try:
        with path.open("rb") as file:
            if _PlainUnpickler(file).load() != LEGACY_MAGIC:
                raise pickle.UnpicklingError("no file of torch.save")
            _PlainUnpickler(file).load()  # protocol version
            _PlainUnpickler(file).load()  # sizes of the writer's machine
            return _PlainUnpickler(file).load()
    except pickle.UnpicklingError as error:
        raise ValueError(_refusal(path, f"{error}; {first_error}")) from None
    except Exception as error:  # a damaged pickle stream can raise nearly anything
        raise ValueError(
            f"{path} is not a readable PyTorch file ({_first_line(str(error))}); "
            "fetch or copy it again"
        ) from None


def load_record_pickle(path: str | Path, records: Collection[str]) -> Any:
    """A pickle of plain data, numpy arrays and instances of some classes, as `Record`.

    Args:
        path: of the file.
        records: full names of the classes whose instances come back as `Record`; their code is
            neither looked for nor run.

    Returns:
        What was pickled. Arrays are `PickledArray` until they are asked for.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, a damaged one, or one that names anything else.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder; give the file in it" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}")
    try:
        with path.open("rb") as file:
            return _RecordUnpickler(file, records).load()
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was not loaded, because it holds something other than plain data and arrays "
            f"({_first_line(str(error))})"
        ) from None
    except Exception as error:  # a damaged pickle stream can raise nearly anything
        raise ValueError(
            f"{path} is not a readable pickle ({_first_line(str(error))}); fetch or copy it again"
        ) from None


DICTIONARIES = ("collections.OrderedDict", "dnnlib.util.EasyDict")


def _refuse_state(owner: Any, state: Any) -> None:
    raise pickle.UnpicklingError("a dictionary or function with attributes")


class Record:
    """An instance of somebody's class: its name and its state, nothing that can be called."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class PickledArray:
    """What a pickled numpy array consists of; `numpy` puts it together."""

    def __init__(self) -> None:
        self._parts: tuple[tuple[int, ...], InertDtype, bool, Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_order, raw = state
        self._parts = (shape, dtype, column_order, raw)

    def numpy(self) -> np.ndarray:
        """The array; raises ``ValueError`` where it is damaged or holds no plain numbers."""
        if self._parts is None:
            raise ValueError("an array without content")
        shape, dtype, column_order, raw = self._parts
        if not isinstance(dtype, InertDtype) or not isinstance(raw, (bytes, str)):
            raise ValueError("an array of something other than plain numbers")
        try:
            kind = np.dtype(dtype.name).newbyteorder(dtype.order)
        except TypeError:
            raise ValueError(f"an array of the unknown type {dtype.name!r}") from None
        if kind.kind not in PLAIN_KINDS:
            raise ValueError(f"an array of type {dtype.name}")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        flat = np.frombuffer(content, kind).astype(kind.newbyteorder("="))
        return flat.reshape(shape, order="F" if column_order else "C")


def _from_buffer(raw: bytes, dtype: InertDtype, shape: tuple[int, ...], order: str) -> PickledArray:
    array = PickledArray()
    array.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
    return array


class _Function:
    """A function under a name of the file; a new one for every file, so that none can be altered.

    A pickle can set attributes of whatever it names; an object without any refuses that.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *words: Any) -> Any:
        return self._call(*words)

    __setstate__ = _refuse_state


class _RecordUnpickler(pickle.Unpickler):
    """Plain data, arrays and records; any other name is an error before anything is made of it."""

    def __init__(self, file: BinaryIO, records: Collection[str]) -> None:
        super().__init__(file, encoding="latin1")

        def as_latin1(text: str, codec: str = "latin1") -> bytes:
            if codec not in ("latin1", "latin-1"):
                raise pickle.UnpicklingError(f"the codec {codec}")
            return text.encode("latin1")

        self._known: dict[str, Any] = {
            "_codecs.encode": _Function(as_latin1),  # bytes in protocols 0 to 2
            "numpy.dtype": _Function(InertDtype),
            "numpy.ndarray": _Function(PickledArray),
        }
        for package in ("numpy.core.multiarray", "numpy._core.multiarray"):
            self._known[f"{package}._reconstruct"] = _Function(lambda *_: PickledArray())
            self._known[f"{package}.scalar"] = _Function(plain_scalar)
        for package in ("numpy.core.numeric", "numpy._core.numeric"):
            self._known[f"{package}._frombuffer"] = _Function(_from_buffer)  # protocol 5
        # Pickle insists on a class for instances: one of its own for every file. Its own
        # __setstate__ is what an attempt to change the class itself would meet, and fail at.
        for name in records:
            self._known[name] = type("Record", (Record,), {"__setstate__": Record.__setstate__})
        for name in DICTIONARIES:
            self._known[name] = type("PlainDict", (dict,), {"__setstate__": _refuse_state})

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self._known:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return self._known[f"{module}.{name}"]


def _refusal(path: Path, reason: str) -> str:
    return (
        f"{path} was not loaded, because it holds something other than tensors, numbers and known "
        f"activations ({_first_line(reason)}); a file of weights needs no such thing"
    )


def _first_line(text: str) -> str:
    return (text.strip() or "no reason given").splitlines()[0][:160]
