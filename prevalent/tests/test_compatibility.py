"""Runs that an older commit saved are continued by this one to the same losses and weights.

``tests/compat/pretrain.zip`` and ``tests/compat/r2r.zip`` hold step 4 of a run of 5, the model of
step 5 and the records of all; they are made by ``python -m tests.test_compatibility``, and again
only where a format changes on purpose. Nothing in the runs is drawn anew after step 4, so that
faster ways to the same numbers pass.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prevalent.agents.follower import FollowerConfig
from prevalent.agents.rollout import RolloutConfig
from prevalent.config import ModelConfig
from prevalent.data.tokenizers import build_wordpiece_vocabulary, read_vocabulary, write_vocabulary
from prevalent.data.toy import ToyConfig, write_toy
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import load_model
from prevalent.released.snapshots import load_agent
from prevalent.runs import open_run
from prevalent.runtime.download import extract
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.pretraining import PretrainConfig, pretrain
from prevalent.tasks.r2r import R2RRun, train_r2r

ARCHIVES = Path(__file__).parent / "compat"
KINDS = {  # name -> what trains it, its weights
    "pretrain": (pretrain, "model"),
    "r2r": (train_r2r, "snapshots/last"),
}
TOLERANCE = 1e-6
BERT = ModelConfig(
    hidden_size=4, num_heads=1, intermediate_size=4, num_language_layers=1, num_cross_layers=1,
    max_positions=32, dropout=0.0, attention_dropout=0.0,
)  # fmt: skip


@pytest.fixture(params=KINDS)
def saved(request, tmp_path) -> tuple[str, Path]:
    extract(ARCHIVES / f"{request.param}.zip", tmp_path / "saved")
    return request.param, tmp_path / "saved"


def test_a_saved_run_goes_on_to_the_recorded_losses_and_weights(saved, tmp_path, caplog):
    caplog.set_level("INFO")
    torch.set_num_threads(1)
    (kind, folder), run = saved, tmp_path / "run"
    train, weights = KINDS[kind]
    shutil.copytree(folder, run)
    shutil.rmtree(run / weights)
    train(replace(open_run(run).config, run_dir=run, data_dir=run / "world", device="cpu"))
    assert "continuing from step 4" in caplog.text
    ours = read_metrics(run)
    recorded = [row for row in read_metrics(folder) if len(row) > 1]  # an evaluation of nothing
    assert [row["step"] for row in ours] == [row["step"] for row in recorded]
    for row, expected in zip(ours, recorded, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert abs(row[name] - value) <= TOLERANCE * (1 + abs(value)), name
    found, wanted = (load_file(one / weights / "model.safetensors") for one in (run, folder))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=TOLERANCE, atol=TOLERANCE, msg=name)


def test_a_saved_model_is_read(tmp_path):
    for kind in KINDS:
        extract(ARCHIVES / f"{kind}.zip", tmp_path / kind)
    model = load_model(tmp_path / "pretrain/model")
    run = tmp_path / "new"
    config = replace(open_run(tmp_path / "r2r").config, run_dir=run, device="cpu")
    config = replace(
        config, data_dir=tmp_path / "r2r/world", pretrained=tmp_path / "pretrain/model"
    )
    follower = train_r2r(replace(config, max_steps=1))
    encoder = follower.modules["encoder"].bert
    for name, value in model.bert.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name
    load_agent(tmp_path / "r2r/snapshots/last", follower.modules)


def make(archives: Path) -> None:
    """Write the smallest runs there are: width 4, one layer of each kind, a house of 5 places."""
    folder = Path(tempfile.mkdtemp())
    toy = ToyConfig(
        house_size=3, train_houses=1, unseen_houses=1, train_paths=4, held_out_paths=1, dialogs=1,
        min_steps=2, max_steps=3,
    )  # fmt: skip
    write_toy(folder / "toy", toy)
    words = read_vocabulary(folder / "toy/r2r/train_vocab.txt")[3:]
    paths = {"wordpieces": Path("wordpiece.txt"), "features": None, "standin_dim": 8}
    numbers = {"angle_size": 8, "max_length": 32, "batch_size": 4, "max_steps": 5, "lr": 1e-3}
    rates = {"log_every": 1, "eval_every": 9, "save_every": 4, "held_out": ()}
    agent = FollowerConfig(
        encoder="dic", hidden_size=4, word_size=4, action_size=4, encoder_size=4, angle_size=8,
        dropout=0.0, encoder_dropout=0.0, feature_dropout=0.0,
    )  # fmt: skip
    runs = {}
    for kind in KINDS:
        run = folder / kind
        for name in ("connectivity/toy000_connectivity.json", "r2r/R2R_train.json"):
            (run / "world" / name).parent.mkdir(parents=True)
            shutil.copy(folder / "toy" / name, run / "world" / name)
        write_vocabulary(run / "world/wordpiece.txt", build_wordpiece_vocabulary(words))
    runs["pretrain"] = PretrainConfig(
        run_dir=folder / "pretrain", data_dir=folder / "pretrain/world", train=("r2r:train",),
        vocabulary=Path("wordpiece.txt"), features=None, standin_dim=8, model=BERT, **numbers,
        **rates,
    )  # fmt: skip
    del numbers["angle_size"], numbers["lr"]
    runs["r2r"] = R2RRun(
        run_dir=folder / "r2r", data_dir=folder / "r2r/world", feedback="teacher", model=agent,
        bert=BERT, rollout=RolloutConfig(max_actions=5), angle_layout="block",
        optimizer=OptimizerConfig("adam", lr=1e-3), **paths, **numbers, **rates,
    )  # fmt: skip
    archives.mkdir(exist_ok=True)
    for kind, config in runs.items():
        run = folder / kind
        KINDS[kind][0](config)
        for leftover in ("checkpoints/00000005", "events"):
            shutil.rmtree(run / leftover)
        for leftover in (".lock", "log.txt", "curve.png"):
            (run / leftover).unlink(missing_ok=True)
        text = (run / "config.json").read_text().replace(str(run), "run")
        (run / "config.json").write_text(text)
        shutil.make_archive(str(archives / kind), "zip", run)


if __name__ == "__main__":
    make(ARCHIVES)
