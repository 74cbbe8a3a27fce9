"""Walk a batch of searches with HANNA's two networks and record what the losses need."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..assistance_config import SearchConfig
from ..data.features import DeviceFeatures
from ..environments.anna import Message
from ..environments.assistance import AssistanceEnvironment, AssistanceObservation, SearchTask
from ..models.assistance import (
    SLOTS,
    START_DECISION,
    AskNetwork,
    NavigationNetwork,
    Sight,
    goal_likeness,
    scatter_chances,
)
from .assistance_teachers import IGNORE, REQUEST, AskLesson, Moment, WrongTurns, teach_requests
from .rollout import sample

Feedback = Literal["sample", "argmax"]
Pick = Callable[[int, Sequence[Message]], Message]
"""Which of ANNA's equally good answers an agent (by its place in the batch) gets."""


class Policy(NamedTuple):
    """The two networks; without the second, a rule asks."""

    navigation: NavigationNetwork
    ask: AskNetwork | None


class SearchStep(NamedTuple):
    """One step of B agents."""

    seen: AssistanceObservation
    logits: Tensor  # (B, K) of the actions
    ask_logits: Tensor | None  # (B, 2), minus infinity where no request is possible
    reasons: Tensor | None  # (B, 3) logits
    action: NDArray[np.int64]  # (B,) taken; -1 where help was requested
    teacher: NDArray[np.int64]  # (B,) -1 where nothing is taught
    wrong: NDArray[np.bool_]  # (B, K) wrong here before
    asked: NDArray[np.bool_]  # (B,)
    messages: list[Message | None]


class SearchRollout(NamedTuple):
    """Steps of a batch; items keep the order of the tasks."""

    steps: list[SearchStep]
    lesson: AskLesson | None
    last: AssistanceObservation


def see(features: DeviceFeatures, seen: AssistanceObservation) -> Sight:
    """Gather what B agents see."""
    scene = seen.scene
    images = features.images(scene.row)  # (B, 36, D)
    known = torch.from_numpy(seen.goal_row >= 0).to(features.device)
    goal = features.images(np.maximum(seen.goal_row, 0)) * known[:, None, None]
    blank = images.new_zeros(len(images), 1, images.shape[2])
    return Sight(
        views=torch.cat([images, blank], dim=1),
        goal=torch.cat([goal, blank], dim=1),
        actions=features.candidates(scene.row, scene.candidate_view, scene.candidate_angle, images),
        mask=torch.from_numpy(scene.mask).to(features.device),
        slot=torch.from_numpy(seen.slot).to(features.device),
    )


def rollout(
    policy: Policy,
    environment: AssistanceEnvironment,
    features: DeviceFeatures,
    encode: Callable[[str], NDArray[np.int64]],
    tasks: Sequence[SearchTask],
    helper: str,
    *,
    config: SearchConfig,
    feedback: Feedback,
    pick: Pick | None = None,
    draws: Sequence[ArrayLike] | None = None,
) -> SearchRollout:
    """Walk ``tasks`` until all have ended, at most as long as ``config`` says for ``feedback``.

    Args:
        policy: the networks, in train or eval mode.
        environment: left at the end of the walks.
        features: of the panoramas.
        encode: words of a text as (L,) numbers.
        tasks: the searches.
        helper: split of the routes that ANNA tells.
        config: lengths, rules and switches.
        feedback: draw actions and decisions, or take the likeliest.
        pick: chooses among equally good answers; by default a random one under ``sample``, else
            the first.
        draws: in place of sampled ones, for each step the actions (B,) and, with an asking
            network, the decisions (B,).
    """
    if pick is None:
        pick = _pick_random if feedback == "sample" else _pick_first
    walker = _Walker(policy, features, encode, config, None if draws is None else iter(draws))
    seen = environment.search(tasks, helper)
    mistakes, steps, moments = WrongTurns(len(tasks)), [], []
    length = config.train_length if feedback == "sample" else config.eval_length
    for _ in range(length):
        step, chances = walker.step(seen, feedback)
        for i in np.flatnonzero(step.asked):
            step.messages[i] = pick(int(i), environment.answers(int(i)))
        step = step._replace(wrong=mistakes.mask(seen))
        mistakes.note(seen, step.action, step.teacher)
        steps.append(step)
        moments.append(observe_moment(step, chances, config))
        seen = environment.act(step.action, step.messages)
        if seen.ended.all():
            break
    lesson = None if policy.ask is None else teach_requests(moments, seen.distance)
    return SearchRollout(steps, lesson, seen)


def _pick_random(_: int, answers: Sequence[Message]) -> Message:
    return random.choice(answers)


def _pick_first(_: int, answers: Sequence[Message]) -> Message:
    return answers[0]


