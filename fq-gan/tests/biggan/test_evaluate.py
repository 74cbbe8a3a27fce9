import json

import numpy as np
import pytest
from tiny_runs import rows_of, tiny_run

from fqgan.biggan.commands import EvaluateConfig, evaluate, evaluate_main
from fqgan.biggan.train import train
from fqgan.scoring import ScoringOptions


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(tiny_run(folder, max_steps=2, evaluate_every=2))
    return folder


def test_a_run_is_scored_as_during_training(run_dir, capsys):
    evaluate_main(["--run-dir", str(run_dir), "--device", "cpu", "--seed", "1"])
    printed = json.loads(capsys.readouterr().out)
    logged = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert printed["fid"] == pytest.approx(logged[-1]["fid"], rel=1e-6)
    assert printed["step"] == 2
    assert printed["features"] == "random"
    assert not printed["comparable"]
    assert "not comparable" in printed["protocol"]
    assert rows_of(run_dir)[-1]["fid"] == printed["fid"]


def test_options_of_the_command_line_win_over_those_of_the_run(run_dir, capsys):
    words = ["--run-dir", str(run_dir), "--device", "cpu", "--best", "--z-std", "0.5"]
    evaluate_main([*words, "--scoring.num-images", "8", "--no-use-average"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_images"] == 8
    assert printed["z_std"] == 0.5
    assert "best0" in printed["weights"]


def test_a_file_of_samples_needs_features_that_classify(tmp_path):
    np.savez(tmp_path / "s.npz", x=np.zeros((4, 3, 32, 32), np.uint8), y=np.zeros(4, np.int64))
    scoring = ScoringOptions(features="random", num_images=4, splits=2)
    config = EvaluateConfig(samples=str(tmp_path / "s.npz"), device="cpu", scoring=scoring)
    with pytest.raises(ValueError, match=r"--scoring\.features random do not classify"):
        evaluate(config)


def test_two_sources_or_none_are_refused():
    with pytest.raises(ValueError, match="only one of"):
        EvaluateConfig(run_dir="a", samples="b")
    with pytest.raises(ValueError, match="nothing to score"):
        evaluate(EvaluateConfig())
