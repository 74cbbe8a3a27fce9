"""A run records what it uses, a dry run is refused where a start is, messages name the cure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from prevalent.__main__ import main
from prevalent.data.instructions import expand
from prevalent.loop import train
from prevalent.runs import open_run
from prevalent.runtime.checkpoint import finished_steps
from prevalent.tasks import graph, hanna, ndh, pretraining, r2r, speaker
from prevalent.tasks.pretraining import PRETRAIN_PRESETS
from tests.factories import make_scan, write_connectivity
from tests.toy_runs import (
    contents,
    follower_run,
    graph_run,
    hanna_run,
    ndh_run,
    on_toy_world,
    speaker_run,
)

AGENTS = {
    "r2r": (r2r.TASK, follower_run),
    "graph": (graph.TASK, graph_run),
    "speaker": (speaker.TASK, speaker_run),
    "ndh": (ndh.TASK, ndh_run),
    "hanna": (hanna.TASK, hanna_run),
}
COMMANDS = {
    "r2r": "train-r2r smoke",
    "graph": "train-graph smoke",
    "speaker": "train-speaker smoke",
    "ndh": "train-ndh ndh-smoke",
    "hanna": "train-hanna hanna-smoke",
    "pretraining": "pretrain smoke",
}


def say(words, capsys, status="2") -> str:
    """The last line that a command says."""
    with pytest.raises(SystemExit, match=status):
        main([str(word) for word in words])
    printed = capsys.readouterr()
    return (printed.err if status == "2" else printed.out).strip().splitlines()[-1]


@pytest.mark.parametrize("task", COMMANDS)
def test_a_split_named_twice_would_count_twice(task, tmp_path, capsys):
    split = "r2r:train" if task == "pretraining" else "train"
    words = [*COMMANDS[task].split(), "--run-dir", tmp_path / "run", "--dry-run"]
    said = say([*words, "--train", split, f"{split}@5"], capsys)
    assert f"--train names {split} twice" in said
    assert not (tmp_path / "run").exists()


def test_other_lists_of_splits_have_each_once(tmp_path, capsys):
    said = say(["train-r2r", "smoke", "--dry-run", "--aug", "./a.json", "./a.json"], capsys)
    assert "--aug names ./a.json twice" in said
    said = say(["prepare", "triplets", "--splits", "train", "train"], capsys)
    assert "--splits names train twice" in said


@pytest.fixture(scope="module")
def started(toy_world, tmp_path_factory):
    """A follower's run of one step of two."""
    run = tmp_path_factory.mktemp("started") / "run"
    train(r2r.TASK, follower_run(toy_world, run, max_steps=1, held_out=()))
    return run


@pytest.mark.parametrize("name", ["start_from", "pretrained", "load_optimizer"])
def test_weights_that_a_started_run_does_not_load_are_not_recorded(
    toy_world, started, name, tmp_path
):
    before = contents(started)
    value = True if name == "load_optimizer" else tmp_path / "other"
    change = {name: value} | ({"start_from": started} if name == "load_optimizer" else {})
    config = follower_run(toy_world, started, max_steps=2, held_out=(), **change)
    with pytest.raises(ValueError, match=r"in the run in .*has come to step 1"):
        train(r2r.TASK, config)
    assert contents(started) == before


