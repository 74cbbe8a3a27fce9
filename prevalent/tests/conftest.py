"""Fixtures shared by all tests: recorded cases, real data, a private cache folder."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prevalent.demo import DemoConfig, make_world
from prevalent.runtime.precision import ieee_fp32

sys.path.insert(0, str(Path(__file__).parent))  # for `import documents`


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where recorded cases are computed, in IEEE fp32: by `pytest -m gpu` on a GPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with ieee_fp32():
        yield torch.device(request.param)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of cases recorded with the authors' code."""
    return Path(os.environ.get("PREVALENT_GOLDEN") or Path(__file__).parent / "golden")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data; the test is skipped where it is absent."""
    folder = os.environ.get("PREVALENT_DATA")
    if not folder:
        pytest.skip("PREVALENT_DATA does not name a folder of real data")
    if not Path(folder).is_dir():
        pytest.skip(f"PREVALENT_DATA names {folder}, which is no folder")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    """Keep graph caches of the tests out of the user's cache folder."""
    before = os.environ.get("PREVALENT_CACHE")
    os.environ["PREVALENT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["PREVALENT_CACHE"]
    else:
        os.environ["PREVALENT_CACHE"] = before


@pytest.fixture(scope="session")
def real_graphs(data_dir, _private_cache):
    """Graphs of the 90 Matterport3D scans."""
    from prevalent.simulator.graph import Graphs

    return Graphs.load(data_dir / "connectivity")


@pytest.fixture(scope="session")
def toy_world(tmp_path_factory) -> Path:
    """Data folder of one training and one unseen house, made by code."""
    folder = tmp_path_factory.mktemp("toy_world")
    make_world(folder, DemoConfig(smallest=True, houses=1))
    return folder
