"""The page of a walk shows what the agent weighed and read at every step."""

import numpy as np
import pytest

from prevalent.agents.rollout import Batch
from prevalent.trajectories import (
    TrajectoriesConfig,
    _reading_order,
    describe_trace,
    save_trace,
    trace,
)
from tests.small_agents import TOKENIZER, make_batch, make_follower


@pytest.mark.parametrize("encoder", ["lstm", "dic"])
@pytest.mark.parametrize("num_texts", [1, 2])
def test_every_decision_is_recorded(encoder, num_texts):
    follower = make_follower(encoder, num_texts=num_texts)
    batch = make_batch(follower.environment)
    if num_texts > 1:
        other = np.stack([TOKENIZER.encode("turn left")] * len(batch.tasks))
        batch = Batch(batch.tasks, np.stack([batch.tokens, other], axis=1))
    for i, one in enumerate(trace(follower, batch, TOKENIZER)):
        assert len(one.words) == (batch.tokens[i] != 0).sum()
        assert one.nodes[0] == one.steps[0].node
        assert len(one.nodes) in (len(one.steps), len(one.steps) + 1)
        for step, node in zip(one.steps, one.nodes, strict=False):
            assert step.node == node
            assert sum(step.probabilities) == pytest.approx(1, abs=1e-5)
            assert len(step.probabilities) == len(step.targets) + 1
            assert step.attention.shape == (len(one.words),)
            assert step.attention.sum() == pytest.approx(num_texts, abs=1e-4)


def test_attention_to_reversed_words_is_shown_in_reading_order():
    weights = np.array([3, 2, 1, 0, 5, 4, 0, 0], dtype=np.float32)  # two texts, padded to 4
    assert _reading_order(weights, [3, 2], True).tolist() == [1, 2, 3, 4, 5]
    assert _reading_order(weights, [3, 2], False).tolist() == [3, 2, 1, 5, 4]


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
