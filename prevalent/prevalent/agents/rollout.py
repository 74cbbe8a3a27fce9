"""Walk a batch of episodes with a follower and record what the losses need.

One function serves imitation, sampling and evaluation. Nothing inside a step loops over the batch.
Agents and features stay on the device; the only transfer back is that of the chosen actions (none
under a teacher, whose actions the host knows), with which the host moves the agents and tests
whether all have stopped. Below: the networks' side of a step, encoded episodes, their batches.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..config import check_shares
from ..data.features import DeviceFeatures, expand_angles
from ..data.instructions import BatchOrder, Instruction
from ..data.results import Reference, reference_of
from ..data.tokenizers import WordPieceTokenizer, WordTokenizer
from ..environments.navigation import NavigationEnvironment, Observation, Task
from ..models.decoders import AttentionDecoder, DecoderState, DecoderStep, Sight
from ..models.encoders import Encoder, Encoding, Words
from ..objectives import IGNORE, Normalize, imitation_loss, shaped_rewards
from ..runtime.checkpoint import CheckpointMismatch
from ..runtime.distributed import World
from ..runtime.options import at_least
from ..runtime.transfer import upload

logger = logging.getLogger(__name__)
Tokenizer = WordTokenizer | WordPieceTokenizer


@dataclass(frozen=True)
class RolloutConfig:
    """How an episode is walked and scored."""

    max_actions: int = 35
    """Most moves of an episode."""
    move_after_stop: bool = False
    """True: an agent that has stopped walks on where it draws a move, as in PREVALENT's code."""
    reuse_text: bool = False
    """Train mode: run the text layers once an episode (one dropout mask for all its steps). In eval
    mode they always run once, which changes no number."""
    forbid_revisits: bool = False
    """Do not go back to a viewpoint of the episode (the authors' submission mode)."""
    gamma: float = 0.9
    """Discount of rewards."""
    normalize: Normalize = "total"
    """The reinforcement loss is divided by all actions taken, by the batch or by nothing."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""

    def __post_init__(self) -> None:
        at_least(self, "rollout", max_actions=1)
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"--rollout.gamma must be in [0, 1], got {self.gamma}")


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
            logits = logits.masked_fill(upload(been, logits.device), -torch.inf)
        teacher = np.where(self.ended[rows], IGNORE, seen.teacher)
        taught = int(np.searchsorted(rows, self.taught)) if self.taught else 0
        counted = taught or len(rows)
        if taught or not self.taught:
            wanted = upload(teacher[:counted], logits.device)
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
            action = upload(drawn[rows - self.taught], logits.device)
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
        index = upload(rows - self.taught, values.device)
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
        index = upload(places, device)
        whole = flat.new_zeros(total * count, *flat.shape[1:]).index_copy(0, index, flat)
        return whole.unflatten(0, (total, count))

    def finish(self, last_hidden: Tensor | None, device: torch.device) -> Rollout:
        rewards = upload(np.stack(self._rewards), device)
        masks = upload(np.stack(self._masks), device, torch.float32)
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


READ_TOGETHER = 128  # most texts, of several steps, that are encoded at once

Rows = NDArray[np.int64]


class Policy(NamedTuple):
    """The two networks that act."""

    encoder: Encoder
    decoder: AttentionDecoder


def see(features: DeviceFeatures, observation: Observation, noise: Tensor | None = None) -> Sight:
    """Gather what B agents see; ``noise`` (D,) multiplies every image feature."""
    device, size = features.device, features.angle_size
    batch, slots = observation.candidate_view.shape
    whole = np.empty((batch, 3 + slots), dtype=np.int64)  # one transfer for all indices
    whole[:, 0], whole[:, 1], whole[:, 2] = observation.row, observation.view, observation.count
    whole[:, 3:] = observation.candidate_view
    index = upload(whole, device)
    real = np.concatenate([observation.candidate_angle, observation.pose[:, None]], axis=1)
    angles = upload(real, device, features.dtype)
    images = features.images(index[:, 0])
    if noise is not None:
        images = images * noise
    return Sight(
        pose=expand_angles(angles[:, -1], size, features.layout),
        images=images,
        angles=features.angles.index_select(0, index[:, 1]),
        candidates=features.candidates(index[:, 0], index[:, 3:], angles[:, :-1], images),
        mask=torch.arange(slots, device=device) <= index[:, 2, None],
    )


class Walker:
    """Runs the networks for those agents of a batch that still walk.

    Args:
        policy: encoder and decoder, in train or eval mode.
        features: of the panoramas.
        words: texts of all agents.
        noise: (D,) or (B, D) environment dropout.
        encoder_sees_noise: whether the encoder's panorama has it too.
        config: switches of the roll-out.
    """

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
        self.encoder_sees_noise, self.max_actions = encoder_sees_noise, config.max_actions
        reuse = config.reuse_text or not self.encoder.training
        self.reuse_text = reuse and self.encoder.sees_images
        self.rows: Rows | None = None  # agents that still walk; None before the start
        self.text: Tensor | None = None  # of all agents
        self.encoding: Encoding | None = None  # of the agents that still walk
        self.read = words  # what it was made of
        self.state: DecoderState | None = None
        self.ahead: list[tuple[Encoding, Words]] = []

    def step(self, seen: Observation, rows: Rows, t: int) -> DecoderStep:
        """Step ``t`` of the agents ``rows``, who see ``seen``; advances their state."""
        self._stay(rows, keep_text=not self.encoder.sees_images)
        sight = see(self.features, seen, self._noise(rows))
        if self.ahead:
            self.encoding, self.read = self.ahead[t]
        elif self.encoding is None or self.encoder.sees_images:
            self.encoding, self.read = self._encode(self._panorama(sight, seen), rows)
        if self.state is None:
            self.state = DecoderState(self.encoding.hidden, self.encoding.cell)
        step = self._decode(sight)
        self.state = step.state
        return step

    @torch.no_grad()
    def peek(self, seen: Observation, rows: Rows) -> Tensor:
        """(b, H) hidden state of a further step, on the last text context (as the authors do)."""
        self._stay(rows, keep_text=True)
        if len(rows):
            return self._decode(see(self.features, seen, self._noise(rows))).hidden
        assert self.state is not None
        return self.state.attended

    def read_ahead(self, environment: NavigationEnvironment, seen: Observation) -> None:
        """Encode the steps of agents on the shortest path that start at ``seen``, several at once.

        Their panoramas are known beforehand, and what is read at a step depends on nothing else.
        """
        ended = np.zeros(len(seen.node), dtype=bool)
        together: list[tuple[Rows, Observation]] = []
        for _ in range(self.max_actions):
            rows = np.flatnonzero(~ended)
            if together and sum(len(r) for r, _ in together) + len(rows) > READ_TOGETHER:
                self._read_steps(together)
                together = []
            together.append((rows, seen.pick(rows)))
            ended = ended | (seen.teacher == seen.count)
            if ended.all():
                break
            seen = environment.step(np.where(ended, -1, seen.teacher))
        self._read_steps(together)

    def _read_steps(self, steps: list[tuple[Rows, Observation]]) -> None:
        """Append what is read at ``steps`` to ``ahead``."""
        rows = np.concatenate([r for r, _ in steps])
        panorama = self.features.panorama(
            np.concatenate([seen.row for _, seen in steps]),
            np.concatenate([seen.view for _, seen in steps]),
        )
        noise = self._noise(rows)
        if noise is not None and self.encoder_sees_noise:
            panorama[..., : self.features.image_width] *= noise
        encoding, words = self._encode(panorama, rows)
        sizes = [len(r) for r, _ in steps]
        texts = [size * self.encoder.num_texts for size in sizes]
        parts = (encoding.context.split(texts), *(part.split(sizes) for part in encoding[1:]))
        read = zip(*(part.split(texts) for part in words), strict=True)
        for own, its_words in zip(zip(*parts, strict=True), read, strict=True):
            self.ahead.append((Encoding(*own), Words(*its_words)))

    def _panorama(self, sight: Sight, seen: Observation) -> Tensor | None:
        if not self.encoder.sees_images:
            return None
        if self.noise is not None and not self.encoder_sees_noise:
            return self.features.panorama(seen.row, seen.view)
        return sight.panorama

    def _encode(self, panorama: Tensor | None, rows: Rows) -> tuple[Encoding, Words]:
        """Read the texts of the agents ``rows``, each as often as it occurs there."""
        if self.reuse_text and self.text is None:
            self.text = self.encoder.encode_text(self.words)
        words, text = self.words, self.text
        everyone = len(words.ids) // self.encoder.num_texts
        if not np.array_equal(rows, np.arange(everyone)):
            texts = self._texts(rows)
            words = words.pick(texts).cut()
            if text is not None:
                index = upload(texts, self.features.device)
                text = text[:, : words.ids.shape[1]].index_select(0, index)
        return self.encoder.read(words, panorama, text), words

    def _stay(self, rows: Rows, *, keep_text: bool) -> None:
        """Go on with the agents ``rows`` only."""
        before, self.rows = self.rows, rows
        if before is None or len(rows) == len(before):
            return
        kept = np.searchsorted(before, rows)
        index = upload(kept, self.features.device)
        if self.state is not None:
            self.state = DecoderState(*(part.index_select(0, index) for part in self.state))
        if keep_text and self.encoding is not None:
            texts = self._texts(kept)
            index = upload(texts, self.features.device)
            context = self.encoding.context.index_select(0, index)
            self.encoding = self.encoding._replace(context=context)
            self.read = self.read.pick(texts)

    def _texts(self, rows: Rows) -> Rows:
        """Places of the texts of the agents ``rows``."""
        several = self.encoder.num_texts
        return (rows[:, None] * several + np.arange(several)).ravel()

    def _noise(self, rows: Rows) -> Tensor | None:
        if self.noise is None or self.noise.dim() == 1:
            return self.noise
        return self.noise[upload(rows, self.noise.device)].unsqueeze(1)

    def _decode(self, sight: Sight) -> DecoderStep:
        assert self.encoding is not None
        assert self.state is not None
        return self.decoder(
            sight,
            self.state,
            self.encoding.context,
            self.read.padding,
            dropped=self.noise is not None,
        )


@dataclass(frozen=True)
class Episodes:
    """Instructions of a split; ``tokens`` is (N, L), 0-padded, or (N, M, L) with M texts each."""

    instructions: Sequence[Instruction]
    tokens: NDArray[np.int64]

    @classmethod
    def encode(
        cls,
        instructions: Sequence[Instruction],
        tokenizer: Tokenizer,
        origin: str = "the split",
        *,
        num_texts: int = 1,
        alone: bool = False,
    ) -> Episodes:
        """Encode all texts; those without a word are left out, as the authors do, and counted.

        Args:
            instructions: of the split.
            tokenizer: of the agent.
            origin: for the message.
            num_texts: M; above 1 an episode has the first M instructions of its path, in their
                order, again from the first where there are fewer.
            alone: with M texts, M times the episode's own.

        Raises ``ValueError`` naming ``origin`` where nothing remains.
        """
        encoded = [(one, tokenizer.encode(one.text)) for one in instructions]
        kept = [(one, tokens) for one, tokens in encoded if tokens is not None]
        if not kept:
            raise ValueError(f"{origin} has no instruction with a word in it")
        if len(kept) < len(encoded):
            left = len(encoded) - len(kept)
            logger.warning("%s: %d of %d texts have no word; left out", origin, left, len(encoded))
        rows = np.stack([tokens for _, tokens in kept])
        if num_texts > 1:
            own = [[i] for i in range(len(kept))] if alone else _same_path([one for one, _ in kept])
            rows = rows[[[row[j % len(row)] for j in range(num_texts)] for row in own]]
        return cls([one for one, _ in kept], rows)

    def __len__(self) -> int:
        return len(self.instructions)

    def batch(self, index: Sequence[int]) -> Batch:
        """The episodes of ``index``."""
        return Batch([self.instructions[i] for i in index], self.tokens[list(index)])

    def part(self, rank: int, size: int) -> Episodes:
        """Every ``size``-th episode, for one process of ``size``."""
        return Episodes(self.instructions[rank::size], self.tokens[rank::size])

    def first(self, count: int) -> Episodes:
        """The first ``count`` episodes."""
        return Episodes(self.instructions[:count], self.tokens[:count])

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All episodes once, texts of like length together."""
        words = (self.tokens != 0).reshape(len(self), -1).sum(axis=1)
        order = np.argsort(words, kind="stable").tolist()
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start : start + batch_size])

    def references(self) -> list[Reference]:
        """What results are scored against."""
        return [reference_of(one) for one in self.instructions]