def test_an_encoder_that_is_read_at_the_start_alone_cannot_be_given_later(toy_world, tmp_path):
    run = tmp_path / "run"
    preset, words = PRETRAIN_PRESETS["smoke"][1], {"vocabulary": Path("wordpiece.txt")}
    train(pretraining.TASK, on_toy_world(preset, toy_world, run, max_steps=1, **words))
    before = contents(run)
    again = on_toy_world(preset, toy_world, run, max_steps=2, init_from=run / "model", **words)
    with pytest.raises(ValueError, match=r"--init-from is .* here and None in the run"):
        train(pretraining.TASK, again)
    assert contents(run) == before


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("dry", [True, False])
def test_data_that_a_toy_world_does_not_use_are_refused(kind, dry, tmp_path, capsys):
    run = tmp_path / "run"
    for option, value in (("--data-dir", tmp_path), ("--features", "clip.npy")):
        words = [*COMMANDS[kind].split(), "--run-dir", run, option, value]
        said = say([*words, "--dry-run"] if dry else words, capsys)
        assert f"{option} {value} is not used: --world toy makes its own data" in said
    assert not run.exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("train-r2r envdrop --toy-houses 3", "it counts the houses of --world toy"),
        ("train-r2r smoke --standin-dim 8", "--world toy makes features"),
        ("train-r2r envdrop --standin_dim=8", "--features names a file"),
        ("train-r2r smoke --model.encoder lstm --bert.num-heads 2", "lstm has no transformer"),
        ("train-r2r envdrop --wordpieces w.txt", "lstm has no transformer"),
        ("train-r2r smoke --bert.vocab-size 9", "it follows from the vocabulary"),
        ("train-r2r smoke --pretrained model --bert.hidden-size 32", "those of --pretrained model"),
        ("train-graph smoke --world matterport --words w.txt", "reads word pieces"),
        ("train-ndh ndh-smoke --toy-houses 3 --world matterport", "it counts the houses"),
        ("train-hanna hanna-smoke --standin-dim 8", "--world toy makes features"),
        ("train-speaker smoke --standin-dim 8", "--world toy makes features"),
        ("pretrain smoke --standin-dim 8", "--world toy makes features"),
        ("pretrain smoke --model.image-dim 8", "it follows from the features"),
        ("pretrain smoke --no-use-images --features f.tsv", "trains on the texts alone"),
        ("pretrain smoke --max-steps 3 --epochs 2", "--max-steps 3 says how long"),
        ("pretrain smoke --model.vocab-size 9", "it follows from the vocabulary"),
        ("pretrain smoke --no-predict-action --action-target rank", "learns no action"),
        ("pretrain smoke --held-out --patience 2", "nothing is evaluated"),
        ("train-r2r smoke --aug-weight 0.5", "there are no augmented paths"),
        ("train-r2r smoke --walk-reward sr_sc", "rewards no whole walks; give self-critical"),
        ("train-r2r smoke --feedback self-critical --imitation-weight 1", "no such weight"),
        ("train-r2r smoke --schedule-ratio 0.5 --imitation-weight 1", "--schedule-ratio 0.5 has"),
        ("train-ndh ndh-smoke --feedback teacher --sample-ratio 0.5", "mixes nothing"),
        ("train-hanna hanna-smoke --optimizer.max-norm 5", "HANNA clips no gradient"),
        ("train-graph smoke --object-weight 2", "no object is named"),
        (
            "train-r2r envdrop --model.encoder-size 64",
            "lstm has no such part; drop it, or give dic",
        ),
        ("train-r2r envdrop --model.no-reverse-input", "lstm has no such part"),
        ("train-r2r envdrop --model.encoder-dropout 0.1", "lstm has no such part"),
        ("train-r2r envdrop --model.update-cross", "lstm has no such part"),
        ("train-r2r envdrop --model.no-include-vision", "lstm reads words alone"),
        ("train-r2r envdrop --model.separate-sentences", "lstm reads words alone"),
        ("train-r2r envdrop --rollout.reuse-text", "texts are read once an episode in any case"),
        ("train-r2r smoke --model.encoder bert --model.word-size 4", "bert has no such width"),
        ("train-r2r smoke --model.encoder bert --model.update-cross", "bert has no such part"),
        ("train-r2r smoke --model.summary max", "dic starts the decoder in its own way"),
        ("train-r2r smoke --model.merge-texts max", "leaves nothing to merge"),
        ("train-r2r smoke --model.no-encoder-sees-noise", "no --speaker describes paths"),
        ("train-r2r smoke --model.no-include-vision --model.update-cross", "fuses nothing"),
        ("train-r2r smoke --feedback teacher --rollout.gamma 0.5", "teacher values no action"),
        ("train-r2r smoke --feedback self-critical --teacher path", "imitates nobody"),
        ("train-r2r smoke --schedule-ratio -0.5", "-0.5 is none; give 0 to 1"),
        ("train-r2r smoke --bert.num-actions 9", "an agent chooses by its own decoder"),
        ("train-r2r smoke --bert.no-update-language", "--model.update-language says it"),
        ("train-r2r smoke --held-out --eval-batch-size 9", "nothing is evaluated"),
        ("train-ndh seq2seq-oracle --model.encoder-size 64", "lstm has no such part"),
        ("train-ndh seq2seq-oracle --model.view-stride 3", "looks at one view"),
        ("train-ndh seq2seq-oracle --angle-layout block", "looks at one view"),
        ("train-ndh seq2seq-oracle --tags whole", "lstm reads no word pieces"),
        ("train-ndh ndh-smoke --model.word-size 4", "dic has no such width"),
        ("train-ndh ndh-smoke --model.action-size 4", "panoramic embeds no actions"),
        ("train-hanna anna --model.update-language", "words always learns"),
        ("train-hanna hanna-smoke --rollout.ask-every 3", "learned does not count steps"),
        ("train-hanna hanna-smoke --rollout.ask-probability 0.3", "learned does not draw"),
        ("train-hanna no-assistance --model.no-reasons", "never has no asking network"),
        ("train-hanna no-assistance --rollout.vision-only", "never gets no help"),
        ("train-hanna hanna-smoke --bert.no-update-cross", "reads texts without views"),
        (
            "train-graph smoke --imitation-weight 0 --expert-weight 0 --scales-weight 1",
            "nobody is imitated",
        ),
        ("train-speaker smoke --held-out --eval-batches 2", "nothing is evaluated"),
        ("pretrain smoke --no-use-images --angle-size 8", "trains on the texts alone"),
        (
            "pretrain prevalent-base --train triplets:t --held-out --max-length 9",
            "made of texts and steps already",
        ),
        (
            "pretrain prevalent-base --train triplets:t --held-out --vocabulary none.txt",
            "none.txt; give a file in --data-dir",
        ),
    ],
)
def test_an_option_that_a_run_would_not_use_is_refused_where_it_is_given(
    words, reason, tmp_path, capsys
):
    given = next(word for word in words.split()[::-1] if word.startswith("--"))
    given = given.partition("=")[0].replace("_", "-")
    for dry in (["--dry-run"], []):
        said = say([*words.split(), "--run-dir", tmp_path / "run", *dry], capsys)
        assert "is not used: " in said, said
        assert reason in said, said
        assert given in said or "--toy-houses" in said, said
    assert not (tmp_path / "run").exists()


