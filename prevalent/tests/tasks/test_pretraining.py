"""Pre-training: the real command, exact resume, two processes, triplets, options, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prevalent.config import TINY_MODEL, ModelConfig, default_data_dir
from prevalent.data.tokenizers import build_wordpiece_vocabulary
from prevalent.data.triplets import write_triplets
from prevalent.released.checkpoints import load_model
from prevalent.runtime.distributed import World
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.pretraining import (
    PRETRAIN_PRESETS,
    PretrainConfig,
    build_corpus,
    main,
    pretrain,
)
from tests.factories import make_scan, write_connectivity
from tests.toy_runs import train_in_two_processes

SMOKE = PRETRAIN_PRESETS["smoke"][1]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A folder with a toy world, made by the smoke preset, and its run."""
    folder = tmp_path_factory.mktemp("smoke")
    model = pretrain(replace(SMOKE, run_dir=folder))
    return folder, model


def in_world(world, run_dir, **changes) -> PretrainConfig:
    """The smoke preset on the world that is already there."""
    folder = world[0] / "world"
    features = next(path.name for path in folder.iterdir() if path.name.startswith("features."))
    options = {
        "world": "matterport",
        "data_dir": folder,
        "vocabulary": "wordpiece.txt",
        "features": features,
        "held_out": (),
        **changes,
    }
    return replace(SMOKE, run_dir=run_dir, **options)


def assert_equal(ours, theirs, tolerance=0.0):
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=name)


def test_the_smoke_preset_trains_evaluates_and_exports(world):
    folder, model = world
    rows = read_metrics(folder)
    assert rows[-1]["step"] == SMOKE.max_steps
    for split in ("val_seen", "val_unseen"):
        for kind in ("word", "action"):
            assert f"{split}/{kind}_accuracy" in rows[-1]
            assert f"{split}/{kind}_loss_chance" in rows[-1]
    exported = load_model(folder / "model")
    assert_equal(exported, model)
    assert (folder / "model/vocab.txt").exists()


def test_two_processes_equal_one(world, tmp_path):
    model = replace(TINY_MODEL, dropout=0.0, attention_dropout=0.0)
    one = in_world(world, tmp_path / "one", model=model, batch_size=8, max_steps=3)
    pretrain(one)
    two = tmp_path / "two"
    words = ["smoke", "--run-dir", str(two), "--world", "matterport", "--batch-size", "8"]
    words += ["--data-dir", str(one.data_dir), "--vocabulary", "wordpiece.txt", "--held-out"]
    words += ["--features", str(one.features), "--max-steps", "3", "--save-every", "3"]
    words += ["--model.dropout", "0", "--model.attention-dropout", "0", "--device", "cpu"]
    train_in_two_processes(["pretrain", *words])
    assert_equal(load_model(two / "model"), load_model(one.run_dir / "model"), tolerance=2e-5)


def test_the_loss_falls_below_chance_when_trained(world, tmp_path):
    config = in_world(
        world,
        tmp_path,
        train=("r2r:train@8",),
        held_out=("r2r:train@8",),
        max_steps=80,
        eval_every=80,
        save_every=80,
        batch_size=16,
        lr=1e-2,
        model=replace(TINY_MODEL, dropout=0.0, attention_dropout=0.0),
    )
    pretrain(config)
    last = read_metrics(tmp_path)[-1]
    assert last["train@8/word_loss"] < last["train@8/word_loss_chance"]
    assert last["train@8/action_loss"] < last["train@8/action_loss_chance"]


@pytest.mark.parametrize(
    "changes",
    [
        {"predict_action": False},
        {"predict_action": False, "use_images": False},
        {"optimizer": "torch"},
        {"precision": "bf16", "optimizer": "fused"},
        {"features": None},
    ],
    ids=str,
)
def test_variants_take_a_step(world, tmp_path, changes):
    config = in_world(world, tmp_path, max_steps=1, log_every=1, **changes)
    model = pretrain(config)
    row = read_metrics(tmp_path)[0]
    assert (row["action_loss"] > 0) == config.predict_action
    reached = model.bert.addlayer[0].visual_attention.att.query.weight.grad
    assert (reached is not None) == config.use_images


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_evaluates(world, tmp_path, precision):
    pretrain(
        in_world(
            world,
            tmp_path,
            precision=precision,
            max_steps=2,
            eval_every=1,
            held_out=("r2r:train@8",),
        )
    )
    scores = [row for row in read_metrics(tmp_path) if "train@8/word_loss" in row]
    assert [row["step"] for row in scores] == [1, 2]


def test_triplet_files_train_as_the_split_they_were_collected_from(world, tmp_path):
    from prevalent.data.triplets import write_triplets
    from prevalent.runtime.distributed import World
    from prevalent.tasks.pretraining import build_corpus

    config = in_world(world, tmp_path / "a", max_steps=2, held_out=("r2r:val_seen",))
    corpus = build_corpus(config, World(0, 1, torch.device("cpu")))
    (tmp_path / "triplets").mkdir()
    write_triplets(tmp_path / "triplets/shortest_train.json", corpus.train)
    from_files = replace(
        config, run_dir=tmp_path / "b", train=(f"triplets:{tmp_path / 'triplets'}",)
    )
    assert_equal(pretrain(from_files), pretrain(config))


def test_presets_hold_the_papers_settings():
    base = PRETRAIN_PRESETS["prevalent-base"][1]
    assert (base.batch_size, base.epochs, base.lr, base.optimizer) == (96, 20, 5e-5, "authors")
    assert (base.model.num_language_layers, base.model.num_cross_layers) == (9, 4)
    assert not PRETRAIN_PRESETS["prevalent-mlm-only"][1].predict_action


