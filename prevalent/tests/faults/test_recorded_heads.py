"""Recorded agents are rebuilt with the heads that they had, whatever else lies in their folder."""

from __future__ import annotations

import json

import pytest

from tests.recorded_agents import Recorded, find_heads, number_of_heads, rollout_cases
from tests.recorded_ndh import RecordedDialogs


@pytest.fixture
def misleading(golden, tmp_path):
    """The recorded cases beside an encoder of another number of heads."""
    for name in ("rollout", "ndh"):
        if (golden / name).is_dir():
            (tmp_path / name).symlink_to(golden / name)
    config = tmp_path / "models/dicadd_tiny/config.json"
    config.parent.mkdir(parents=True)
    config.write_text(json.dumps({"num_attention_heads": number_of_heads(golden) * 2}))
    return tmp_path


def test_the_number_of_heads_is_the_one_that_repeats_a_step():
    tried = []

    def gap(heads):
        tried.append(heads)
        return 0.0 if heads == 3 else 1.0

    assert find_heads(4, 12, gap) == 3
    assert tried == [4, 1, 2, 3]
    assert find_heads(3, 12, gap) == 3
    assert find_heads(5, 12, gap) == 3  # no multiple of it


@pytest.mark.golden
def test_agents_have_their_own_number_of_heads(golden, misleading, real_graphs, data_dir):
    def heads(folder):
        paths = [path for path in rollout_cases(folder) if "dic" in path.name]
        found = [Recorded.load(path, real_graphs, data_dir) for path in paths]
        found.append(RecordedDialogs.load(folder, real_graphs, data_dir))
        return [one.num_heads for one in found]

    assert heads(misleading) == heads(golden)