class _Walker:
    """The networks' side of a roll-out."""

    def __init__(
        self,
        policy: Policy,
        features: DeviceFeatures,
        encode: Callable[[str], NDArray[np.int64]],
        config: SearchConfig,
        draws: Iterator[ArrayLike] | None,
    ) -> None:
        self.policy, self.features, self.encode, self.config = policy, features, encode, config
        self.draws = draws

    def step(
        self, seen: AssistanceObservation, feedback: Feedback
    ) -> tuple[SearchStep, NDArray[np.float64]]:
        """What the agents do at ``seen``, and the chances (B, 37) of the relative views."""
        sight = see(self.features, seen)
        batch = len(seen.texts)
        if seen.time == 0:
            self.navigating = self.policy.navigation.start(batch)
            self.asking = None if self.policy.ask is None else self.policy.ask.start(batch)
            self.last_action = torch.zeros_like(sight.actions[:, 0])
            self.last_asked = np.full(batch, -1)
            self.last_decision = torch.full((batch,), START_DECISION, device=sight.views.device)
        self._read(seen)
        likeness = goal_likeness(sight.views, sight.goal)
        logits = self.policy.navigation(self.navigating, sight, self.last_action, likeness)
        chances = scatter_chances(logits.detach(), sight.slot)
        action = self._choose(logits, feedback)
        asked, ask_logits, reasons = self._ask(seen, sight, likeness, chances, feedback)
        teacher = np.where(seen.ended | asked, IGNORE, seen.scene.teacher)
        if self.config.perfect_interpretation:
            led = np.array([mode == "on_route" for mode in seen.modes]) & (teacher >= 0)
            action = np.where(led, teacher, action)
        action = np.where(asked, -1, action)
        taken = torch.from_numpy(np.maximum(action, 0)).to(sight.actions.device)
        rows = torch.arange(batch, device=taken.device)
        self.last_action = sight.actions[rows, taken].detach()
        step = SearchStep(
            seen,
            logits,
            ask_logits,
            reasons,
            action,
            teacher,
            np.zeros_like(seen.scene.mask),
            asked,
            [None] * batch,
        )
        return step, chances.double().cpu().numpy()

    def _read(self, seen: AssistanceObservation) -> None:
        """Hand new instructions to the networks."""
        if not seen.begins.any():
            return
        new = np.flatnonzero(seen.begins)
        # Where padding is seen, texts must be padded to the longest of all.
        whole = self.policy.navigation.encoder.sees_padding
        rows = np.arange(len(seen.texts)) if whole else new
        hide = self.config.vision_only
        texts = ["" if hide and seen.modes[i] == "on_route" else seen.texts[i] for i in rows]
        tokens = np.stack([self.encode(text) for text in texts])
        used = max(1, int((tokens != 0).sum(axis=1).max()))
        device = self.features.device
        ids = torch.from_numpy(np.ascontiguousarray(tokens[:, :used])).to(device)
        where = torch.from_numpy(rows).to(device), torch.from_numpy(new).to(device)
        self.policy.navigation.read(self.navigating, ids, *where)
        if self.policy.ask is not None and self.asking is not None:
            self.policy.ask.read(self.asking, ids, *where)

    def _ask(
        self,
        seen: AssistanceObservation,
        sight: Sight,
        likeness: Tensor,
        chances: Tensor,
        feedback: Feedback,
    ) -> tuple[NDArray[np.bool_], Tensor | None, Tensor | None]:
        """Who requests help (B,), with the logits of that decision and of its reasons."""
        able = seen.requestable & ~seen.ended
        if self.policy.ask is None or self.asking is None:
            asked = able & self._rule(seen)
            self.last_asked = np.where(asked, seen.time, self.last_asked)
            return asked, None, None
        logits, reasons = self.policy.ask(self.asking, sight, self.last_decision, likeness, chances)
        forbidden = torch.zeros_like(logits, dtype=torch.bool)
        forbidden[:, REQUEST] = torch.from_numpy(~able).to(logits.device)
        logits = logits.masked_fill(forbidden, -torch.inf)
        decision = self._choose(logits, feedback)
        self.asking.unlike[-1] = torch.from_numpy(decision != REQUEST).to(logits.device)
        self.last_decision = torch.from_numpy(decision).to(logits.device)
        return decision == REQUEST, logits, reasons

    def _rule(self, seen: AssistanceObservation) -> NDArray[np.bool_]:
        config, size = self.config, len(seen.texts)
        if config.ask == "every":
            return seen.time - self.last_asked >= config.ask_every
        if config.ask == "random":
            return np.array([random.random() < config.ask_probability for _ in range(size)])
        return np.zeros(size, dtype=bool)

    def _choose(self, logits: Tensor, feedback: Feedback) -> NDArray[np.int64]:
        if self.draws is not None:
            return np.asarray(next(self.draws), dtype=np.int64)
        if feedback == "argmax":
            return logits.argmax(dim=1).cpu().numpy()
        return sample(logits.detach().log_softmax(dim=1)).cpu().numpy()


def observe_moment(step: SearchStep, chances: NDArray[np.float64], config: SearchConfig) -> Moment:
    """What the teacher of requests needs of a step; ``chances`` is (B, 37)."""
    seen = step.seen
    spread = -(chances * np.log(np.maximum(chances, 1e-300))).sum(axis=1) / np.log(SLOTS)
    likeliest = step.logits.argmax(dim=1).cpu().numpy()
    return Moment(
        node=seen.scene.node,
        distance=seen.scene.distance,
        asked=step.asked,
        stopped=(step.action == 0) & ~step.asked,
        ended=seen.ended,
        requestable=seen.requestable,
        uncertain=spread >= config.uncertain_threshold,
        wrong=likeliest != step.teacher,
    )
