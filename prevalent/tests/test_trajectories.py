"""The page of a walk shows what the agent weighed and read at every step."""

import pytest

from prevalent.page.explorer import trace
from prevalent.page.trajectories import TrajectoriesConfig, describe_trace, save_trace
from tests.small_agents import TOKENIZER, make_batch, make_follower


def test_a_picture_and_a_section_are_made(tmp_path):
    pytest.importorskip("matplotlib")
    follower = make_follower()
    one = trace(follower, make_batch(follower.environment), TOKENIZER)[0]
    save_trace(tmp_path / "a.png", follower.environment.graphs, one)
    assert (tmp_path / "a.png").stat().st_size > 1000
    section = describe_trace(follower.environment.graphs, one)
    assert section.count("<tr>") == 1 + len(one.steps)
    assert "m from the goal after" in section


def test_a_count_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--count must be at least 1, got 0"):
        TrajectoriesConfig(run_dir=tmp_path, count=0)
