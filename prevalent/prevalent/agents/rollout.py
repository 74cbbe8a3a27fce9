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
from ..data.features import DeviceFeatures, expand_angles
from ..environments.navigation import NavigationEnvironment, Observation
from ..environments.walk import Task
from ..models.decoder import AttentionDecoder, DecoderState, DecoderStep, Sight
from ..models.encoders import Encoder, Encoding, Words
from ..objectives import IGNORE, imitation_loss, shaped_rewards

Feedback = Literal["teacher", "argmax", "sample"]


class Batch(NamedTuple):
    """B episodes and their encoded instructions."""

    tasks: Sequence[Task]
    tokens: NDArray[np.int64]  # (B, L), 0-padded; (B, M, L) for agents that read M texts


class Policy(NamedTuple):
    """The two networks that act."""

    encoder: Encoder
    decoder: AttentionDecoder


class Rollout(NamedTuple):
    """What was recorded in T steps of B agents; items keep the order of the batch."""

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


def see(features: DeviceFeatures, observation: Observation, noise: Tensor | None = None) -> Sight:
    """Gather what B agents see; ``noise`` (D,) multiplies every image feature."""
    device, size = features.device, features.angle_size
    batch, slots = observation.candidate_view.shape
    whole = np.empty((batch, 3 + slots), dtype=np.int64)  # one transfer for all indices
    whole[:, 0], whole[:, 1], whole[:, 2] = observation.row, observation.view, observation.count
    whole[:, 3:] = observation.candidate_view
    index = torch.from_numpy(whole).to(device, non_blocking=True)
    real = np.concatenate([observation.candidate_angle, observation.pose[:, None]], axis=1)
    angles = torch.from_numpy(real).to(device, features.dtype, non_blocking=True)
    images = features.images(index[:, 0])
    if noise is not None:
        images = images * noise
    return Sight(
        pose=expand_angles(angles[:, -1], size, features.layout),
        images=images,
        angles=features.angles[index[:, 1]],
        candidates=features.candidates(index[:, 0], index[:, 3:], angles[:, :-1], images),
        mask=torch.arange(slots, device=device) <= index[:, 2, None],
    )


def rollout(
    policy: Policy,
    environment: NavigationEnvironment,
    features: DeviceFeatures,
    batch: Batch,
    feedback: Feedback,
    config: RolloutConfig,
    *,
    noise: Tensor | None = None,
    encoder_sees_noise: bool = True,
    draws: ArrayLike | None = None,
    bootstrap: bool = False,
    keep_steps: bool = False,
    autocast: AbstractContextManager | None = None,
) -> Rollout:
    """Walk ``batch`` until all agents have stopped, at most ``config.max_actions`` moves.

    Args:
        policy: encoder and decoder, in train or eval mode.
        environment: left at the end of the walks; it holds the trajectories.
        features: of the panoramas.
        batch: episodes and instructions.
        feedback: who chooses: the shortest path, the best score, or a draw from the policy.
        config: limits and switches.
        noise: (D,) environment dropout, one mask for the whole batch; feature dropout is then off.
        encoder_sees_noise: whether the encoder's panorama has it too.
        draws: (>= T, B) actions in place of sampled ones.
        bootstrap: take one more decoder step at the end for ``last_hidden``, without gradient.
        keep_steps: return every decoder step.
        autocast: context of the forward passes.
    """
    observation = environment.reset(batch.tasks)
    words = Words.of(batch.tokens, features.device)
    walker = _Walker(policy, features, words, noise, encoder_sees_noise, config)
    recorder = _Recorder(environment, config)
    replay = None if draws is None else np.asarray(draws, dtype=np.int64)
    with autocast or nullcontext():
        for t in range(config.max_actions):
            step = walker.step(observation)
            action = recorder.choose(
                step, observation, feedback, None if replay is None else replay[t]
            )
            observation = recorder.move(action, observation)
            if keep_steps:
                recorder.steps.append(step)
            if recorder.ended.all():
                break
        last_hidden = walker.peek(observation) if bootstrap else None
    return recorder.finish(last_hidden, features.device)


