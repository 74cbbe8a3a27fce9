"""Losses of the agents against hand-worked numbers and plain loops."""

import numpy as np
import pytest
import torch

from prevalent.objectives import (
    Experience,
    actor_critic_loss,
    discounted_returns,
    imitation_loss,
    shaped_rewards,
)


def experience(steps=4, batch=3):
    torch.manual_seed(0)
    masks = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]]).float()
    return Experience(
        log_probs=-torch.rand(steps, batch).requires_grad_(),
        entropies=torch.rand(steps, batch).requires_grad_(),
        rewards=torch.randn(steps, batch) * masks,
        masks=masks,
        values=torch.randn(steps, batch).requires_grad_(),
        last_value=torch.tensor([0.7, 0.0, 0.0]),
    )


def test_returns_by_hand():
    rewards = torch.tensor([[1.0], [-1.0], [2.0]])
    returns = discounted_returns(rewards, torch.tensor([10.0]), gamma=0.5)
    assert returns.squeeze(1).tolist() == [1 - 0.5 + 0.5 + 1.25, -1 + 1 + 2.5, 2 + 5]


@pytest.mark.parametrize("normalize", ["total", "batch", "none"])
def test_the_loss_agrees_with_a_loop_over_steps_and_agents(normalize):
    case, expected, gamma = experience(), 0.0, 0.9
    running = case.last_value.clone()
    for t in reversed(range(len(case.rewards))):
        running = running * gamma + case.rewards[t]
        for i in range(3):
            if case.masks[t, i]:
                gap = (running[i] - case.values[t, i]).item()
                expected -= case.log_probs[t, i].item() * gap
                expected += 0.5 * gap**2 - 0.01 * case.entropies[t, i].item()
    divisor = {"total": case.masks.sum().item(), "batch": 3, "none": 1}[normalize]
    result = actor_critic_loss(case, gamma=gamma, normalize=normalize)
    assert result.loss.item() == pytest.approx(expected / divisor, rel=1e-5)
    parts = result.policy + result.critic - 0.01 * result.entropy * result.actions / divisor
    assert parts.item() == pytest.approx(result.loss.item(), rel=1e-5)


def test_no_gradient_of_the_policy_reaches_the_critic():
    case = experience()
    result = actor_critic_loss(case, entropy_weight=0.0)
    result.loss.backward()
    wanted = -(result.returns - case.values) * case.masks / case.masks.sum()
    torch.testing.assert_close(case.values.grad, wanted.detach())


def test_the_mean_number_of_actions_over_processes_replaces_the_own_one():
    case = experience()
    ours = actor_critic_loss(case, mean_actions=torch.tensor(14.0)).loss
    assert ours.item() == pytest.approx(actor_critic_loss(case).loss.item() / 2, rel=1e-6)


def test_rewards_of_moves_and_stops():
    before = np.array([5.0, 5.0, 5.0, 2.9, 3.0, 1.0])
    after = np.array([4.0, 6.0, 5.0, 2.9, 3.0, 0.0])
    stopped = np.array([False, False, False, True, True, False])
    ended = np.array([False] * 5 + [True])
    rewards = shaped_rewards(before, after, stopped, ended)
    assert rewards.tolist() == [1.0, -1.0, 0.0, 2.0, -2.0, 0.0]


def test_imitation_ignores_agents_that_have_ended():
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [3.0, 1.0, 0.0]])
    loss = imitation_loss(logits, torch.tensor([1, -100]))
    assert loss.item() == pytest.approx(np.log(2))
    assert imitation_loss(logits, torch.tensor([-100, -100])).item() == 0
