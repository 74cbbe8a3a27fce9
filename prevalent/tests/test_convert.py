"""Agents in the authors' snapshot files become runs of ours and go back unchanged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from prevalent.config import TINY_MODEL
from prevalent.convert import main
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import load_model, read_weights, save_authors_folder, save_model
from prevalent.released.snapshots import read_snapshot, write_snapshot
from prevalent.runs import open_run
from prevalent.tasks.hanna import train_hanna
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, pretrain
from tests.small_agents import make_follower, make_speaker
from tests.small_ndh import make_agent
from tests.toy_runs import hanna_run


def assert_same(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


def test_there_and_back_changes_nothing(tmp_path):
    model = PrevalentForPretraining(TINY_MODEL)
    save_model(tmp_path / "a", model)
    (tmp_path / "a/vocab.txt").write_text("[PAD]\n")
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--to", "authors", "--quiet"])
    main([str(tmp_path / "b"), str(tmp_path / "c"), "--quiet"])
    assert_same(load_model(tmp_path / "c"), model)
    assert load_model(tmp_path / "b").config == TINY_MODEL
    assert (tmp_path / "c/vocab.txt").exists()


def test_every_tensor_that_does_not_fit_is_reported(tmp_path, capsys):
    folder = tmp_path / "a"
    save_authors_folder(folder, PrevalentForPretraining(TINY_MODEL))
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del state["bert.pooler.dense.bias"]
    state["bert.extra"] = torch.zeros(2)
    state["next_action.linear.bias"] = torch.zeros(5)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"the first wrong shape is next_action\.linear\.bias"):
        main([str(folder), str(tmp_path / "b")])
    printed = capsys.readouterr().out
    assert "missing: bert.pooler.dense.bias" in printed
    assert "unexpected: bert.extra" in printed
    assert "wrong_shape: next_action.linear.bias: (5,) instead of (36,)" in printed
    assert not (tmp_path / "b").exists()


def test_a_destination_with_weights_is_refused(tmp_path):
    save_model(tmp_path, PrevalentForPretraining(TINY_MODEL))
    with pytest.raises(ValueError, match=r"already holds model\.safetensors"):
        main([str(tmp_path), str(tmp_path)])


def test_a_folder_without_weights_says_what_is_wanted(tmp_path):
    with pytest.raises(FileNotFoundError, match="released checkpoint folder"):
        main([str(tmp_path), str(tmp_path / "out")])


def assert_same_states(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].state.keys() == b[name].state.keys()
        for key, value in a[name].state.items():
            torch.testing.assert_close(value, b[name].state[key], rtol=0, atol=0)


@pytest.mark.parametrize("encoder", ["lstm", "dic", "bert", "bert-projected"])
def test_every_kind_of_follower_is_recognized(tmp_path, encoder, capsys):
    follower = make_follower(encoder)
    write_snapshot(tmp_path / "snap", follower.modules, follower.optimizers, 3)
    main([str(tmp_path / "snap"), str(tmp_path / "run"), "--agent.num-heads", "2"])
    assert "r2r: " in capsys.readouterr().out
    main([str(tmp_path / "run"), str(tmp_path / "back"), "--to", "authors"])
    assert_same_states(read_snapshot(tmp_path / "snap"), read_snapshot(tmp_path / "back"))


@pytest.mark.parametrize("encoder", ["lstm", "dic"])
def test_an_agent_that_reads_several_texts_side_by_side_is_recognized(tmp_path, encoder):
    follower = make_follower(encoder, num_texts=3, merge_texts="cat")
    write_snapshot(tmp_path / "snap", follower.modules, follower.optimizers, 3)
    main([str(tmp_path / "snap"), str(tmp_path / "run"), "--agent.num-heads", "2"])
    model = open_run(tmp_path / "run").config.model
    assert (model.num_texts, model.merge_texts) == (3, "cat")
    main([str(tmp_path / "run"), str(tmp_path / "back"), "--to", "authors"])
    assert_same_states(read_snapshot(tmp_path / "snap"), read_snapshot(tmp_path / "back"))


def test_a_speaker_is_recognized(tmp_path, capsys):
    speaker = make_speaker()
    write_snapshot(tmp_path / "snap", speaker.modules, speaker.optimizers, 3)
    main([str(tmp_path / "snap"), str(tmp_path / "run"), "--agent.angle-size", "4"])
    assert "speaker: " in capsys.readouterr().out
    assert open_run(tmp_path / "run").kind == "speaker"


def test_the_wrong_direction_and_an_existing_destination_are_refused(tmp_path):
    speaker = make_speaker()
    write_snapshot(tmp_path / "snap", speaker.modules, speaker.optimizers, 3)
    with pytest.raises(ValueError, match="add --to ours"):
        main([str(tmp_path / "snap"), str(tmp_path / "new"), "--to", "authors"])
    with pytest.raises(ValueError, match="exists already"):
        main([str(tmp_path / "snap"), str(tmp_path / "snap")])


KINDS = [
    {"encoder": "dic"},
    {"encoder": "dic", "top_lstm": False},
    {"encoder": "lstm"},
    {"encoder": "lstm", "actions": "low-level", "bidirectional": False},
]


def save_pair(folder, agent):
    for name, module in agent.modules.items():
        torch.save(module.state_dict(), folder / f"run_{name[:3]}_iter_7")
    return folder / "run_enc_iter_7"


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_every_kind_of_agent_goes_there_and_back(tmp_path, changes):
    path = save_pair(tmp_path, make_agent(**changes))
    sizes = ["--agent.num-heads", "2", "--agent.angle-size", "4"]
    main([str(path), str(tmp_path / "run"), *sizes])
    main([str(tmp_path / "run"), str(tmp_path / "back_enc_iter_7"), "--to", "authors"])
    for part in ("enc", "dec"):
        before = read_weights(tmp_path / f"run_{part}_iter_7")
        after = read_weights(tmp_path / f"back_{part}_iter_7")
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_command_takes_either_file_and_needs_both(tmp_path, capsys):
    path = save_pair(tmp_path, make_agent(encoder="lstm"))
    other = tmp_path / "run_dec_iter_7"
    main([str(other), str(tmp_path / "run"), "--agent.angle-size", "4"])
    assert "ndh: " in capsys.readouterr().out
    with pytest.raises(ValueError, match="must be named like the authors' file of an encoder"):
        main([str(tmp_path / "run"), str(tmp_path / "back"), "--to", "authors"])
    other.unlink()
    with pytest.raises(FileNotFoundError, match="run_dec_iter_7 does not exist"):
        main([str(path), str(tmp_path / "again")])


def test_a_run_of_pre_training_is_converted_by_its_weights_and_one_of_hanna_refused(
    toy_world, tmp_path
):
    train_hanna(hanna_run(toy_world, tmp_path / "hanna", max_steps=1, held_out=()))
    with pytest.raises(ValueError, match="of kind 'hanna', which has no file of the authors"):
        main([str(tmp_path / "hanna"), str(tmp_path / "out"), "--to", "authors"])
    config = replace(PRETRAIN_PRESETS["smoke"][1], run_dir=tmp_path / "run", max_steps=1)
    model = pretrain(replace(config, held_out=()))
    main([str(tmp_path / "run"), str(tmp_path / "out"), "--to", "authors", "--quiet"])
    assert_same(load_model(tmp_path / "out"), model)
