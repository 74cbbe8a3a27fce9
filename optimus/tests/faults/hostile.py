"""Files that carry code, and the canary that shows whether it was run."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that none of the tests may bring into being."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code from a file was run"


def written(kind: str, canary: Path, path: Path) -> Path:
    """A hostile file: ``pickle``, ``global``, or torch's ``zip`` or ``legacy``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(canary), protocol=2))
    elif kind == "global":
        path.write_bytes(f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode())
    else:
        parts = {key: {"a": torch.ones(2)} for key in ("encoder", "model_state_dict")}
        content = {**parts, "args": Bomb(canary)}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path
