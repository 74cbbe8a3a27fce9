import json

import numpy as np
import pytest
from tiny_runs import tiny_run

from fqgan.biggan.commands import EvaluateConfig, evaluate, evaluate_main
from fqgan.biggan.train import train
from fqgan.report import read_evaluations


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
    assert read_evaluations(run_dir / "evaluations.jsonl")[-1]["fid"] == printed["fid"]


def test_options_of_the_command_line_win_over_those_of_the_run(run_dir, capsys):
    words = ["--run-dir", str(run_dir), "--device", "cpu", "--best", "--z-std", "0.5"]
    evaluate_main([*words, "--scoring.num-images", "8", "--no-use-average"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_images"] == 8
    assert printed["z_std"] == 0.5
    assert "best0" in printed["weights"]


def test_a_file_of_samples_is_scored(tmp_path):
    path = tmp_path / "samples.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    np.savez(path, x=pixels, y=np.zeros(4, np.int64))
    config = EvaluateConfig(samples=str(path), device="cpu")
    config = EvaluateConfig(
        samples=str(path),
        device="cpu",
        scoring=type(config.scoring)(features="random", num_images=4, splits=2),
    )
    result = evaluate(config)
    assert result["samples"] == str(path)
    assert (tmp_path / "evaluations.jsonl").exists()
    assert list(tmp_path.glob("*_pool.npz"))


def test_two_sources_or_none_are_refused():
    with pytest.raises(ValueError, match="only one of"):
        EvaluateConfig(run_dir="a", samples="b")
    with pytest.raises(ValueError, match="nothing to score"):
        evaluate(EvaluateConfig())