def test_a_run_that_was_begun_with_an_option_it_does_not_use_continues_without_it(
    toy_world, tmp_path, capsys
):
    run, again = tmp_path / "run", {"max_steps": 2, "held_out": ()}
    plain = follower_run(toy_world, run, **again)
    other = replace(plain.model, merge_texts="max")
    train(r2r.TASK, replace(plain, model=other, max_steps=1))
    train(r2r.TASK, plain)
    assert open_run(run).config.model.merge_texts == "max"
    assert finished_steps(run)[-1] == 2


def test_an_optimizers_state_is_loaded_or_refused(toy_world, started, tmp_path):
    for change, said in (
        ({}, "--load-optimizer takes the state from the file of --start-from"),
        ({"start_from": started}, "holds no optimizer's state"),
    ):
        config = follower_run(toy_world, tmp_path / "run", load_optimizer=True, **change)
        with pytest.raises(ValueError, match=said):
            train(r2r.TASK, config)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_is_refused_where_the_start_is_and_leaves_nothing(started, tmp_path, capsys):
    before = contents(started)
    for words, said in (
        (["train-graph", "smoke", "--run-dir", started], "holds a run of kind 'r2r'"),
        (["train-r2r", "smoke", "--run-dir", started], "--world is toy here and matterport"),
        (["train-r2r", "smoke", "--device", "cuda:77"], "--device cuda:77"),
        (["evaluate", "--run-dir", tmp_path / "none"], "is not the folder of a run"),
        (["evaluate", "--run-dir", started, "--split", "nosuch"], "nosuch"),
        (["evaluate", "--run-dir", started, "--step", "77"], "77"),
        (["submit", "--results", tmp_path / "none.json"], "does not exist"),
        (["trajectories", "--run-dir", started, "--ids", "77_0"], "--ids 77_0 is not in the split"),
        (["trajectories", "--results", tmp_path / "none.json"], "does not exist"),
        (["compare", tmp_path / "a.json", tmp_path / "b.json"], "does not exist"),
        (["baseline", "--split", "nosuch", "--data-dir", tmp_path], "nosuch"),
    ):
        assert said in say([*words, "--dry-run"], capsys), words
    good = ["train-r2r", "smoke", "--run-dir", tmp_path / "new", "--device", "cpu", "--dry-run"]
    assert say(good, capsys, "0") == "}"
    assert contents(started) == before
    assert not contents(tmp_path)


