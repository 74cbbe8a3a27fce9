"""Walk a batch of episodes with a follower and record what the losses need.

One function serves imitation, sampling and evaluation. Nothing inside a step loops over the batch.
Agents and features stay on the device; the only transfer back is that of the chosen actions (none
under a teacher, whose actions the host knows), with which the host moves the agents and tests
whether all have stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..agent_config import RolloutConfig
from ..data.features import DeviceFeatures
from ..environments.navigation import NavigationEnvironment, Observation
from ..environments.walk import Task
from ..models.decoder import DecoderStep
from ..models.encoders import Words
from ..objectives import IGNORE, imitation_loss, shaped_rewards
from .walker import Policy, Walker

Feedback = Literal["teacher", "argmax", "sample"]


class Batch(NamedTuple):
    """B episodes and their encoded instructions."""

    tasks: Sequence[Task]
    tokens: NDArray[np.int64]  # (B, L), 0-padded; (B, M, L) for agents that read M texts


class Rollout(NamedTuple):
    """What was recorded in T steps of B agents; items keep the order of the batch.

    Of agents that have left the batch, actions are ignored ones and everything else is 0.
    """

    imitation: Tensor  # () summed cross entropy against the teacher, nats
    hidden: Tensor  # (T, B, H) the critic's inputs
    log_probs: Tensor  # (T, B) of the actions drawn; empty under a teacher
    entropies: Tensor  # (T, B) of the policy; empty unless sampled
    rewards: Tensor  # (T, B)
    masks: Tensor  # (T, B) 1 while an agent had not ended
    actions: NDArray[np.int64]  # (T, B) drawn, before the ends are applied
    ended: NDArray[np.bool_]  # (B,) after the last step
    last_hidden: Tensor | None  # (B, H) one step further, for the critic
    steps: list[DecoderStep]  # everything else; only with ``keep_steps``


def rollout(
    policy: Policy,
    environment: NavigationEnvironment,
    features: DeviceFeatures,
    batch: Batch,
    feedback: Feedback,
    config: RolloutConfig,
    *,
    taught: int = 0,
    noise: Tensor | None = None,
    encoder_sees_noise: bool = True,
    draws: ArrayLike | None = None,
    bootstrap: bool = False,
    keep_steps: bool = False,
    autocast: AbstractContextManager | None = None,
) -> Rollout:
    """Walk ``batch`` until all agents have stopped, at most ``config.max_actions`` moves.

    Agents that have stopped leave the batch, unless ``config.move_after_stop`` or ``keep_steps``.

    Args:
        policy: encoder and decoder, in train or eval mode.
        environment: left at the end of the walks; it holds the trajectories.
        features: of the panoramas.
        batch: episodes and instructions.
        feedback: who chooses: the shortest path, the best score, or a draw from the policy.
        config: limits and switches.
        taught: the first so many agents follow the shortest path, whatever ``feedback`` says. They
            alone count for the imitation loss, and everything else is recorded of the others.
        noise: (D,) environment dropout, one mask for the whole batch, or (B, D); feature dropout is
            then off.
        encoder_sees_noise: whether the encoder's panorama has it too.
        draws: (>= T, B) actions in place of sampled ones, of the agents that are not taught.
        bootstrap: take one more decoder step at the end for ``last_hidden``, without gradient.
        keep_steps: return every decoder step.
        autocast: context of the forward passes.
    """
    words = Words.of(batch.tokens, features.device)
    walker = Walker(policy, features, words, noise, encoder_sees_noise, config)
    with autocast or nullcontext():
        observation = environment.reset(batch.tasks)
        recorder = _Recorder(environment, config, taught, draws, keep_steps)
        if feedback == "teacher" and walker.encoder.sees_images and not recorder.all_stay:
            walker.read_ahead(environment, observation)
            observation = environment.reset(batch.tasks)
        for t in range(config.max_actions):
            rows = recorder.walking()
            seen = observation.pick(rows)
            step = walker.step(seen, rows, t)
            action = recorder.choose(step, seen, feedback, rows)
            observation = recorder.move(action, observation)
            if recorder.ended.all():
                break
        last_hidden = None
        if bootstrap:
            rows = recorder.walking()
            rows = rows[rows >= taught]
            last_hidden = recorder.spread(walker.peek(observation.pick(rows), rows), rows)
    return recorder.finish(last_hidden, features.device)


class _Recorder:
    """The environment's side of a roll-out: choices, moves, rewards."""

    def __init__(
        self,
        environment: NavigationEnvironment,
        config: RolloutConfig,
        taught: int,
        draws: ArrayLike | None,
        keep_steps: bool,
    ) -> None:
        self.environment, self.config, self.taught = environment, config, taught
        self.draws = None if draws is None else np.asarray(draws, dtype=np.int64)
        self.ended = np.zeros(len(environment.node), dtype=bool)
        self.visited = [environment.node]
        self.steps: list[DecoderStep] = []
        self.keep_steps = keep_steps
        self.all_stay = keep_steps or config.move_after_stop
        self._rows: list[NDArray[np.int64]] = []
        self._hidden: list[Tensor] = []
        self._log_probs: list[Tensor] = []
        self._entropies: list[Tensor] = []
        self._imitation: list[Tensor] = []
        self._rewards: list[NDArray[np.float32]] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._actions: list[NDArray[np.int64]] = []

    def walking(self) -> NDArray[np.int64]:
        """Agents that the networks run for."""
        return np.flatnonzero(~self.ended | self.all_stay)

    def choose(
        self,
        step: DecoderStep,
        seen: Observation,
        feedback: Feedback,
        rows: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Actions (B,) on the host, as drawn; those of agents that have left are stops."""
        if self.keep_steps:
            self.steps.append(step)
        logits = step.logits
        if self.config.forbid_revisits:
            places = np.stack(self.visited, axis=1)[rows, None]
            been = (seen.target[:, :, None] == places).any(axis=2)
            logits = logits.masked_fill(torch.from_numpy(been).to(logits.device), -torch.inf)
        teacher = np.where(self.ended[rows], IGNORE, seen.teacher)
        taught = int(np.searchsorted(rows, self.taught)) if self.taught else 0
        counted = taught or len(rows)
        if taught or not self.taught:
            wanted = torch.from_numpy(teacher[:counted]).to(logits.device, non_blocking=True)
            self._imitation.append(imitation_loss(step.logits[:counted], wanted))
        action = np.full(len(self.ended), IGNORE)
        action[rows] = teacher
        self._rows.append(rows[taught:] - self.taught)
        self._hidden.append(step.hidden[taught:])
        if feedback != "teacher" and taught < len(rows):
            drawn = None if self.draws is None else self.draws[len(self._rows) - 1]
            free = rows[taught:]
            action[free] = self._draw(logits[taught:], feedback, free, drawn)
        return action

    def _draw(
        self,
        logits: Tensor,
        feedback: Feedback,
        rows: NDArray[np.int64],
        drawn: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Actions (b,) by the policy, which gives ``logits`` (b, K)."""
        log_probs = logits.log_softmax(dim=1)
        if drawn is not None:
            action = torch.from_numpy(drawn[rows - self.taught]).to(logits.device)
        elif feedback == "argmax":
            action = log_probs.argmax(dim=1)
        else:
            action = sample(log_probs)
        self._log_probs.append(log_probs.gather(1, action.unsqueeze(1)).squeeze(1))
        if feedback == "sample":
            self._entropies.append(entropy(log_probs))
        return action.cpu().numpy() if drawn is None else drawn[rows - self.taught]

    def move(self, action: NDArray[np.int64], observation: Observation) -> Observation:
        """Carry out ``action``, reward it, and mark who has ended."""
        stopped = (action == observation.count) | (action == IGNORE)
        if not self.config.move_after_stop:
            stopped |= self.ended
        after = self.environment.step(np.where(stopped, -1, action))
        rewards = shaped_rewards(observation.distance, after.distance, stopped, self.ended)
        self._actions.append(action[self.taught :])
        self._rewards.append(rewards[self.taught :])
        self._masks.append(~self.ended[self.taught :])
        self.ended = self.ended | stopped
        self.visited.append(after.node)
        return after

    def spread(self, values: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """``values`` (b, ...) of the agents ``rows`` as (B, ...), zeros for the others."""
        count = len(self.ended) - self.taught
        if len(rows) == count:
            return values
        index = torch.from_numpy(rows - self.taught).to(values.device)
        return values.new_zeros(count, *values.shape[1:]).index_copy(0, index, values)

    def _stack(self, steps: list[Tensor], device: torch.device) -> Tensor:
        """(T, B, ...) of what was recorded of those who walked; zeros for the others."""
        if not steps:
            return torch.empty(0, device=device)
        count, total = len(self.ended) - self.taught, len(self._rows)
        if all(len(rows) == count for rows in self._rows):
            return torch.stack(steps)
        places = np.concatenate([t * count + rows for t, rows in enumerate(self._rows)])
        flat = torch.cat(steps)
        index = torch.from_numpy(places).to(device)
        whole = flat.new_zeros(total * count, *flat.shape[1:]).index_copy(0, index, flat)
        return whole.unflatten(0, (total, count))

    def finish(self, last_hidden: Tensor | None, device: torch.device) -> Rollout:
        rewards = torch.from_numpy(np.stack(self._rewards)).to(device)
        masks = torch.from_numpy(np.stack(self._masks)).to(device, torch.float32)
        return Rollout(
            imitation=torch.stack(self._imitation).sum(),
            hidden=self._stack(self._hidden, device),
            log_probs=self._stack(self._log_probs, device),
            entropies=self._stack(self._entropies, device),
            rewards=rewards,
            masks=masks,
            actions=np.stack(self._actions),
            ended=self.ended[self.taught :],
            last_hidden=last_hidden,
            steps=self.steps,
        )


def sample(log_probs: Tensor) -> Tensor:
    """Draw indices (B,) with probabilities exp(``log_probs``) (B, K).

    The Gumbel maximum needs no check on the host, unlike ``torch.multinomial``.
    """
    noise = torch.empty_like(log_probs).exponential_().clamp_(min=1e-30)
    return (log_probs - noise.log()).argmax(dim=1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropies (B,) in nats of log-probabilities (B, K); impossible actions add nothing."""
    finite = log_probs.masked_fill(log_probs == -torch.inf, 0.0)
    return -(log_probs.exp() * finite).sum(dim=1)
