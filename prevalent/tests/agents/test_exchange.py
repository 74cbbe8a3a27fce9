"""Agents in the authors' snapshot files become runs of ours and go back unchanged."""

import pytest
import torch

from prevalent.convert import Untold, export_snapshot, import_snapshot, main
from prevalent.released.snapshots import read_snapshot, write_snapshot
from prevalent.runtime.rundir import read_config
from prevalent.tasks.r2r import R2RRun
from tests.small_agents import make_follower, make_speaker


def assert_same_states(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].state.keys() == b[name].state.keys()
        for key, value in a[name].state.items():
            torch.testing.assert_close(value, b[name].state[key], rtol=0, atol=0)


@pytest.mark.parametrize("encoder", ["lstm", "dic", "bert", "bert-projected"])
def test_every_kind_of_follower_is_recognized(tmp_path, encoder):
    follower = make_follower(encoder)
    write_snapshot(tmp_path / "snap", follower.modules, follower.optimizers, 3)
    line = import_snapshot(tmp_path / "snap", tmp_path / "run", None, Untold(num_heads=2))
    assert line.startswith("follower")
    export_snapshot(tmp_path / "run", tmp_path / "back")
    assert_same_states(read_snapshot(tmp_path / "snap"), read_snapshot(tmp_path / "back"))


@pytest.mark.parametrize("encoder", ["lstm", "dic"])
def test_an_agent_that_reads_several_texts_side_by_side_is_recognized(tmp_path, encoder):
    follower = make_follower(encoder, num_texts=3, merge_texts="cat")
    write_snapshot(tmp_path / "snap", follower.modules, follower.optimizers, 3)
    import_snapshot(tmp_path / "snap", tmp_path / "run", None, Untold(num_heads=2))
    model = read_config(R2RRun, tmp_path / "run").model
    assert (model.num_texts, model.merge_texts) == (3, "cat")
    export_snapshot(tmp_path / "run", tmp_path / "back")
    assert_same_states(read_snapshot(tmp_path / "snap"), read_snapshot(tmp_path / "back"))


def test_a_speaker_is_recognized(tmp_path):
    speaker = make_speaker()
    write_snapshot(tmp_path / "snap", speaker.modules, speaker.optimizers, 3)
    line = import_snapshot(tmp_path / "snap", tmp_path / "run", None, Untold(angle_size=4))
    assert line.startswith("speaker")


def test_the_wrong_direction_and_an_existing_destination_are_refused(tmp_path):
    speaker = make_speaker()
    write_snapshot(tmp_path / "snap", speaker.modules, speaker.optimizers, 3)
    with pytest.raises(ValueError, match="add --to ours"):
        main([str(tmp_path / "snap"), str(tmp_path / "new"), "--to", "authors"])
    with pytest.raises(ValueError, match="exists already"):
        main([str(tmp_path / "snap"), str(tmp_path / "snap")])
