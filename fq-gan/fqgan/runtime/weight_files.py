"""Weight files of other people: read without running what is in them, and held against a model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def read_weight_file(path: str | Path, allowed: Sequence[Any] = ()) -> Any:
    """What a ``.safetensors`` file or one of ``torch.save`` (both containers) holds, on the CPU.

    Args:
        path: the file.
        allowed: what may be built besides tensors, containers, numbers and strings: a class, or a
            pair of what stands in for a name and that name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds anything else; nothing in it was run.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; give a .safetensors, .bin, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is refused: it holds more than tensors and plain values, and reading that "
            f"could run code ({_reason(str(error))}); ask its author for a plain state_dict"
        ) from None
    except Exception as error:  # a damaged stream of bytes can lead to any of them
        raise ValueError(
            f"{path} is no whole weight file ({_reason(str(error))}); fetch or copy it again"
        ) from None


class TensorReport(NamedTuple):
    """How the tensors of a file fit a model."""

    matched: list[str]
    missing: list[str]
    """In the model only."""
    unexpected: list[str]
    """In the file only."""
    wrong_shape: list[str]
    """``name: shape in the file instead of shape in the model``."""

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.wrong_shape)

    def summary(self) -> str:
        """The numbers of tensors, in a line."""
        return (
            f"{len(self.matched)} tensors fit, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.wrong_shape)} of another shape"
        )

    def require_complete(self, origin: str | Path) -> None:
        """Raise ``ValueError`` unless every tensor fits; it names the first that does not."""
        for title in ("wrong_shape", "missing", "unexpected"):
            names = getattr(self, title)
            if names:
                raise ValueError(
                    f"{origin} does not fit the model: {self.summary()}; the first "
                    f"{title.replace('_', ' ')} is {names[0]}"
                )


def compare_tensors(model: nn.Module, state: Mapping[str, Any]) -> TensorReport:
    """How ``state`` fits ``model``; nothing is loaded.

    Raises:
        ValueError: a value of ``state`` is no tensor.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise ValueError(f"the weights hold {name!r}, a {kind} and no tensor; fetch them again")
    ours = model.state_dict()
    shared = [name for name in ours if name in state]
    wrong = [name for name in shared if ours[name].shape != state[name].shape]
    return TensorReport(
        matched=[name for name in shared if name not in wrong],
        missing=[name for name in ours if name not in state],
        unexpected=[name for name in state if name not in ours],
        wrong_shape=[
            f"{name}: {tuple(state[name].shape)} instead of {tuple(ours[name].shape)}"
            for name in wrong
        ],
    )


def _reason(message: str) -> str:
    """The one informative line of torch's long advice, which would have the reader trust it."""
    lines = message.strip().splitlines() or ["unknown format"]
    telling = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (telling or lines)[0].strip().split(". Please")[0][:160]
