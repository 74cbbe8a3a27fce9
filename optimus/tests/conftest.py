"""Fixtures of all tests, and the folder of ``factories`` on the import path."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def golden() -> Path:
    """The recorded cases: ``OPTIMUS_GOLDEN``, or the small set that comes with the tests."""
    return Path(os.environ.get("OPTIMUS_GOLDEN") or Path(__file__).parent / "golden")


@pytest.fixture
def golden_kind(golden: Path) -> Callable[..., Path]:
    """The folder of one kind of case; the test is skipped where it, or a file of it, is absent."""

    def find(kind: str, *files: str) -> Path:
        folder = golden / kind
        for path in (folder, *(folder / name for name in files)):
            if not path.exists():
                pytest.skip(f"{golden} has no {path.relative_to(golden)}")
        return folder

    return find
