"""Room-to-Room: the real commands, back-translation, search, options, snapshots, errors."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from prevalent import loop
from prevalent.__main__ import main
from prevalent.agents.follower import FollowerConfig
from prevalent.agents.rollout import RolloutConfig
from prevalent.agents.speaker import SpeakerConfig
from prevalent.config import TINY_MODEL
from prevalent.data.tokenizers import open_words, split_sentences
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import save_model
from prevalent.released.snapshots import (
    as_options,
    find_agent,
    save_agent,
    write_snapshot,
)
from prevalent.runs import open_run
from prevalent.runtime.logs import read_metrics
from prevalent.runtime.run_folder import Run
from prevalent.tasks.navigation import find_vocabulary, open_instructions
from prevalent.tasks.r2r import (
    R2R_PRESETS,
    RUNS,
    R2RTraining,
    Walking,
    build_follower,
    describe_follower,
    open_agent,
    open_tokenizer,
    train_r2r,
    walk_agent,
)
from prevalent.tasks.speaker import SPEAKER_PRESETS, load_speaker, train_speaker
from tests.toy_runs import (
    assert_same_modules,
    follower_run,
    run_in_halves,
    speaker_run,
)

LSTM = FollowerConfig(hidden_size=8, word_size=6, action_size=4, angle_size=4)


@pytest.fixture(scope="module")
def speaker(toy_world, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("speaker")
    train_speaker(speaker_run(toy_world, run_dir))
    return run_dir


@pytest.fixture(scope="module")
def trained(toy_world, speaker, tmp_path_factory):
    """A run of the real command with back-translation."""
    run_dir = tmp_path_factory.mktemp("follower")
    words = ["smoke", "--run-dir", str(run_dir), "--world", "matterport", "--device", "cpu"]
    words += ["--data-dir", str(toy_world), "--features", "features.npy", "--aug", "train"]
    words += ["--wordpieces", "wordpiece.txt", "--speaker", str(speaker)]
    with pytest.raises(SystemExit, match="0"):
        main(["train-r2r", *words])
    return run_dir


def test_the_command_trains_with_back_translation_and_keeps_snapshots(trained):
    rows = read_metrics(trained)
    assert {"imitation", "policy", "critic", "entropy", "encoder_norm"} <= rows[0].keys()
    assert {"val_seen/spl", "val_unseen/success_rate"} <= rows[-1].keys()
    found = {path.name for path in (trained / "snapshots").iterdir()}
    assert found == {"best_val_seen", "best_val_unseen", "best_sr_sum", "best_spl_unseen", "last"}
    assert (trained / "snapshots/last/vocab.txt").is_file()


@pytest.mark.parametrize("beam", [[], ["--beam", "2"], ["--beam", "2", "--tune-alpha"]], ids=str)
def test_a_run_is_evaluated_greedily_and_by_search(trained, speaker, beam, capsys):
    extra = ["--speaker", str(speaker)] if beam else []
    words = ["--run-dir", str(trained), "--split", "val_unseen@2", "--device", "cpu"]
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", *words, *beam, *extra])
    assert "success_rate" in capsys.readouterr().out
    name = f"evaluation_val_unseen@2{'_beam2' if beam else ''}.trial.json"
    settings = json.loads((trained / name).read_text())["provenance"]["settings"]
    assert settings.get("speaker") == (str(speaker) if beam else None)
    assert bool(settings.get("chosen_by")) == bool(beam)
    assert settings.get("tune_alpha", False) == ("--tune-alpha" in beam)


def test_a_run_is_submitted_and_drawn(trained, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["submit", "--run-dir", str(trained), "--device", "cpu"])
    assert (trained / "submit_test.json").is_file()
    with pytest.raises(SystemExit, match="0"):
        main(["trajectories", "--run-dir", str(trained), "--count", "1", "--device", "cpu"])
    page = (trained / "trajectories_val_unseen/index.html").read_text()
    assert page.count("<img") == len(list(trained.glob("trajectories_val_unseen/*.png"))) == 1


def test_a_resumed_run_equals_an_uninterrupted_one_in_mid_epoch(toy_world, speaker, tmp_path):
    config = follower_run(
        toy_world,
        tmp_path / "whole",
        aug=("train",),
        speaker=speaker,
        batch_size=5,
        max_steps=7,
        held_out=(),
    )
    whole = train_r2r(config)
    halves = run_in_halves(train_r2r, replace(config, run_dir=tmp_path / "halves"), 3)
    assert_same_modules(whole.modules, halves.modules)
    records = [tmp_path / name / "metrics.jsonl" for name in ("whole", "halves")]
    assert records[0].read_text() == records[1].read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"feedback": "student", "model": LSTM},
        {"aug": ("val_seen",), "accumulate": False, "model": LSTM},
        {"schedule_ratio": 0.5, "model": LSTM},
        {"precision": "bf16"},
        {"feedback": "self-critical", "model": replace(LSTM, num_texts=2)},
    ],
    ids=["student", "in turn", "schedule", "bf16", "self-critical, two texts"],
)
def test_variants_take_steps(toy_world, tmp_path, changes):
    train_r2r(follower_run(toy_world, tmp_path, max_steps=2, held_out=(), **changes))
    assert "loss" in read_metrics(tmp_path)[-1]


def test_an_agent_that_reads_three_texts_is_trained_evaluated_and_drawn(
    toy_world, speaker, tmp_path, capsys
):
    model = replace(R2R_PRESETS["smoke"][1].model, num_texts=3)
    changes = {"max_steps": 1, "model": model, "speaker": speaker, "aug": ("train",)}
    train_r2r(follower_run(toy_world, tmp_path, **changes))
    words = ["--run-dir", str(tmp_path), "--device", "cpu", "--split", "val_unseen@1"]
    for more in ([], ["--one-text"], ["--beam", "2"]):
        with pytest.raises(SystemExit, match="0"):
            main(["evaluate", *words, *more])
    with pytest.raises(SystemExit, match="0"):
        main(["trajectories", *words, "--count", "1"])
    capsys.readouterr()


def test_a_pre_trained_encoder_is_taken_over_and_a_foreign_vocabulary_refused(toy_world, tmp_path):
    words = (toy_world / "wordpiece.txt").read_text().splitlines()
    model = PrevalentForPretraining(replace(TINY_MODEL, vocab_size=len(words), image_dim=36))
    save_model(tmp_path / "fits", model)
    config = follower_run(toy_world, tmp_path / "a", pretrained=tmp_path / "fits", held_out=())
    frozen = replace(config.model, update_cross=False)
    follower = train_r2r(replace(config, max_steps=1, model=frozen))
    assert_same_modules({"bert": follower.modules["encoder"].bert}, {"bert": model.bert})
    odd = replace(model.config, vocab_size=len(words) + 1)
    save_model(tmp_path / "odd", PrevalentForPretraining(odd))
    with pytest.raises(ValueError, match=f"knows {len(words) + 1} word pieces.*has {len(words)}"):
        train_r2r(replace(config, run_dir=tmp_path / "b", pretrained=tmp_path / "odd"))


def test_what_is_missing_or_does_not_fit_is_one_sentence(toy_world, tmp_path, trained, capsys):
    base = ["train-r2r", "smoke", "--world", "matterport", "--data-dir", str(toy_world)]
    base += ["--features", "features.npy", "--wordpieces", "wordpiece.txt", "--device", "cpu"]
    base += ["--run-dir", str(tmp_path)]
    for words, message in (
        (["--model.hidden-size", "10", "--start-from", str(trained)], "a hidden size of 8"),
        (["--aug", "./no_such_paths.json"], "no_such_paths.json"),
        (["--features", "no_such.tsv"], "no_such.tsv does not exist"),
        (["--speaker", str(trained), "--aug", "train"], "one of 'speaker' is needed"),
        (["--start-from", str(tmp_path / "nowhere")], "holds no agent"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*base, *words])
        printed = capsys.readouterr().err.splitlines()[-1]
        assert message in printed
        assert printed.count(". ") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speaker": Path("runs/speaker")}, "--aug names none"),
        ({"schedule_ratio": 0.5, "feedback": "teacher"}, "needs --feedback sample"),
        ({"imitation_weight": -1.0}, "--imitation-weight must not be negative, got -1"),
        ({"pretrained": Path("a"), "model": LSTM}, "--pretrained needs a transformer encoder"),
        ({"train": ()}, "--train needs at least one split"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_contradict_each_other_are_refused(toy_world, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        follower_run(toy_world, tmp_path, **changes)


def test_an_authors_snapshot_starts_a_run(toy_world, tmp_path, trained):
    config = follower_run(toy_world, tmp_path / "a", held_out=(), max_steps=1, start_from=trained)
    follower = train_r2r(config)
    write_snapshot(tmp_path / "snap", follower.modules, follower.optimizers, 5)
    again = replace(config, run_dir=tmp_path / "b", start_from=tmp_path / "snap")
    train_r2r(replace(again, load_optimizer=True))


def test_the_best_agents_are_kept_by_each_measure():
    progress = loop.RunProgress()
    scores = {"val_seen/success_rate": 0.5, "val_unseen/success_rate": 0.4, "val_unseen/spl": 0.3}
    assert progress.improve(R2RTraining.goals(None, scores)) == [
        "best_val_unseen",
        "best_val_seen",
        "best_sr_sum",
        "best_spl_unseen",
    ]
    better = R2RTraining.goals(None, {**scores, "val_unseen/spl": 0.35})
    assert progress.improve(better) == ["best_spl_unseen"]


def test_the_presets_hold_the_published_settings():
    first, second = (R2R_PRESETS[f"prevalent-stage{stage}"][1] for stage in (1, 2))
    assert (first.batch_size, first.max_steps, first.optimizer.lr) == (20, 100_000, 2e-5)
    assert (second.batch_size, second.max_steps, second.optimizer.lr) == (10, 20_000, 2e-6)
    assert not first.model.update_cross
    assert second.model.update_cross
    assert first.model.encoder_size == first.model.hidden_size == 1024
    assert first.rollout.max_actions == R2R_PRESETS["envdrop"][1].rollout.max_actions == 35


CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(toy_world, tmp_path_factory):
    return follower_run(toy_world, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def world(run):
    return open_instructions(run, ("train", "val_unseen"), run.model.angle_size, CPU)


@pytest.fixture(scope="module")
def follower(run, world):
    vocabulary = find_vocabulary(run, words=False)
    return build_follower(run, world, open_tokenizer(run.model, vocabulary, run.max_length))


@pytest.fixture
def snapshot(run, follower, tmp_path):
    folder = tmp_path / "run/snapshots/best_val_unseen"
    words = find_vocabulary(run, words=False).read_bytes()
    save_agent(folder, follower.modules, describe_follower(follower, run.max_length), words)
    return folder


def test_the_world_holds_what_the_splits_need(run, world):
    assert world.items(("train", "val_unseen")) == [
        *world.splits["train"],
        *world.splits["val_unseen"],
    ]
    assert world.features.angle_size == run.model.angle_size
    assert {one.scan for one in world.items(world.splits)} == set(world.graphs.scans)


def test_stand_in_features_serve_where_no_file_is_named(run):
    world = open_instructions(replace(run, features=None, standin_dim=7), ("train",), 4, CPU)
    assert world.features.image_width == 7


def test_building_draws_the_same_weights_and_nothing_from_the_global_generator(
    run, world, follower
):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    tokenizer = open_tokenizer(run.model, find_vocabulary(run, words=False), run.max_length)
    again = build_follower(run, world, tokenizer)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_modules(again.modules, follower.modules)


def test_a_saved_follower_is_restored_with_its_sizes_and_vocabulary(run, follower, snapshot):
    opened = open_agent(Run(snapshot.parents[1], "r2r", run, ""), "val_unseen", device="cpu")
    again, world, tokenizer = opened.follower, opened.data, opened.tokenizer
    assert_same_modules(again.modules, follower.modules)
    assert (again.config, again.walk) == (follower.config, follower.walk)
    assert not again.critic.training
    assert list(world.splits) == ["val_unseen"]
    assert len(tokenizer) == len((snapshot / "vocab.txt").read_text().splitlines())


def test_an_agent_that_separates_sentences_does_so_when_restored(run, world, tmp_path):
    config = replace(run, model=replace(run.model, separate_sentences=True))
    words = find_vocabulary(config, words=False)
    tokenizer = open_tokenizer(config.model, words, config.max_length)
    follower = build_follower(config, world, tokenizer)
    folder = tmp_path / "run/snapshots/best_val_unseen"
    content = describe_follower(follower, config.max_length)
    save_agent(folder, follower.modules, content, words.read_bytes())
    opened = open_agent(Run(tmp_path / "run", "r2r", run, ""), "val_unseen", device="cpu")
    text = world.splits["train"][0].text
    plain = open_tokenizer(run.model, words, run.max_length)
    assert opened.tokenizer.encode(text).tolist() == tokenizer.encode(text).tolist()
    both = (plain.encode(text), opened.tokenizer.encode(text))
    assert [int((ids == plain.sep).sum()) for ids in both] == [1, len(split_sentences(text))]


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
    config = speaker_run(toy_world, tmp_path, max_length=12, max_steps=1, held_out=())
    words = config.data_dir / config.words
    speaker = train_speaker(config)
    (tmp_path / "snapshots/last").rename(tmp_path / "a")
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
        open_instructions(replace(run, features=tmp_path / "none.tsv"), ("train",), 4, CPU)


@pytest.fixture(scope="module")
def agent(toy_world, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    train_r2r(follower_run(toy_world, run_dir, max_steps=1, eval_every=1))
    return open_agent(open_run(run_dir), "val_unseen@2", snapshot="last", device="cpu")


def test_an_agent_comes_with_its_options_and_episodes(agent):
    assert agent.follower.config == agent.config.model
    assert len(agent.episodes) == len(agent.data.splits["val_unseen@2"])


def test_a_greedy_walk_gives_one_result_an_instruction(agent):
    walks = walk_agent(agent, Walking(batch_size=3))
    assert list(walks.results) == [one.id for one in agent.episodes.instructions]
    assert not walks.chosen_by


def test_places_are_not_visited_twice_where_that_is_forbidden(agent):
    results = walk_agent(agent, Walking(forbid_revisits=True)).results
    for result in results.values():
        places = result.viewpoints
        moves = [b for a, b in pairwise(places) if a != b]
        assert len({places[0], *moves}) == 1 + len(moves)


def test_a_search_ends_at_each_instruction_too(agent):
    walks = walk_agent(agent, Walking(beam=2))
    assert sorted(walks.results) == sorted(one.id for one in agent.episodes.instructions)
    assert not walks.chosen_by  # nothing to mix without a speaker


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speaker": "runs/speaker"}, "add --beam 20 or drop it"),
        ({"beam": 2, "tune": True}, "add --speaker RUN"),
    ],
    ids=["speaker", "tune"],
)
def test_options_that_need_each_other_are_named(agent, changes, message):
    with pytest.raises(ValueError, match=message):
        walk_agent(agent, Walking()._replace(**changes))


def test_another_data_folder_takes_the_place_of_the_runs(agent, tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        open_agent(open_run(agent.config.run_dir), "val_unseen", data_dir=tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: FollowerConfig(hidden_size=0), "--model.hidden-size must be at least 1, got 0"),
        (lambda: FollowerConfig(hidden_size=5), "must be even"),
        (lambda: FollowerConfig(dropout=1.0), r"must be in \[0, 1\), got 1.0"),
        (lambda: FollowerConfig(angle_size=6), "multiple of 4, got 6"),
        (lambda: SpeakerConfig(hidden_size=5), "--speaker.hidden-size must be even, got 5"),
        (lambda: SpeakerConfig(max_decode=0), "--speaker.max-decode must be at least 1"),
        (lambda: OptimizerConfig(lr=0.0), "--optimizer.lr must be positive"),
        (lambda: OptimizerConfig(max_norm=0.0), "--optimizer.max-norm must be positive"),
        (lambda: RolloutConfig(max_actions=0), "--rollout.max-actions must be at least 1"),
        (lambda: RolloutConfig(gamma=1.5), r"--rollout.gamma must be in \[0, 1\]"),
    ],
)
def test_impossible_settings_are_named(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


PRESETS = {**R2R_PRESETS, **{f"speaker of {name}": one for name, one in SPEAKER_PRESETS.items()}}
FOLDERS = {config.run_dir for _, config in PRESETS.values()}


@pytest.mark.parametrize("name", R2R_PRESETS)
def test_what_a_preset_continues_is_made_by_another(name):
    text, config = R2R_PRESETS[name]
    assert text
    assert {config.start_from, config.speaker} - {None} <= FOLDERS
    assert config.run_dir.parent == RUNS
    if config.start_from is not None:
        before = next(c for _, c in R2R_PRESETS.values() if c.run_dir == config.start_from)
        for size in ("encoder", "hidden_size", "encoder_size", "angle_size", "num_texts"):
            assert getattr(before.model, size) == getattr(config.model, size)


def test_both_stages_of_the_rows_with_several_texts_read_three():
    for name in ("prevalent-multi", "prevalent-multi-critical"):
        assert R2R_PRESETS[name][1].model.num_texts == 3
    assert R2R_PRESETS["prevalent-multi-critical"][1].feedback == "self-critical"
