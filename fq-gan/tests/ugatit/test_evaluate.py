import json

import pytest
from ugatit_runs import tiny_ugatit, tiny_weights

from fqgan import config as families
from fqgan.runtime.logs import read_metrics
from fqgan.ugatit.commands import EvaluateConfig, evaluate
from fqgan.ugatit.train import train


def test_a_run_is_scored_as_during_training(tmp_path, capsys):
    train(tiny_ugatit(tmp_path, max_steps=2, evaluate_every=2))
    families.evaluate(["--run-dir", str(tmp_path), "--device", "cpu"])
    rows = json.loads(capsys.readouterr().out)
    logged = read_metrics(tmp_path)[-1]
    assert [row["data"] for row in rows] == ["filled2inked", "inked2filled"]
    for row in rows:
        for name in ("kid_x100", "kid_x100_std", "kid_x100_untranslated"):
            assert row[name] == pytest.approx(
                logged[f"{name}/{row['data']}"], rel=1e-3
            )  # memory order
        assert row["step"] == 2
        assert row["num_images"] == 10
        assert "not comparable" in row["protocol"]
    written = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").open()]
    assert written == rows


def test_a_folder_of_weights_needs_data_of_its_size(tmp_path):
    weights = tiny_weights(tmp_path / "model")
    with pytest.raises(ValueError, match=r"--data.resolution 256.*images of 24 pixels"):
        evaluate(EvaluateConfig(weights=str(weights), device="cpu"))


def test_two_sources_or_none_are_refused():
    with pytest.raises(ValueError, match="only one of"):
        EvaluateConfig(run_dir="a", weights="b")
    with pytest.raises(ValueError, match="no weights are given"):
        evaluate(EvaluateConfig())
