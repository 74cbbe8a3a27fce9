"""Agents are built alike on every rank, saved with all they need, and found again."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from prevalent.agents.follower import FollowerConfig
from prevalent.agents.speaker import Speaker
from prevalent.data.tokenizers import split_sentences
from prevalent.released.snapshots import as_options, find_agent
from prevalent.tasks.navigation import open_words, open_world
from prevalent.tasks.r2r import (
    build_follower,
    find_vocabulary,
    load_follower,
    open_tokenizer,
    save_follower,
)
from prevalent.tasks.speaker import load_speaker, save_speaker
from tests.toy_runs import assert_same_modules, follower_run, speaker_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(toy_world, tmp_path_factory):
    return follower_run(toy_world, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def world(run):
    return open_world(run, ("train", "val_unseen"), CPU)


@pytest.fixture(scope="module")
def follower(run, world):
    vocabulary = find_vocabulary(run)
    return build_follower(run, world, open_tokenizer(run.model, vocabulary, run.max_length))


@pytest.fixture
def snapshot(run, follower, tmp_path):
    folder = tmp_path / "run/snapshots/best_val_unseen"
    save_follower(folder, follower, find_vocabulary(run), run.max_length)
    return folder


def test_the_world_holds_what_the_splits_need(run, world):
    assert world.instructions(("train", "val_unseen")) == [
        *world.splits["train"],
        *world.splits["val_unseen"],
    ]
    assert world.features.angle_size == run.model.angle_size
    assert {one.scan for one in world.instructions(world.splits)} == set(world.graphs.scans)


def test_stand_in_features_serve_where_no_file_is_named(run):
    world = open_world(replace(run, features=None, standin_dim=7), ("train",), CPU)
    assert world.features.image_width == 7


def test_building_draws_the_same_weights_and_nothing_from_the_global_generator(
    run, world, follower
):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tokenizer = open_tokenizer(run.model, find_vocabulary(run), run.max_length)
    again = build_follower(run, world, tokenizer)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_modules(again.modules, follower.modules)


def test_a_saved_follower_is_restored_with_its_sizes_and_vocabulary(run, follower, snapshot):
    again, world, tokenizer = load_follower(snapshot, run, ("val_unseen",), CPU)
    assert_same_modules(again.modules, follower.modules)
    assert (again.config, again.walk) == (follower.config, follower.walk)
    assert not again.critic.training
    assert list(world.splits) == ["val_unseen"]
    assert len(tokenizer) == len((snapshot / "vocab.txt").read_text().splitlines())


def test_an_agent_that_separates_sentences_does_so_when_restored(run, world, tmp_path):
    config = replace(run, model=replace(run.model, separate_sentences=True))
    vocabulary = find_vocabulary(config)
    tokenizer = open_tokenizer(config.model, vocabulary, config.max_length)
    save_follower(tmp_path, build_follower(config, world, tokenizer), vocabulary, config.max_length)
    *_, restored = load_follower(tmp_path, run, ("val_unseen",), CPU)
    text = world.splits["train"][0].text
    plain = open_tokenizer(run.model, vocabulary, run.max_length)
    assert restored.encode(text).tolist() == tokenizer.encode(text).tolist()
    separators = [(ids == plain.sep).sum() for ids in (plain.encode(text), restored.encode(text))]
    assert separators == [1, len(split_sentences(text))]


def test_an_agent_is_found_from_its_run_its_snapshot_or_a_file(snapshot, tmp_path):
    run_dir = snapshot.parents[1]
    assert find_agent(run_dir) == find_agent(snapshot) == snapshot
    (tmp_path / "file").touch()
    assert find_agent(tmp_path / "file") == tmp_path / "file"
    with pytest.raises(FileNotFoundError, match="it has best_val_unseen"):
        find_agent(run_dir, "best_val_seen")
    with pytest.raises(FileNotFoundError, match="holds no agent"):
        find_agent(tmp_path)


def test_a_speaker_is_restored_and_must_share_the_followers_angles(toy_world, world, tmp_path):
    config = speaker_run(toy_world, tmp_path)
    words = config.data_dir / config.words
    tokenizer = open_words(words, 12)
    speaker = Speaker(config.speaker, world.environment, world.features, tokenizer)
    save_speaker(tmp_path / "a", speaker, words)
    again = load_speaker(tmp_path / "a", world, words)
    assert_same_modules(again.modules, speaker.modules)
    assert again.tokenizer.max_length == 12
    path = tmp_path / "a/config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "angle_layout": "block"}))
    with pytest.raises(ValueError, match="train both with the same"):
        load_speaker(tmp_path / "a", world, words)
    wide = asdict(replace(config.speaker, angle_size=8))
    path.write_text(json.dumps({**content, "speaker": wide}))
    with pytest.raises(ValueError, match=r"train it with --speaker\.angle-size 4"):
        load_speaker(tmp_path / "a", world, words)


def test_a_record_with_unknown_keys_is_read():
    plain = {**asdict(FollowerConfig(hidden_size=10)), "from_the_future": 1}
    assert as_options(FollowerConfig, plain) == FollowerConfig(hidden_size=10)


def test_missing_files_are_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"words\.txt does not exist"):
        open_words(tmp_path / "words.txt", 10)
    with pytest.raises(FileNotFoundError, match=r"none\.tsv does not exist"):
        open_world(replace(run, features=tmp_path / "none.tsv"), ("train",), CPU)
