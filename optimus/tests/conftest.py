"""Fixtures of all tests, and the folder of ``factories`` on the import path."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from optimus.runtime.precision import ieee_fp32

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where recorded cases are computed, in IEEE fp32: by `pytest -m gpu` on a GPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with ieee_fp32():
        yield torch.device(request.param)


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


@pytest.fixture
def ends(capsys) -> Callable[..., str]:
    """Runs ``optimus WORDS``; what it printed, or the one sentence of a refusal (status 2)."""
    from optimus.__main__ import main

    def end(*words: object, status: int = 0) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        output = capsys.readouterr()
        assert stopped.value.code == status, output.err
        assert "Traceback" not in output.err
        return output.err.strip().splitlines()[-1] if status else output.out

    return end


@pytest.fixture
def fails(ends) -> Callable[..., str]:
    """The one sentence with which ``optimus WORDS`` exits with status 2."""
    return lambda *words: ends(*words, status=2)
