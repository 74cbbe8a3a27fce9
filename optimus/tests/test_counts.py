"""Counts of the data and sizes of the networks are recomputed as recorded."""

import importlib.util
import os
from pathlib import Path

import pytest

from optimus.runtime.published import find_folder, read_evidence

ROOT = Path(__file__).parents[1]
RECORDED = {
    (record.id, one.row, one.data): float(one.value)
    for record in read_evidence(find_folder("evidence"))
    for one in record.results
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("counts", ROOT / "evidence" / "counts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_networks_have_the_recorded_sizes(script):
    for name, size in script.networks().items():
        _, model, part = name.split(", ")
        assert size == RECORDED["network-sizes", model, part]


def test_the_data_have_the_recorded_sizes(script):
    folder = os.environ.get("OPTIMUS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("OPTIMUS_DATA does not name a folder of real data")
    counts = script.data(Path(folder)) | script.vocabularies(Path(folder))
    for task in ("SST-2", "CoLA", "STS-B", "MRPC", "RTE"):
        thousands = RECORDED["data-counts", task, "size"]
        assert counts[f"GLUE {task}, training"] == pytest.approx(1000 * thousands)
    assert counts["GLUE WNLI, training"] == RECORDED["data-counts", "WNLI", "size"]
    for name in ("BERT, cased", "GPT-2 and three tokens"):
        assert counts[name] == RECORDED["data-counts", name, "size"]
