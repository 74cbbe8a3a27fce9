"""Roll-outs of dialogs: who chooses, who is taught, who is logged."""

import numpy as np
import pytest
import torch

from prevalent.agents.ndh import DialogWalk
from tests.small_dialogs import make_agent, make_dialog_batch

KINDS = [("dic", "panoramic"), ("lstm", "panoramic"), ("lstm", "low-level")]


def agent_and_batch(encoder, actions, **options):
    agent = make_agent(encoder=encoder, actions=actions, **options)
    return agent, make_dialog_batch(agent.environment)


@pytest.mark.parametrize(("encoder", "actions"), KINDS)
def test_the_teacher_leads_to_the_end_of_the_path(encoder, actions):
    agent, batch = agent_and_batch(encoder, actions, max_actions=60)
    rolled = agent.rollout(batch, "teacher")
    assert rolled.ended.all()
    assert rolled.taught[0] == len(batch.tasks)
    assert (np.diff(rolled.taught) <= 0).all()
    for walk, task in zip(agent.environment.trajectories(), batch.tasks, strict=True):
        assert walk[-1][0] == task.path[-1]


@pytest.mark.parametrize(("encoder", "actions"), KINDS)
def test_agents_that_have_ended_are_neither_moved_nor_logged(encoder, actions):
    agent, batch = agent_and_batch(encoder, actions, max_actions=4)
    stop = np.full((4, len(batch.tasks)), agent.actor.stop)
    goes = np.full_like(stop, 1)
    draws = np.where(np.arange(4)[:, None] == 0, stop, goes)
    draws[0, 0] = 1  # one agent goes on, so that the episode does
    rolled = agent.rollout(batch, "sample", draws=draws)
    assert rolled.taught.tolist() == [len(batch.tasks), 1, 1, 1]
    starts = [task.path[0] for task in batch.tasks]
    walks = agent.environment.trajectories()
    assert [walk[-1][0] for walk in walks[1:]] == starts[1:]
    assert [len(walk) for walk in walks[1:]] == [1] * (len(batch.tasks) - 1)


def test_the_authors_agents_go_on_and_the_low_level_one_is_taught_on():
    for actions, taught_on in (("panoramic", False), ("low-level", True)):
        walk = DialogWalk(move_after_stop=True)
        agent, batch = agent_and_batch("lstm", actions, max_actions=3, walk=walk)
        draws = np.full((3, len(batch.tasks)), 1)
        draws[0] = agent.actor.stop
        draws[0, 0] = 1
        rolled = agent.rollout(batch, "sample", draws=draws)
        assert (rolled.taught[1] > 1) == taught_on
        assert [len(one) for one in agent.environment.trajectories()[1:]] == [1] * 3


def test_the_loss_is_the_sum_of_mean_cross_entropies():
    agent, batch = agent_and_batch("lstm", "panoramic")
    rolled = agent.rollout(batch, "teacher", keep_steps=True)
    wanted = 0.0
    for t, step in enumerate(rolled.steps):
        taught = rolled.actions[t] >= 0
        log_probs = step.logits.log_softmax(dim=1)[torch.from_numpy(taught)]
        chosen = torch.from_numpy(rolled.actions[t][taught])
        wanted -= log_probs.gather(1, chosen.unsqueeze(1)).mean()
    torch.testing.assert_close(agent.loss(rolled), wanted)


def test_draws_follow_the_policy():
    torch.manual_seed(0)
    agent, batch = agent_and_batch("lstm", "panoramic", max_actions=1)
    agent.train(False)
    step = agent.rollout(batch, "argmax", keep_steps=True).steps[0]
    counts = torch.zeros_like(step.logits)
    for _ in range(300):
        action = torch.from_numpy(agent.rollout(batch, "sample").actions[0])
        counts[torch.arange(len(action)), action] += 1
    assert (counts / 300 - step.logits.softmax(dim=1)).abs().max() < 0.12
