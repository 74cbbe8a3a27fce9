"""Reading other people's torch files: an allow-list, and nothing in the file is ever run."""

from __future__ import annotations

import argparse
import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# What the authors' files hold besides tensors: the arguments of a run, its device, and a numpy
# number. None of these does anything when it is built. numpy renamed the module of `scalar`.
_SCALAR = np.float64().__reduce__()[0]
_ALLOWED: list[Any] = [
    argparse.Namespace,
    torch.device,
    np.dtype,
    type(np.dtype("float64")),
    type(np.dtype("float32")),
    type(np.dtype("int64")),
    codecs.encode,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


def load_untrusted(path: Path) -> Any:
    """Read a ``.bin``, ``.pt``, ``.pth`` or ``.safetensors`` file on the CPU without running it.

    Tensors, plain containers and numbers, ``argparse.Namespace``, ``torch.device`` and numpy
    numbers are built (the zip format of torch and the older one alike); anything else in the file
    raises ``ValueError`` before it is looked at.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} was refused, nothing in it was run: {_reason(str(error))}; if you trust the "
            "file, write its tensors to a .safetensors file yourself and give that one"
        ) from error
    except (RuntimeError, OSError, EOFError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} is not a readable torch file, it may be cut short: {_reason(str(error))}"
        ) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``, alone or under ``model_state_dict``/``state_dict``/``model``."""
    content = load_untrusted(path)
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no tensors by name; expected a model's state dict")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _reason(message: str) -> str:
    """The one informative line of torch's long advice, which would have the reader trust it."""
    for line in message.splitlines():
        if "Unsupported" in line or "GLOBAL" in line or "operand" in line:
            return line.strip().split(". Please")[0]
    return message.splitlines()[0].strip() if message.strip() else "unknown format"
