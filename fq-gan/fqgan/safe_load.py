"""Reading other people's ``.pth`` files without running what is in them.

The only module that unpickles. Files are read with ``weights_only=True`` and a short list of
further names, each replaced by an inert class or function of this module. Nothing here falls back
to unrestricted unpickling.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

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
        raise FileNotFoundError(f"there is no file {path}")
    # A list of pairs: torch accepts (object, name in the file) since 2.6.
    allowed: list[Any] = [(value, name) for name, value in STAND_INS.items()]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            return _load_legacy_without_tensors(path, str(error))
        raise ValueError(_refusal(path, str(error))) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
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


def _refusal(path: Path, reason: str) -> str:
    return (
        f"{path} was not loaded, because it holds something other than tensors, numbers and known "
        f"activations ({_first_line(reason)}); a file of weights needs no such thing"
    )


def _first_line(text: str) -> str:
    return (text.strip() or "no reason given").splitlines()[0][:160]