@pytest.fixture
def answered(tmp_path):
    """A square with one path of two texts, results of the first one, and a run's folder of them."""
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    item = {"path_id": 1, "scan": "house", "heading": 0.0, "path": ["a", "b", "c"]}
    (tmp_path / "r2r").mkdir()
    for name, number in (("val", 1), ("other", 2)):
        text = json.dumps([item | {"path_id": number, "instructions": ["go", "walk"]}])
        (tmp_path / "r2r" / f"R2R_{name}.json").write_text(text)
    walk = [[one, 0.0, 0.0] for one in "abc"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results_val.json").write_text(
        json.dumps([{"instr_id": "1_0", "trajectory": walk}])
    )
    return tmp_path


def test_results_of_another_split_or_a_part_name_file_and_cure(answered, capsys):
    file = answered / "run" / "results_val.json"
    data = ["--data-dir", answered]
    verbs = {
        "evaluate": ["evaluate", "--results", file, *data],
        "compare": ["compare", file, file, *data],
        "check": ["check", file, *data],
        "submit": ["submit", "--results", file, *data],
        "trajectories": ["trajectories", "--results", file, *data],
    }
    for verb, words in verbs.items():
        said = say([*words, "--split", "other"], capsys)
        assert f"{file}: result '1_0' belongs to no instruction of the split 'other'" in said
        assert "0 of 1 do" in said
        assert "--split" in said
        if verb != "trajectories":
            said = say([*words, "--split", "val"], capsys)
            assert f"{file}: instruction '1_1' of the split 'val' has no result (1 of 2" in said
            assert ("--allow-missing" in said) == (verb in ("evaluate", "compare"))


def test_a_run_in_the_place_of_results_is_told_what_to_name(answered, capsys):
    run = answered / "run"
    said = say(["compare", run, run, "--split", "val", "--data-dir", answered], capsys)
    assert f"{run} is a folder, not a file; name a file of results, such as" in said
    assert str(run / "results_val.json") in said
    assert "--results" not in said


def test_a_page_is_not_written_into_a_folder_that_is_called_a_page(answered, capsys):
    file = answered / "run" / "results_val.json"
    words = ["trajectories", "--results", file, "--split", "val", "--data-dir", answered]
    said = say([*words, "--output", answered / "page.html"], capsys)
    assert (
        f"is to be a folder, in which index.html and the pictures are written; give --output "
        f"{answered / 'page'}" in said
    )
    assert not (answered / "page.html").exists()
    said = say([*words, "--output", file], capsys)
    assert f"--output {file} is a file; give a folder" in said


