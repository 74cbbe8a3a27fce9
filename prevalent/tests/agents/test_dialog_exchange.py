"""Agents of NDH in the authors' two files become runs of ours and go back unchanged."""

import pytest
import torch

from prevalent.convert import Untold, import_dialog_agent, main
from prevalent.released.checkpoints import read_weights
from tests.small_dialogs import make_agent

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
    untold = Untold(num_heads=2, angle_size=4)
    line = import_dialog_agent(path, tmp_path / "run", None, untold)
    assert "0 missing, 0 unexpected" in line
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
    assert "dialog agent" in capsys.readouterr().out
    with pytest.raises(ValueError, match="must be named like the authors' file of an encoder"):
        main([str(tmp_path / "run"), str(tmp_path / "back"), "--to", "authors"])
    other.unlink()
    with pytest.raises(FileNotFoundError, match="run_dec_iter_7 does not exist"):
        main([str(path), str(tmp_path / "again")])
