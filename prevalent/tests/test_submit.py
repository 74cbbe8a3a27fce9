"""A submission is checked before it is written."""

import json

import pytest

from prevalent.data.results import read_results
from prevalent.evaluate import SubmitConfig, submit
from tests.factories import make_scan, write_connectivity


def prepare(folder, walk):
    write_connectivity(folder / "connectivity", "house", make_scan())
    item = {"path_id": 7, "scan": "house", "heading": 0.0, "path": ["a"], "instructions": ["go"]}
    (folder / "r2r").mkdir()
    (folder / "r2r" / "R2R_test.json").write_text(json.dumps([item]))
    results = [{"instr_id": "7_0", "trajectory": [[v, 0.0, 0.0] for v in walk], "score": 1}]
    (folder / "results.json").write_text(json.dumps(results))
    return SubmitConfig(results=folder / "results.json", data_dir=folder)


def test_a_good_file_is_written_without_extra_fields(tmp_path):
    path = submit(prepare(tmp_path, "abc"))
    assert path == tmp_path / "submit_test.json"
    assert set(read_results(path, "r2r")["7_0"]) == {"instr_id", "trajectory"}


def test_a_teleport_is_refused_and_nothing_written(tmp_path):
    config = prepare(tmp_path, "ac")
    with pytest.raises(ValueError, match="'7_0' jumps at step 1"):
        submit(config)
    assert not (tmp_path / "submit_test.json").exists()
