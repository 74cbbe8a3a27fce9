import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import rows_of, tiny_stylegan2

from fqgan.config import evaluate as dispatched
from fqgan.metrics.features import build_extractor
from fqgan.released.loading import Report
from fqgan.released.stylegan2 import Snapshot
from fqgan.runs import save_weights
from fqgan.scoring import ScoringOptions
from fqgan.stylegan2 import commands as module
from fqgan.stylegan2.commands import EvaluateConfig, evaluate, read_classifiers, spread_labels
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.train import train

OFFLINE = ScoringOptions(features="random", num_images=8, batch_size=4, splits=2)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(tiny_stylegan2(folder, evaluate_kimg=0.008))
    return folder


def test_a_run_is_scored_as_during_training(run_dir, capsys):
    dispatched(["--run-dir", str(run_dir), "--device", "cpu", "--seed", "1"])
    printed = json.loads(capsys.readouterr().out)
    logged = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert printed["fid"] == pytest.approx(logged[-1]["fid"], rel=1e-6)
    assert printed["step"] == 8
    assert printed["metrics"] == ["fid50k"]
    assert not printed["comparable"]
    assert rows_of(run_dir)[-1]["fid"] == printed["fid"]


def test_the_five_path_lengths_come_without_a_data_set(tmp_path):
    run = tiny_stylegan2("run")
    networks = replace(run, data=replace(run.data, resolution=64)).networks(1)
    save_weights(tmp_path, networks, build_generator(networks))
    names = ("ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend", "ppl2_wend")
    config = EvaluateConfig(
        weights=str(tmp_path),
        metrics=names,
        random_lpips=True,
        path_pairs=4,
        device="cpu",
        scoring=OFFLINE,
    )
    found = evaluate(config)
    assert all(found[name] >= 0 for name in names)
    assert "not comparable" in found["lpips"]


def test_separability_asks_every_classifier(run_dir, monkeypatch, tmp_path):
    networks = tiny_stylegan2("run").networks(1)
    for name in ("celebahq-classifier-00-male", "celebahq-classifier-01-smiling", "vgg16"):
        (tmp_path / f"{name}.pkl").write_bytes(b"")
    asked = []

    def load(path: Path) -> Snapshot:
        asked.append(path.name)
        torch.manual_seed(len(asked))
        reports: list[Report] = []
        return Snapshot(networks, None, build_discriminator(networks), None, 0.0, reports)

    monkeypatch.setattr(module, "load_snapshot", load)
    config = EvaluateConfig(
        weights=str(run_dir / "model"),
        metrics=("ls",),
        classifiers=str(tmp_path),
        separability_images=20,
        device="cpu",
        scoring=OFFLINE,
    )
    found = evaluate(config)
    assert asked == ["celebahq-classifier-00-male.pkl", "celebahq-classifier-01-smiling.pkl"]
    assert found["ls_z"] >= 1
    assert found["ls_w"] >= 1
    assert found["ls_attributes"] == 2


def test_a_classifier_that_lacks_a_variable_is_refused(monkeypatch, tmp_path):
    (tmp_path / "celebahq-classifier-00-male.pkl").write_bytes(b"")
    networks = tiny_stylegan2("run").networks(1)
    report = Report("D", {}, ("output.bias",), (), ())
    snapshot = Snapshot(networks, None, build_discriminator(networks), None, 0.0, [report])
    monkeypatch.setattr(module, "load_snapshot", lambda path: snapshot)
    with pytest.raises(ValueError, match=r"00-male\.pkl does not fit.*output\.bias"):
        read_classifiers(str(tmp_path), torch.device("cpu"))


def test_precision_and_recall_take_all_images_of_vgg(run_dir, monkeypatch):
    asked = []

    def build(name, *, weights, device):
        asked.append((name, weights))
        return build_extractor("random", device=device)

    monkeypatch.setattr(module, "build_extractor", build)
    run = tiny_stylegan2(run_dir)
    config = EvaluateConfig(
        run_dir=str(run_dir),
        metrics=("pr50k3",),
        vgg_weights="vgg.pth",
        device="cpu",
        data=run.data,
        scoring=OFFLINE,
    )
    found = evaluate(config)
    assert asked == [("vgg16", "vgg.pth")]
    assert 0 <= found["pr50k3_precision"] <= 1
    assert 0 <= found["pr50k3_recall"] <= 1


def test_weights_that_are_missing_are_named(run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path))

    def config(*metrics):
        return EvaluateConfig(
            weights=str(run_dir / "model"), metrics=metrics, device="cpu", scoring=OFFLINE
        )

    with pytest.raises(FileNotFoundError, match=r"prepare lpips.*--vgg-weights.*--random-lpips"):
        evaluate(config("ppl_wend"))
    with pytest.raises(FileNotFoundError, match="ls needs --classifiers"):
        evaluate(config("ls"))
    with pytest.raises(FileNotFoundError, match="holds none of them"):
        read_classifiers(str(tmp_path), torch.device("cpu"))


def test_an_inception_score_needs_features_that_classify(run_dir):
    run = tiny_stylegan2(run_dir)
    config = EvaluateConfig(
        run_dir=str(run_dir), metrics=("is50k",), device="cpu", data=run.data, scoring=OFFLINE
    )
    with pytest.raises(ValueError, match="is50k needs features that classify"):
        evaluate(config)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="only one of"):
        EvaluateConfig(run_dir="a", weights="b")
    with pytest.raises(ValueError, match="--metrics is empty"):
        EvaluateConfig(metrics=())
    with pytest.raises(ValueError, match="--path-pairs"):
        EvaluateConfig(path_pairs=1)
    with pytest.raises(ValueError, match="no weights are given"):
        evaluate(EvaluateConfig())


def test_labels_depend_on_the_number_alone():
    class Generator:
        style_average = torch.zeros(4)
        label_size = 3

    assert spread_labels(Generator, 5).tolist() == [0, 1, 2, 0, 1]
    Generator.label_size = 0
    assert spread_labels(Generator, 5) is None
