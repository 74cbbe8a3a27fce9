"""Where the recorded cases are, and how tests walk them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fqgan.runtime.precision import ieee_fp32

sys.path.insert(0, str(Path(__file__).parent))  # for `import factories`
GOLDEN = Path(os.environ.get("FQGAN_GOLDEN", Path(__file__).parent / "golden"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cases(*patterns): recorded files, each a `case` of the test"
    )
    torch.set_num_threads(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test marked ``cases("biggan/layers/*.npz")`` once per file, or skip with the reason."""
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is None:
        return
    found = sorted(path for pattern in marker.args for path in GOLDEN.glob(pattern))
    if not found:
        reason = f"no case of kind {', '.join(marker.args)} in {GOLDEN}"
        metafunc.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
        return
    metafunc.parametrize("case", found, ids=[str(path.relative_to(GOLDEN)) for path in found])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same weights and inputs, alone or in any order."""
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where recorded cases are computed, in IEEE fp32: by `pytest -m gpu` on a GPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with ieee_fp32():
        yield torch.device(request.param)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of recorded cases: ``FQGAN_GOLDEN``, or the subset that is committed."""
    return GOLDEN