def _same_path(instructions: Sequence[Instruction]) -> list[list[int]]:
    """For each instruction the places of all of its path, in their order by name."""
    groups: dict[tuple, list[int]] = {}
    for i, one in enumerate(instructions):
        groups.setdefault((one.path_id, one.scan, one.path), []).append(i)
    for group in groups.values():
        group.sort(key=lambda i: instructions[i].id)
    return [groups[one.path_id, one.scan, one.path] for one in instructions]


class Drawable(Protocol):
    """What batches are drawn from."""

    @property
    def instructions(self) -> Sequence[Task]: ...

    def batch(self, index: Sequence[int]) -> Any: ...


class EpisodeBatches:
    """Endless batches in the authors' order, which the processes share out.

    Args:
        episodes: to draw from.
        batch_size: episodes of all processes together.
        world: this process among its peers.
    """

    def __init__(self, episodes: Drawable, batch_size: int, world: World) -> None:
        self.episodes, self.world = episodes, world
        check_shares(batch_size, world.size)
        self.order = BatchOrder(len(episodes.instructions), batch_size)
        names = "\n".join(one.id for one in episodes.instructions)
        self.digest = hashlib.sha256(names.encode()).hexdigest()[:16]

    def __iter__(self) -> EpisodeBatches:
        return self

    def __next__(self) -> Any:
        return self.episodes.batch(next(self.order)[self.world.rank :: self.world.size])

    def state_dict(self) -> dict[str, Any]:
        return {**self.order.state_dict(), "episodes": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        count, now = len(state["order"]), len(self.episodes.instructions)
        if count != now:
            raise CheckpointMismatch(
                f"the checkpoint goes through {count} episodes, the data now has {now}; give the "
                "same --data-dir, --train, --aug and --words, or a new --run-dir"
            )
        if state.get("episodes", self.digest) != self.digest:
            raise CheckpointMismatch(
                f"the checkpoint goes through {count} other episodes than the data now has; give "
                "the same --data-dir and --train, or a new --run-dir"
            )
        self.order.load_state_dict(state)