@pytest.mark.parametrize("mark", ["@0", "@x", "@²", "@-1"])
def test_a_part_of_no_item_is_refused_and_an_empty_split_called_one(answered, mark, capsys):
    file = answered / "run" / "results_val.json"
    (answered / "r2r" / "R2R_none.json").write_text("[]")
    for words in (["evaluate", "--results", file], ["baseline", "--agent", "stop"]):
        words = [*words, "--data-dir", answered, "--split"]
        said = say([*words, f"val{mark}"], capsys)
        assert "after @ must be a whole number from 1 on" in said
        assert "the split 'none' is empty" in say([*words, "none"], capsys)


def test_a_length_that_is_none_is_named_by_item():
    item = {"path_id": 1, "scan": "house", "heading": 0.0, "path": ["a"], "instructions": ["go"]}
    for distance in ("x", None, float("nan"), True):
        with pytest.raises(
            ValueError, match=r"x\.json: item 0: 'distance' must be a finite number"
        ):
            expand([item | {"distance": distance}], "x.json")


def test_an_option_that_no_score_depends_on_is_refused(answered, capsys):
    words = ["evaluate", "--results", answered / "run" / "results_val.json", "--allow-missing"]
    words += ["--split", "val", "--data-dir", answered]
    for option, said in (
        (["--tune-alpha"], "--tune-alpha is of the agent of a run"),
        (["--one-text"], "--one-text is of the agent of a run"),
        (["--path-type", "planner_path"], "--path-type is of ndh"),
        (["--task", "hanna", "--count-turns"], "--count-turns is of nDTW"),
        (["--alpha", "0.3"], "--alpha 0.3 weighs a speaker against the follower"),
    ):
        assert said in say([*words, *option], capsys)
    for verb in (["compare", "a.json", "b.json"], ["baseline"]):
        said = say([*verb, "--path-type", "planner_path"], capsys)
        assert "--path-type is of ndh, the walks are of r2r; drop it" in said
    said = say(["baseline", "--agent", "stop", "--seeds", "3"], capsys)
    assert "--seeds 3: --agent stop draws nothing" in said


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=str)
def test_an_option_that_the_agent_of_a_run_does_not_use_is_refused(started, dry, capsys):
    words = ["evaluate", "--run-dir", started, "--split", "val_seen", *dry]
    said = say([*words, "--one-text"], capsys)
    assert f"--one-text: the agent of {started} reads one text in any case" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe{}", "it is no UTF-8 text from byte 0 on"),
        (b"", "it is empty"),
        (b'[{"instr_id": ', "it ends too early, in line 1"),
        (b'[\n{"instr_id" 1}]', "wrong from line 2, column"),
        (b"[" * 100_000, "it ends too early, in line 1|too many brackets"),
    ],
)
def test_a_file_that_is_no_json_is_described_in_words(answered, content, said, capsys):
    import re

    file = answered / "bad.json"
    file.write_bytes(content)
    words = ["evaluate", "--results", file, "--split", "val", "--data-dir", answered]
    assert re.search(rf"{re.escape(str(file))} is not valid JSON \(({said})", say(words, capsys))


def test_a_file_that_is_read_is_not_written_over(tmp_path, capsys):
    walks, other = tmp_path / "walks.jsonl", tmp_path / "other.json"
    for path in (walks, other):
        path.write_text("[]")
    for words in (
        ["evaluate", "--results", walks, "--output", walks],
        ["evaluate", "--results", walks, "--per-instruction", walks],
        ["compare", walks, other, "--output", other],
    ):
        assert "is the file that is read, and would be written over" in say(words, capsys)
    assert walks.read_text() == other.read_text() == "[]"


def test_a_snapshot_is_no_run(started, capsys):
    said = say(["evaluate", "--run-dir", started / "snapshots/last"], capsys)
    assert "is the snapshot last of a run and no run; give " + str(started) in said
    said = say(["evaluate", "--run-dir", started / "snapshots"], capsys)
    assert said.endswith(f"it has no config.json; give {started}")
