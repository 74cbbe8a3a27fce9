"""Counts of the data and sizes of the networks are recomputed as recorded."""

import importlib.util
from pathlib import Path

import pytest

from prevalent.runtime.published import find_folder, read_evidence

ROOT = Path(__file__).parents[1]
RECORDED = {
    (record.id, one.row): float(one.value)
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
    sizes = script.networks()
    three = RECORDED["network-sizes", "parameters with three cross-modal layers"]
    four = RECORDED["network-sizes", "parameters with four cross-modal layers, as released"]
    assert [*sizes.values()] == [three, four]
    for name, size in script.agents().items():
        assert RECORDED["network-sizes", f"parameters of the agent: {name}"] == size


def test_the_data_have_the_recorded_sizes(script, data_dir):
    found = script.room_to_room(data_dir) | script.graphs(data_dir) | script.dialogs(data_dir)
    triplets = "triplets of train, val seen and val unseen"
    for name, key, factor in (
        ("R2R paths", ("data-counts", "paths"), 1),
        ("panoramas", ("data-counts", "panoramas"), 1),
        ("R2R triplets of all splits with paths", ("data-counts", triplets), 1000),
        ("R2R train, triplets", ("data-counts", "triplets of train alone"), 1000),
        ("R2R instructions", ("r2r-counts", "instructions"), 1),
        ("R2R vocabulary", ("r2r-counts", "vocabulary"), 1000),
        (
            "R2R words and punctuation of an instruction",
            ("r2r-counts", "words and punctuation of an instruction"),
            1,
        ),
    ):
        assert found[name] == pytest.approx(factor * RECORDED[key], rel=2e-4), name
    assert (found["NDH val_seen, items"], found["NDH val_unseen, items"]) == (382, 907)
