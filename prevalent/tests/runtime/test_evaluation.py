"""An evaluation says what it scored, and a trial never takes the place of a whole one."""

import json
import subprocess
from pathlib import Path

from prevalent.runtime.evaluation import Provenance, versions, write_evaluation


def test_scores_stand_beside_what_they_are_scores_of(tmp_path):
    about = Provenance("toy", "test", items=90, left_out=10, step=5, settings={"samples": (1, 2)})
    path = write_evaluation(tmp_path / "scores.json", {"ppl": 3.5}, about)
    record = json.loads(path.read_text())
    assert record["ppl"] == 3.5
    known = record["provenance"]
    assert (known["kind"], known["data"], known["items"], known["left_out"]) == (
        "toy",
        "test",
        90,
        10,
    )
    assert known["settings"] == {"samples": [1, 2]}
    assert {"program", "torch", "commit"} <= known.keys()


def test_a_trial_stands_beside_the_whole_evaluation(tmp_path):
    whole = write_evaluation(tmp_path / "scores.json", {"ppl": 3.5}, Provenance("toy", "test", 90))
    before = whole.read_bytes()
    trial = write_evaluation(
        tmp_path / "scores.json", {"ppl": 1.0}, Provenance("toy", "test", 5, trial=True)
    )
    assert trial.name == "scores.trial.json"
    assert json.loads(trial.read_text())["provenance"]["trial"] is True
    assert whole.read_bytes() == before


def test_the_folder_of_an_evaluation_is_made(tmp_path):
    path = write_evaluation(tmp_path / "new" / "a.json", {}, Provenance("corpus", "test", 1))
    assert path.is_file()


def test_what_is_not_finite_is_strict_json(tmp_path):
    scores = {"ppl": float("inf"), "rows": [float("nan"), 1.0], "file": Path("a")}
    path = write_evaluation(tmp_path / "scores.json", scores, Provenance("toy", "test", 1))
    record = json.loads(path.read_text(), parse_constant=lambda text: 1 / 0)
    assert (record["ppl"], record["rows"], record["file"]) == (None, [None, 1.0], "a")


def test_outside_of_a_checkout_there_is_no_commit(monkeypatch):
    def missing(*words, **options):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert versions()["commit"] is None
