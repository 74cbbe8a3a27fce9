"""Losses of the Room-to-Room agents: imitation, and advantage actor-critic with shaped rewards.

Everything here is a function of recorded tensors; T steps, B agents.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Normalize = Literal["total", "batch", "none"]


WalkReward = Literal["sr_sc", "spl", "spl_sc", "spl_last", "spl_last_sc"]


IGNORE = -100
"""Teacher index of an agent that has ended."""
SUCCESS_REWARD = 2.0
SUCCESS_RADIUS = 3.0  # meters


class Experience(NamedTuple):
    """A recorded roll-out of sampled actions."""

    log_probs: Tensor  # (T, B) of the sampled actions, nats
    entropies: Tensor  # (T, B) of the policy, nats
    rewards: Tensor  # (T, B), 0 behind the end
    masks: Tensor  # (T, B), 1 while an agent had not ended
    values: Tensor  # (T, B) by the critic
    last_value: Tensor  # (B,) of the state after the last step, 0 for agents that have ended


class ActorCriticLoss(NamedTuple):
    loss: Tensor  # () what to minimize
    policy: Tensor  # () its parts, under the same divisor
    critic: Tensor  # ()
    entropy: Tensor  # () mean entropy of an action taken, nats
    actions: Tensor  # () number of actions taken
    returns: Tensor  # (T, B) discounted rewards to come


def imitation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Summed cross entropy in nats of ``logits`` (B, K) and ``teacher`` (B,); -100 is ignored."""
    return F.cross_entropy(logits.float(), teacher, ignore_index=IGNORE, reduction="sum")


def shaped_rewards(
    before: NDArray[np.float64], after: NDArray[np.float64], stopped: NDArray, ended: NDArray
) -> NDArray[np.float32]:
    """Rewards (B,) of one step (EnvDrop): +2/-2 for a stop within or beyond 3 m, +-1 for a move.

    Deviation: a move that changes no distance earns 0, where the authors' code raises.

    Args:
        before: meters to the goal before the step.
        after: and after it.
        stopped: the agent stopped in this step.
        ended: the agent had stopped before it; it earns nothing.
    """
    arrival = np.where(after < SUCCESS_RADIUS, SUCCESS_REWARD, -SUCCESS_REWARD)
    reward = np.where(stopped, arrival, np.sign(before - after))
    return np.where(ended, 0.0, reward).astype(np.float32)


def discounted_returns(rewards: Tensor, last_value: Tensor, gamma: float) -> Tensor:
    """Returns (T, B): r_t + gamma r_{t+1} + ..., with ``last_value`` (B,) behind the last step."""
    returns = []
    running = last_value
    for reward in rewards.unbind(0)[::-1]:
        running = reward + gamma * running
        returns.append(running)
    return torch.stack(returns[::-1])


def actor_critic_loss(
    experience: Experience,
    *,
    gamma: float = 0.9,
    normalize: Normalize = "total",
    entropy_weight: float = 0.01,
    mean_actions: Tensor | None = None,
) -> ActorCriticLoss:
    """Advantage actor-critic (Mnih et al., ICML 2016) as EnvDrop weighs it.

    The sum over steps and agents of -log p A + (R - V)^2 / 2 - w H is divided by the number of
    actions taken (``total``), by B (``batch``) or by nothing (``none``). Computed in fp32.

    ``mean_actions`` is the mean number of actions over processes, which makes ``total`` independent
    of how a batch is spread; by default this process's own.
    """
    masks = experience.masks
    values = experience.values.float()
    returns = discounted_returns(experience.rewards, experience.last_value.detach(), gamma)
    advantage = (returns - values).detach()
    policy = (-experience.log_probs * advantage * masks).sum()
    critic = 0.5 * ((returns - values).square() * masks).sum()
    entropy = (experience.entropies * masks).sum()
    actions = masks.sum()
    divisor = {
        "total": (actions if mean_actions is None else mean_actions).clamp(min=1.0),
        "batch": torch.full_like(actions, masks.shape[1]),
        "none": torch.ones_like(actions),
    }[normalize]
    return ActorCriticLoss(
        loss=(policy + critic - entropy_weight * entropy) / divisor,
        policy=(policy / divisor).detach(),
        critic=(critic / divisor).detach(),
        entropy=(entropy / actions.clamp(min=1.0)).detach(),
        actions=actions,
        returns=returns,
    )


def walk_rewards(
    left: NDArray[np.float64],
    walked: NDArray[np.float64],
    shortest: NDArray[np.float64],
    *,
    by_length: bool,
) -> NDArray[np.float32]:
    """Rewards (B,) of whole walks: success, or success weighted by path length (SPL).

    Args:
        left: meters to the goal at the end.
        walked: meters gone.
        shortest: meters of the shortest path.
        by_length: SPL instead of success.
    """
    success = (left < SUCCESS_RADIUS).astype(np.float32)
    if not by_length:
        return success
    return (success * shortest / np.maximum(np.maximum(shortest, walked), 0.01)).astype(np.float32)


def self_critical_loss(
    log_probs: Tensor, masks: Tensor, advantage: Tensor, *, last: bool = False
) -> Tensor:
    """Policy gradient with the reward of the whole walk (Rennie et al., CVPR 2017), a scalar.

    Args:
        log_probs: (T, B) of the sampled actions, nats.
        masks: (T, B) 1 while an agent had not ended.
        advantage: (B,) reward of the sampled walk, less that of the greedy one.
        last: credit the last action of each walk alone.
    """
    credited = masks
    if last:
        after = torch.cat([masks[1:], torch.zeros_like(masks[:1])])
        credited = masks - after
    # An action that is masked may have been impossible: its log-probability is then infinite.
    counted = log_probs.masked_fill(credited == 0, 0.0)
    return -(counted * advantage.to(log_probs.dtype)).sum() / masks.shape[1]
