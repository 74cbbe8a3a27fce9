"""A trace holds every decision of a walk, with what was weighed and read."""

import numpy as np
import pytest

from prevalent.agents.rollout import Batch
from prevalent.page.explorer import _reading_order, trace, trace_simple
from tests.factories import tasks_in
from tests.small_agents import TOKENIZER, make_batch, make_follower, make_world


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


def test_scores_are_the_logits_of_the_probabilities():
    follower = make_follower()
    for one in trace(follower, make_batch(follower.environment), TOKENIZER):
        for step in one.steps:
            share = np.exp(np.array(step.scores) - max(step.scores))
            np.testing.assert_allclose(step.probabilities, share / share.sum(), rtol=1e-4)
            assert len(step.directions) == len(step.targets)


@pytest.mark.parametrize("agent", ["random", "stop", "forward", "shortest"])
def test_agents_that_do_not_learn_leave_a_trace_too(agent):
    graphs = make_world()[0].graphs
    for task in tasks_in(graphs, 4):
        one = trace_simple(agent, graphs, task, seed=1)
        assert graphs.viewpoints[one.nodes[0]] == task.path[0]
        assert [step.node for step in one.steps] == one.nodes
        assert one.steps[-1].action == len(one.steps[-1].targets)
        for step, after in zip(one.steps, one.nodes[1:], strict=False):
            assert step.targets[step.action] == after
            assert not step.scores
            assert not len(step.attention)
        if agent == "shortest":
            assert graphs.viewpoints[one.nodes[-1]] == task.path[-1]
        if agent == "stop":
            assert len(one.nodes) == 1