class _Walker:
    """The networks' side of a roll-out: encoder at the right times, decoder state."""

    def __init__(
        self,
        policy: Policy,
        features: DeviceFeatures,
        words: Words,
        noise: Tensor | None,
        encoder_sees_noise: bool,
        config: RolloutConfig,
    ) -> None:
        self.encoder, self.decoder = policy
        self.features, self.words, self.noise = features, words, noise
        self.encoder_sees_noise = encoder_sees_noise
        reuse = config.reuse_text or not self.encoder.training
        self.reuse_text = reuse and self.encoder.sees_images
        self.text: Tensor | None = None
        self.encoding: Encoding | None = None
        self.state: DecoderState | None = None

    def _encode(self, sight: Sight, observation: Observation) -> Encoding:
        if self.encoding is not None and not self.encoder.sees_images:
            return self.encoding
        if self.reuse_text and self.text is None:
            self.text = self.encoder.encode_text(self.words)
        panorama = None
        if self.encoder.sees_images:
            panorama = sight.panorama
            if self.noise is not None and not self.encoder_sees_noise:
                panorama = self.features.panorama(observation.row, observation.view)
        return self.encoder.read(self.words, panorama, self.text)

    def step(self, observation: Observation) -> DecoderStep:
        """One step at ``observation``; advances the decoder's state."""
        sight = see(self.features, observation, self.noise)
        self.encoding = self._encode(sight, observation)
        if self.state is None:
            self.state = DecoderState(self.encoding.hidden, self.encoding.cell)
        step = self._decode(sight)
        self.state = step.state
        return step

    def _decode(self, sight: Sight) -> DecoderStep:
        assert self.encoding is not None
        assert self.state is not None
        return self.decoder(
            sight,
            self.state,
            self.encoding.context,
            self.words.padding,
            dropped=self.noise is not None,
        )

    @torch.no_grad()
    def peek(self, observation: Observation) -> Tensor:
        """(B, H) hidden state of a further step, on the last text context (as the authors do)."""
        return self._decode(see(self.features, observation, self.noise)).hidden


class _Recorder:
    """The environment's side of a roll-out: choices, moves, rewards."""

    def __init__(self, environment: NavigationEnvironment, config: RolloutConfig) -> None:
        self.environment, self.config = environment, config
        self.ended = np.zeros(len(environment.node), dtype=bool)
        self.visited = [environment.node]
        self.steps: list[DecoderStep] = []
        self._hidden: list[Tensor] = []
        self._log_probs: list[Tensor] = []
        self._entropies: list[Tensor] = []
        self._imitation: list[Tensor] = []
        self._rewards: list[NDArray[np.float32]] = []
        self._masks: list[NDArray[np.bool_]] = []
        self._actions: list[NDArray[np.int64]] = []

    def choose(
        self,
        step: DecoderStep,
        observation: Observation,
        feedback: Feedback,
        draw: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Actions (B,) on the host, as drawn."""
        logits = step.logits
        if self.config.forbid_revisits:
            seen = (observation.target[:, :, None] == np.stack(self.visited, axis=1)[:, None]).any(
                axis=2
            )
            logits = logits.masked_fill(torch.from_numpy(seen).to(logits.device), -torch.inf)
        teacher = np.where(self.ended, IGNORE, observation.teacher)
        wanted = torch.from_numpy(teacher).to(logits.device, non_blocking=True)
        self._imitation.append(imitation_loss(step.logits, wanted))
        self._hidden.append(step.hidden)
        if feedback == "teacher":
            return teacher
        log_probs = logits.log_softmax(dim=1)  # (B, K)
        if draw is not None:
            action = torch.from_numpy(draw).to(logits.device)
        elif feedback == "argmax":
            action = log_probs.argmax(dim=1)
        else:
            action = sample(log_probs)
        self._log_probs.append(log_probs.gather(1, action.unsqueeze(1)).squeeze(1))
        if feedback == "sample":
            self._entropies.append(entropy(log_probs))
        return action.cpu().numpy() if draw is None else draw

    def move(self, action: NDArray[np.int64], observation: Observation) -> Observation:
        """Carry out ``action``, reward it, and mark who has ended."""
        stopped = (action == observation.count) | (action == IGNORE)
        if not self.config.move_after_stop:
            stopped |= self.ended
        after = self.environment.step(np.where(stopped, -1, action))
        self._actions.append(action)
        self._rewards.append(
            shaped_rewards(observation.distance, after.distance, stopped, self.ended)
        )
        self._masks.append(~self.ended)
        self.ended = self.ended | stopped
        self.visited.append(after.node)
        return after

    def finish(self, last_hidden: Tensor | None, device: torch.device) -> Rollout:
        empty = torch.empty(0, device=device)
        rewards = torch.from_numpy(np.stack(self._rewards)).to(device)
        masks = torch.from_numpy(np.stack(self._masks)).to(device, torch.float32)
        return Rollout(
            imitation=torch.stack(self._imitation).sum(),
            hidden=torch.stack(self._hidden),
            log_probs=torch.stack(self._log_probs) if self._log_probs else empty,
            entropies=torch.stack(self._entropies) if self._entropies else empty,
            rewards=rewards,
            masks=masks,
            actions=np.stack(self._actions),
            ended=self.ended,
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