def test_missing_files_and_bad_options_are_named_before_the_first_step(world, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"R2R_nosuch\.json"):
        pretrain(in_world(world, tmp_path / "a", train=("r2r:nosuch",)))
    with pytest.raises(FileNotFoundError, match="--vocabulary"):
        pretrain(in_world(world, tmp_path / "b", vocabulary="none.txt"))
    with pytest.raises(ValueError, match="must read triplets:PATH or r2r:SPLIT"):
        replace(SMOKE, train=("train",))
    with pytest.raises(ValueError, match="batch-size must be at least 1, got 0"):
        replace(SMOKE, batch_size=0)
    with pytest.raises(ValueError, match="must be a multiple of --model"):
        replace(TINY_MODEL, num_heads=3)


def test_a_dry_run_prints_the_checked_configuration(capsys):
    with pytest.raises(SystemExit):
        main(["prevalent-base", "--dry-run", "--model.num-cross-layers", "3"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"]["num_cross_layers"] == 3
    assert printed["batch_size"] == 96


ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def config(tmp_path):
    """A data folder with one square house and two splits."""
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    for split, path in {"train": ["a", "b", "c"], "val_seen": ["b", "a"]}.items():
        item = {
            "path_id": 1,
            "scan": "house",
            "path": path,
            "heading": 0.0,
            "instructions": ["go left .", "go go left ."],
        }
        (tmp_path / f"R2R_{split}.json").write_text(json.dumps([item]))
    words = build_wordpiece_vocabulary(["go", "left", "."])
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    return PretrainConfig(
        data_dir=tmp_path,
        train=("r2r:train",),
        held_out=("r2r:val_seen",),
        features=None,
        standin_dim=6,
        angle_size=8,
        vocabulary=Path("vocab.txt"),
        model=TINY_MODEL,
    )


def test_a_corpus_knows_its_sizes_and_frequencies(config, tmp_path):
    corpus = build_corpus(config, ALONE)
    assert len(corpus.train) == 6
    assert list(corpus.held_out) == ["val_seen"]
    fitted = corpus.fit(config.model)
    assert (fitted.vocab_size, fitted.image_dim) == (8, 14)
    for prior in (corpus.word_prior, corpus.action_prior):
        assert prior.exp().sum().item() == pytest.approx(1)
    assert corpus.word_prior.argmax().item() == 5  # "go": five special words stand before it


def test_collected_files_and_splits_give_the_same_table(config, tmp_path):
    corpus = build_corpus(config, ALONE)
    write_triplets(tmp_path / "shortest.json", corpus.train)
    again = build_corpus(replace(config, train=("triplets:shortest.json",)), ALONE)
    assert list(again.train.records()) == list(corpus.train.records())


def test_without_images_no_features_are_opened(config, tmp_path):
    text_only = replace(config, use_images=False, features=Path("none.tsv"))
    corpus = build_corpus(text_only, ALONE)
    assert corpus.features is None
    with pytest.raises(FileNotFoundError, match=r"none\.tsv"):
        build_corpus(replace(text_only, use_images=True), ALONE)


def test_sources_of_two_kinds_are_not_mixed(config, tmp_path):
    mixed = replace(config, train=("r2r:train", "triplets:x.json"))
    with pytest.raises(ValueError, match="mixes triplet files with R2R splits"):
        build_corpus(mixed, ALONE)


def test_more_actions_than_outputs_are_named(config, tmp_path):
    few = replace(config, model=replace(TINY_MODEL, num_actions=1))
    with pytest.raises(ValueError, match=r"hold action \d, but --model.num-actions is 1"):
        build_corpus(few, ALONE)


def test_the_action_may_be_the_next_view(config):
    model = replace(TINY_MODEL, num_actions=37)
    corpus = build_corpus(replace(config, action_target="relative-view", model=model), ALONE)
    for table in (build_corpus(config, ALONE).train, corpus.train):
        assert ((table.action == 0) == (table.target_view < 0)).all()
    assert len(corpus.action_prior) == 37
    moves = corpus.train.action > 0
    level = (corpus.train.action[moves] - 1) // 12
    assert level.tolist() == (corpus.train.target_view[moves] // 12).tolist()


def test_views_as_actions_need_one_output_each(config):
    with pytest.raises(ValueError, match=r"set --model.num-actions to 37 \(it is 36\)"):
        replace(config, action_target="relative-view")


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PREVALENT_DATA", "/somewhere")
    assert default_data_dir() == PretrainConfig().data_dir == Path("/somewhere")
    monkeypatch.delenv("PREVALENT_DATA")
    assert default_data_dir() == Path("data")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "--lr must be positive"),
        ({"accumulate": 0}, "--accumulate must be at least 1"),
        ({"angle_size": 6}, "--angle-size must be a multiple of 4"),
        ({"max_length": 513}, "--max-length 513 exceeds --model.max-positions 512"),
        ({"train": ()}, "--train needs at least one source"),
        ({"held_out": ("val",)}, "source 'val' of --train or --held-out"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 10, "num_heads": 3}, "must be a multiple of --model.num-heads 3"),
        ({"dropout": 1.0}, r"--model.dropout must be in \[0, 1\)"),
        ({"num_cross_layers": -1}, "--model.num-cross-layers must not be negative"),
    ],
    ids=str,
)
def test_a_wrong_model_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**options)
