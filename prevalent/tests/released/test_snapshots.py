"""Snapshot files: reading, writing, and the sentences where they do not fit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from prevalent.released.snapshots import (
    load_agent,
    load_snapshot,
    read_snapshot,
    save_agent,
    write_snapshot,
)
from tests.small_agents import make_batch, make_follower, make_speaker


def same_weights(a, b):
    for name, module in a.modules.items():
        ours = b.modules[name].state_dict()
        assert all(torch.equal(ours[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("encoder", ["lstm", "dic"])
def test_a_written_snapshot_continues_training_exactly(tmp_path, encoder):
    one, two = make_follower(encoder).train(False), make_follower(encoder, seed=1).train(False)
    batch = make_batch(one.environment)
    one.step(batch)
    write_snapshot(tmp_path / "best", one.modules, one.optimizers, iteration=40)
    assert load_snapshot(tmp_path / "best", two.modules, two.optimizers) == 40
    same_weights(one, two)
    for follower in (one, two):
        follower.step(batch)
    same_weights(one, two)


@pytest.mark.golden
def test_recorded_snapshots_are_read_and_written_back_alike(golden, tmp_path):
    paths = sorted((golden / "rollout").glob("snapshot_*"))
    if not paths:
        pytest.skip("no recorded snapshots")
    for path in paths:
        parts = read_snapshot(path)
        assert set(parts) == {"encoder", "decoder", "critic"}
        assert path.read_bytes()[:2] != b"PK"  # the legacy container
        theirs = torch.load(path, weights_only=True)
        for name, part in parts.items():
            assert list(part.state) == list(theirs[name]["state_dict"])
            assert part.optimizer["param_groups"]


def test_an_agent_folder_holds_all_modules(tmp_path):
    one, two = make_follower("dic"), make_follower("dic", seed=1)
    save_agent(tmp_path / "agent", one.modules, {"encoder": "dic"})
    load_agent(tmp_path / "agent", two.modules)
    same_weights(one, two)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": 12}, r"hidden size of 8, this agent's has 12; give the same --model.hid"),
        ({"word_size": 5}, r"lstm.weight_ih_l0: .* instead of"),
    ],
)
def test_another_size_is_named_in_one_sentence(tmp_path, changes, sentence):
    one = make_follower()
    write_snapshot(tmp_path / "snap", one.modules, one.optimizers, 1)
    save_agent(tmp_path / "folder", one.modules, {})
    for load, place in ((load_snapshot, "snap"), (load_agent, "folder")):
        with pytest.raises(ValueError, match=sentence) as error:
            load(tmp_path / place, make_follower(**changes).modules)
        assert "\n" not in str(error.value)


def test_another_vocabulary_and_another_kind_of_agent_are_named(tmp_path):
    one, speaker = make_follower(), make_speaker()
    write_snapshot(tmp_path / "follower", one.modules, one.optimizers, 1)
    write_snapshot(tmp_path / "speaker", speaker.modules, speaker.optimizers, 1)
    larger = make_follower()
    larger.modules["encoder"].embedding = torch.nn.Embedding(99, 6)
    with pytest.raises(ValueError, match=r"a vocabulary of \d+ words, this agent's has 99; give"):
        load_snapshot(tmp_path / "follower", larger.modules)
    with pytest.raises(ValueError, match=r"its encoder lacks .* another kind of agent"):
        load_snapshot(tmp_path / "follower", make_follower("dic").modules)
    with pytest.raises(ValueError, match="has no critic, it holds encoder, decoder"):
        load_snapshot(tmp_path / "speaker", {"critic": one.critic})


@dataclass
class Foreign:
    """Not a tensor."""

    value: int = 1


def test_code_and_other_files_are_refused(tmp_path):
    torch.save({"encoder": Foreign()}, tmp_path / "code")
    with pytest.raises(ValueError, match="could run code"):
        read_snapshot(tmp_path / "code")
    torch.save({"weight": torch.ones(2)}, tmp_path / "plain")
    with pytest.raises(ValueError, match="is no agent snapshot"):
        read_snapshot(tmp_path / "plain")
    with pytest.raises(FileNotFoundError):
        read_snapshot(tmp_path / "nothing")
