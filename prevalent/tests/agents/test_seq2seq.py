"""The Seq2Seq baseline against recorded roll-outs."""

import numpy as np
import pytest

from prevalent.environments.low_level import FORWARD
from tests.recorded_agents import near
from tests.recorded_ndh import FORWARD as LOSS, RecordedBaseline, check_steps, check_walks, draws_of
from tests.small_ndh import make_agent, make_dialog_batch


@pytest.mark.golden
def test_roll_outs_equal_the_recorded_ones(golden, real_graphs, device):
    recorded = RecordedBaseline.load(golden, real_graphs, device)
    feedbacks = recorded.feedbacks()
    assert feedbacks
    for feedback in feedbacks:
        part, agent = recorded.case[feedback], recorded.agent(feedback)
        batch = recorded.batch(feedback)
        rolled = agent.rollout(batch, feedback, draws=draws_of(part), keep_steps=True)
        assert agent.loss(rolled).item() == pytest.approx(part["loss"], abs=near(device, LOSS))
        assert rolled.ended[part["perm_idx"]].tolist() == part["ended"]
        check_steps(rolled.steps, part, recorded.arrays, feedback)
        check_walks(agent.environment.trajectories(), part)


def test_nothing_ahead_means_no_way_forward():
    agent = make_agent(encoder="lstm", actions="low-level", max_actions=12).train(False)
    batch = make_dialog_batch(agent.environment)
    seen = agent.actor.begin(batch)
    blocked = 0
    for _ in range(12):
        logits = agent.actor.score(seen).logits.detach().numpy()
        np.testing.assert_array_equal(np.isinf(logits[:, FORWARD]), ~seen.can_move)
        blocked += int((~seen.can_move).sum())
        turn = np.ones(len(batch.tasks), dtype=np.int64)
        seen = agent.actor.act(seen, turn, np.zeros(len(turn), dtype=bool))
    assert blocked


def test_the_walk_of_an_agent_ends_where_it_ended():
    agent = make_agent(encoder="lstm", actions="low-level", max_actions=30).train(False)
    batch = make_dialog_batch(agent.environment)
    rolled = agent.rollout(batch, "teacher")
    for i, walk in enumerate(agent.environment.trajectories()):
        ends = np.flatnonzero(rolled.actions[:, i] == agent.actor.stop)
        moved = ends[0] if len(ends) else len(rolled.actions)
        assert len(walk) == 1 + moved
