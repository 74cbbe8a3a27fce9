"""HANNA's agent: roll-out, teachers, losses, records (EMNLP 2019; CVPR 2020, Sec. 4.3).

Imitation is retrospective: whether a request would have been right is judged when the episode is
over (Nguyen & Daumé III, EMNLP 2019, Sec. 4).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import options_in
from ..data.features import DeviceFeatures
from ..environments.hanna import HannaEnvironment, HannaObservation, Message, ObjectTask
from ..models.hanna import (
    SLOTS,
    START_DECISION,
    AskNetwork,
    DicEncoder,
    HannaConfig,
    NavigationNetwork,
    Sight,
    WordEncoder,
    goal_likeness,
    scatter_chances,
)
from ..models.prevalent import PrevalentModel, cast_once
from ..optimizer import Agent, OptimizerConfig
from ..runtime.distributed import reduce_mean
from ..runtime.options import at_least
from ..runtime.precision import Precision
from ..runtime.transfer import upload
from ..simulator.geometry import IntArray
from .rollout import sample

AskPolicy = Literal["learned", "never", "every", "random"]


@dataclass(frozen=True)
class HannaRolloutConfig:
    """How an episode is walked, when help is asked for, and what is taught."""

    train_length: int = 20
    """Most steps of an episode in training."""
    eval_length: int = 50
    """Most steps of an episode in evaluation."""
    ask: AskPolicy = "learned"
    """``never``, ``every`` (each ``ask_every`` steps) and ``random`` are baselines without an
    asking network."""
    ask_every: int = 5
    """Steps between two requests of ``ask=every``."""
    ask_probability: float = 0.2
    """Of a request at a step under ``ask=random``."""
    start_radius: float = 2.0
    """Meters to the start of a route in a neighboring place, for help to be had."""
    curiosity: float = 1.0
    """Weight of staying away from what went wrong here before (the authors' alpha)."""
    uncertain_threshold: float = 0.25
    """Entropy, in units of log 37, from which on a wrong choice counts as uncertain."""
    perfect_interpretation: bool = False
    """On a route, follow the shortest path instead of the policy (the paper's upper bound)."""
    vision_only: bool = False
    """On a route, hide ANNA's words: only the view of its end is known."""

    def __post_init__(self) -> None:
        at_least(
            self, "rollout", train_length=1, eval_length=1, ask_every=1, curiosity=0, start_radius=0
        )
        if not 0 <= self.ask_probability <= 1:
            raise ValueError(
                f"--rollout.ask-probability must be in [0, 1], got {self.ask_probability}"
            )

    def unused(self) -> dict[str, str]:
        """Options of rules of asking that this one is not, see `config.unused_options`."""
        asks, unused = f"--rollout.ask {self.ask}", {}
        if self.ask != "every":
            unused["--rollout.ask-every"] = f"{asks} does not count steps; give every, or drop it"
        if self.ask != "random":
            unused["--rollout.ask-probability"] = f"{asks} does not draw; give random, or drop it"
        if self.ask != "learned":
            reason = f"{asks} has no asking network; drop it, or give learned"
            unused["--rollout.uncertain-threshold"] = reason
            unused |= options_in("model", ("reasons", "ask_size"), reason)
        if self.ask == "never":
            names = ("start_radius", "perfect_interpretation", "vision_only")
            unused |= options_in("rollout", names, f"{asks} gets no help; drop one of them")
            unused["--model.reset"] = f"{asks} gets no new instruction; drop one of them"
        return unused


REASON_THRESHOLD = 0.5  # probability from which on a reason is reported


class HannaLosses(NamedTuple):
    """Sums over the steps of an episode of means over agents, in nats."""

    navigation: Tensor
    asking: Tensor


class HannaAgent(Agent):
    """Navigation and asking networks with their optimizers.

    Args:
        config: sizes and switches.
        environment: where it searches.
        features: what it sees; decides the device.
        encode: words of a text as (L,) numbers.
        vocab_size: V.
        max_length: L.
        bert: the pre-trained model, for ``encoder=dic``; each network gets a copy of its own.
        optimizer: of both networks.
        search: how episodes are walked.
        precision: of the forward passes.
    """

    def __init__(
        self,
        config: HannaConfig,
        environment: HannaEnvironment,
        features: DeviceFeatures,
        encode: Callable[[str], NDArray[np.int64]],
        *,
        vocab_size: int,
        max_length: int,
        bert: PrevalentModel | None = None,
        optimizer: OptimizerConfig | None = None,
        search: HannaRolloutConfig | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.search = config, search or HannaRolloutConfig()
        self.environment, self.features, self.encode = environment, features, encode
        if config.angle_size != features.angle_size:
            raise ValueError(
                f"--model.angle-size {config.angle_size} differs from the {features.angle_size} of "
                "the loaded features"
            )
        encoders = [build_hanna_encoder(config, vocab_size, max_length, bert) for _ in range(2)]
        width = features.image_width
        modules: dict[str, nn.Module] = {
            "nav_module": NavigationNetwork(config, encoders[0], width),
            "ask_module": AskNetwork(config, encoders[1], width),
        }
        super().__init__(
            modules, optimizer or OptimizerConfig("adam"), (), precision, features.device
        )

    @property
    def policy(self) -> Policy:
        """The networks that act; under a rule of asking the first alone."""
        ask = self.modules["ask_module"] if self.search.ask == "learned" else None
        return Policy(self.modules["nav_module"], ask)  # type: ignore[arg-type]

    def rollout(
        self, tasks: Sequence[ObjectTask], helper: str, feedback: Feedback, **options: Any
    ) -> HannaRollout:
        """Walk ``tasks``; options as in `rollout`."""
        with self.updater.precision.autocast():
            return rollout(
                self.policy,
                self.environment,
                self.features,
                self.encode,
                tasks,
                helper,
                config=self.search,
                feedback=feedback,
                **options,
            )

    def learn(self, tasks: Sequence[ObjectTask], helper: str, **options: Any) -> dict[str, Tensor]:
        """Sample walks and add the gradients of both losses.

        Returns:
            Detached scalars: loss, navigation and asking (nats per episode), requests (per agent).
        """
        walked = self.rollout(tasks, helper, "sample", **options)
        losses = hanna_losses(walked, self.search, reasons=self.config.reasons)
        loss = losses.navigation + losses.asking
        self.updater.backward(loss)
        asked = np.sum([step.asked & ~step.seen.ended for step in walked.steps]) / len(tasks)
        return {
            "loss": loss.detach(),
            "navigation": losses.navigation.detach(),
            "asking": losses.asking.detach(),
            "requests": torch.full((), float(asked), device=loss.device),
        }

    @torch.inference_mode()
    def act(
        self, batches: Iterable[Sequence[ObjectTask]], helper: str, feedback: Feedback = "argmax"
    ) -> list[dict[str, Any]]:
        """Walk ``batches`` in eval mode; one record in the authors' form for each task."""
        with self.in_eval_mode():
            results = []
            for tasks in batches:
                walked = self.rollout(tasks, helper, feedback)
                results += records(walked, self.environment, tasks)
        return results


def build_hanna_encoder(
    config: HannaConfig, vocab_size: int, max_length: int, bert: PrevalentModel | None
) -> nn.Module:
    """The text encoder that ``config`` names, with weights of its own."""
    if config.encoder == "words":
        return WordEncoder(config, vocab_size, max_length)
    if bert is None:
        raise ValueError("--model.encoder dic needs a pre-trained model")
    copy = PrevalentModel(bert.config)
    copy.load_state_dict(bert.state_dict())
    return DicEncoder(config, copy, max_length)


def hanna_losses(
    walked: HannaRollout, config: HannaRolloutConfig, *, reasons: bool = True
) -> HannaLosses:
    """Losses of a sampled roll-out (Eqs. 3 to 6 of HANNA).

    A step costs the mean over the agents with a target: cross entropy of the action less
    ``config.curiosity`` times the mean cross entropy of what was wrong here before; and cross
    entropy of the decision to ask plus, with ``reasons``, of the three reasons. The means are over
    the agents of all processes.
    """
    device = walked.steps[0].logits.device
    sums: list[list[Tensor]] = [[], []]
    counts = torch.zeros(2, config.train_length)
    for t, step in enumerate(walked.steps):
        counts[0, t] = int((step.teacher != IGNORE).sum())
        sums[0].append(_navigation_sum(step.logits, step.teacher, step.wrong, config.curiosity))
        if walked.requests is None or step.ask_logits is None:
            continue
        target = upload(walked.requests.decision[t], device)
        counts[1, t] = int((walked.requests.decision[t] != IGNORE).sum())
        total = F.cross_entropy(
            step.ask_logits.float(), target, ignore_index=IGNORE, reduction="sum"
        )
        if reasons and step.reasons is not None:
            wanted = upload(walked.requests.reasons[t], device)
            each = F.binary_cross_entropy_with_logits(
                step.reasons.float(), wanted, reduction="none"
            )
            total = total + (each.mean(dim=1) * (target != IGNORE)).sum()
        sums[1].append(total)
    counts = reduce_mean(upload(counts, device)).clamp(min=1e-8)
    zero = torch.zeros((), device=device)
    totals = [
        (torch.stack(part) / counts[i, : len(part)]).sum() if part else zero
        for i, part in enumerate(sums)
    ]
    return HannaLosses(*totals)


def _navigation_sum(
    logits: Tensor, teacher: NDArray[np.int64], wrong: NDArray[np.bool_], curiosity: float
) -> Tensor:
    """Sum over agents of one step's navigation loss."""
    target = upload(teacher, logits.device)
    log_probs = logits.float().log_softmax(dim=1)
    total = F.nll_loss(log_probs, target, ignore_index=IGNORE, reduction="sum")
    wrong = wrong & (teacher != IGNORE)[:, None]
    if curiosity and wrong.any():
        mask = upload(wrong, logits.device)
        each = -log_probs.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        total = total - curiosity * each.sum()
    return total


def records(
    walked: HannaRollout, environment: HannaEnvironment, tasks: Sequence[ObjectTask]
) -> list[dict[str, Any]]:
    """Results in the authors' form, up to the end of each episode."""
    names = environment.graphs.viewpoints
    poses = environment.every_pose()
    views = [*(step.seen for step in walked.steps), walked.last]
    results = []
    for i, task in enumerate(tasks):
        steps = [step for step in walked.steps if not step.seen.ended[i]]
        seen = views[: len(steps) + 1]
        result: dict[str, Any] = {
            "instr_id": task.id,
            "scan": task.scan,
            "agent_pose": poses[i][: len(seen)],
            "agent_mode": [one.modes[i] for one in seen],
            "agent_ask": [int(step.asked[i]) for step in steps],
            "agent_nav": [int(step.action[i]) for step in steps],
            "instruction": [one.texts[i] for one in seen],
            "target_viewpoints": [[names[node] for node in one.targets[i]] for one in seen],
            "teacher_nav": [int(step.teacher[i]) for step in steps],
            "time": [one.time for one in seen],
            "time_on_task": [int(one.time_on_task[i]) for one in seen],
            "message": [
                None if message is None else message.record(environment.graphs)
                for message in (step.messages[i] for step in steps)
            ],
        }
        if walked.requests is not None:
            result["teacher_ask"] = walked.requests.decision[: len(steps), i].tolist()
            result["agent_reason"] = [_reported(step.reasons, i) for step in steps]
        results.append(result)
    return results


def _reported(reasons: Tensor | None, i: int) -> list[str]:
    """Names of the reasons that agent ``i`` gives."""
    if reasons is None:
        return []
    chances = reasons[i].sigmoid().tolist()
    return [
        name for name, chance in zip(REASONS, chances, strict=True) if chance >= REASON_THRESHOLD
    ]


Feedback = Literal["sample", "argmax"]
Pick = Callable[[int, Sequence[Message]], Message]
"""Which of ANNA's equally good answers an agent (by its place in the batch) gets."""


class Policy(NamedTuple):
    """The two networks; without the second, a rule asks."""

    navigation: NavigationNetwork
    ask: AskNetwork | None


class HannaStep(NamedTuple):
    """One step of B agents."""

    seen: HannaObservation
    logits: Tensor  # (B, K) of the actions
    ask_logits: Tensor | None  # (B, 2), minus infinity where no request is possible
    reasons: Tensor | None  # (B, 3) logits
    action: NDArray[np.int64]  # (B,) taken; -1 where help was requested
    teacher: NDArray[np.int64]  # (B,) -1 where nothing is taught
    wrong: NDArray[np.bool_]  # (B, K) wrong here before
    asked: NDArray[np.bool_]  # (B,)
    messages: list[Message | None]


class HannaRollout(NamedTuple):
    """Steps of a batch; items keep the order of the tasks."""

    steps: list[HannaStep]
    requests: RequestTargets | None
    last: HannaObservation


def see(features: DeviceFeatures, seen: HannaObservation) -> Sight:
    """Gather what B agents see."""
    scene = seen.scene
    images = features.images(scene.row)  # (B, 36, D)
    known = upload(seen.goal_row >= 0, features.device)
    goal = features.images(np.maximum(seen.goal_row, 0)) * known[:, None, None]
    blank = images.new_zeros(len(images), 1, images.shape[2])
    return Sight(
        views=torch.cat([images, blank], dim=1),
        goal=torch.cat([goal, blank], dim=1),
        actions=features.candidates(scene.row, scene.candidate_view, scene.candidate_angle, images),
        mask=upload(scene.mask, features.device),
        slot=upload(seen.slot, features.device),
    )


def rollout(
    policy: Policy,
    environment: HannaEnvironment,
    features: DeviceFeatures,
    encode: Callable[[str], NDArray[np.int64]],
    tasks: Sequence[ObjectTask],
    helper: str,
    *,
    config: HannaRolloutConfig,
    feedback: Feedback,
    pick: Pick | None = None,
    draws: Sequence[ArrayLike] | None = None,
) -> HannaRollout:
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
    mistakes, steps, forecasts = WrongTurns(len(tasks)), [], []
    length = config.train_length if feedback == "sample" else config.eval_length
    for _ in range(length):
        step, chances = walker.step(seen, feedback)
        for i in np.flatnonzero(step.asked):
            step.messages[i] = pick(int(i), environment.answers(int(i)))
        step = step._replace(wrong=mistakes.mask(seen))
        mistakes.note(seen, step.action, step.teacher)
        steps.append(step)
        forecasts.append(torch.cat([chances, step.logits.detach().argmax(1, keepdim=True)], dim=1))
        seen = environment.act(step.action, step.messages)
        if seen.ended.all():
            break
    requests = None
    if policy.ask is not None:
        known = torch.stack(forecasts).cpu().numpy()  # (T, B, 38), in one wait for the device
        moments = [request_step(*one, config) for one in zip(steps, known, strict=True)]
        requests = request_targets(moments, seen.distance)
    return HannaRollout(steps, requests, seen)


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
        config: HannaRolloutConfig,
        draws: Iterator[ArrayLike] | None,
    ) -> None:
        self.policy, self.features, self.encode, self.config = policy, features, encode, config
        self.draws = draws

    def step(self, seen: HannaObservation, feedback: Feedback) -> tuple[HannaStep, Tensor]:
        """What the agents do at ``seen``, and the chances (B, 37) of the relative views, fp64."""
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
        views, goal, actions = map(cast_once, (sight.views, sight.goal, sight.actions))
        sight = sight._replace(views=views, goal=goal, actions=actions)  # both networks see them
        logits = self.policy.navigation(self.navigating, sight, self.last_action, likeness)
        chances = scatter_chances(logits.detach(), sight.slot)
        choice = self._choose(logits, feedback)
        asked, ask_logits, reasons = self._ask(seen, sight, likeness, chances, feedback)
        if isinstance(asked, Tensor):  # the host waits for both choices at once
            action, decision = torch.stack([choice, asked]).cpu().numpy()
            asked = decision == REQUEST
        else:
            action = choice.cpu().numpy()
        teacher = np.where(seen.ended | asked, IGNORE, seen.scene.teacher)
        if self.config.perfect_interpretation:
            led = np.array([mode == "on_route" for mode in seen.modes]) & (teacher >= 0)
            action = np.where(led, teacher, action)
        action = np.where(asked, -1, action)
        taken = upload(np.maximum(action, 0), sight.actions.device)
        rows = torch.arange(batch, device=taken.device)
        self.last_action = sight.actions[rows, taken].detach()
        step = HannaStep(
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
        return step, chances.double()

    def _read(self, seen: HannaObservation) -> None:
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
        ids = upload(np.ascontiguousarray(tokens[:, :used]), device)
        where = upload(rows, device), upload(new, device)
        self.policy.navigation.read(self.navigating, ids, *where)
        if self.policy.ask is not None and self.asking is not None:
            self.policy.ask.read(self.asking, ids, *where)

    def _ask(
        self,
        seen: HannaObservation,
        sight: Sight,
        likeness: Tensor,
        chances: Tensor,
        feedback: Feedback,
    ) -> tuple[NDArray[np.bool_] | Tensor, Tensor | None, Tensor | None]:
        """Who requests help (B,) by a rule; or decisions (B,), logits of these and of reasons."""
        able = seen.requestable & ~seen.ended
        if self.policy.ask is None or self.asking is None:
            asked = able & self._rule(seen)
            self.last_asked = np.where(asked, seen.time, self.last_asked)
            return asked, None, None
        logits, reasons = self.policy.ask(self.asking, sight, self.last_decision, likeness, chances)
        forbidden = torch.zeros_like(logits, dtype=torch.bool)
        forbidden[:, REQUEST] = upload(~able, logits.device)
        logits = logits.masked_fill(forbidden, -torch.inf)
        decision = self._choose(logits, feedback)
        self.asking.unlike[-1] = decision != REQUEST
        self.last_decision = decision
        return decision, logits, reasons

    def _rule(self, seen: HannaObservation) -> NDArray[np.bool_]:
        config, size = self.config, len(seen.texts)
        if config.ask == "every":
            return seen.time - self.last_asked >= config.ask_every
        if config.ask == "random":
            return np.array([random.random() < config.ask_probability for _ in range(size)])
        return np.zeros(size, dtype=bool)

    def _choose(self, logits: Tensor, feedback: Feedback) -> Tensor:
        if self.draws is not None:
            return upload(np.asarray(next(self.draws), dtype=np.int64), logits.device)
        if feedback == "argmax":
            return logits.argmax(dim=1)
        return sample(logits.detach().log_softmax(dim=1))


def request_step(
    step: HannaStep, known: NDArray[np.float64], config: HannaRolloutConfig
) -> RequestStep:
    """What the teacher of requests needs of a step.

    ``known`` (B, 38) is the chances of the relative views and, last, the likeliest action.
    """
    seen, chances, likeliest = step.seen, known[:, :-1], known[:, -1].astype(np.int64)
    spread = -(chances * np.log(np.maximum(chances, 1e-300))).sum(axis=1) / np.log(SLOTS)
    return RequestStep(
        node=seen.scene.node,
        distance=seen.scene.distance,
        asked=step.asked,
        stopped=(step.action == 0) & ~step.asked,
        ended=seen.ended,
        requestable=seen.requestable,
        uncertain=spread >= config.uncertain_threshold,
        wrong=likeliest != step.teacher,
    )


LOST, UNCERTAIN_WRONG, ALREADY_ASKED = 0, 1, 2
REASONS = ("lost", "uncertain_wrong", "already_asked")
GO_ON, REQUEST = 0, 1
IGNORE = -1  # target where there is nothing to learn


class WrongTurns:
    """Which actions each of B agents has taken wrongly, by place and subgoal."""

    def __init__(self, batch: int) -> None:
        self._taken: list[dict[tuple[int, object], set[int]]] = [{} for _ in range(batch)]

    def mask(self, seen: HannaObservation) -> NDArray[np.bool_]:
        """(B, K) actions that lead where a wrong action from here has led before."""
        wrong = np.zeros(seen.scene.mask.shape, dtype=bool)
        for i, taken in enumerate(self._taken):
            led = taken.get((int(seen.scene.node[i]), seen.subgoals[i]))
            if led:
                wrong[i] = np.isin(seen.scene.target[i], list(led)) & seen.scene.mask[i]
        return wrong

    def note(self, seen: HannaObservation, action: IntArray, teacher: IntArray) -> None:
        """Remember ``action`` (B,) where it differs from ``teacher`` (B,); -1 teaches nothing."""
        for i in np.flatnonzero((teacher >= 0) & (action != teacher)):
            place = int(seen.scene.node[i]), seen.subgoals[i]
            led = int(seen.scene.target[i, action[i]])
            self._taken[i].setdefault(place, set()).add(led)


@dataclass(frozen=True)
class RequestStep:
    """One step of B agents, as far as the teacher of requests needs it."""

    node: IntArray  # (B,)
    distance: NDArray[np.float64]  # (B,) meters to the nearest target
    asked: NDArray[np.bool_]  # (B,)
    stopped: NDArray[np.bool_]  # (B,) departed or ended by the stop action
    ended: NDArray[np.bool_]  # (B,) before this step
    requestable: NDArray[np.bool_]  # (B,)
    uncertain: NDArray[np.bool_]  # (B,) high entropy
    wrong: NDArray[np.bool_]  # (B,) the likeliest action is not the teacher's


class RequestTargets(NamedTuple):
    """Targets for T steps of B agents."""

    decision: IntArray  # (T, B) 1 = request help, 0 = go on, -1 = nothing to learn
    reasons: NDArray[np.float32]  # (T, B, 3) lost, uncertain and wrong, asked here already


def request_targets(moments: Sequence[RequestStep], last: NDArray[np.float64]) -> RequestTargets:
    """When help should have been requested, in the light of the whole episode.

    Args:
        moments: T steps.
        last: (B,) meters to the nearest target behind the last step.

    A request is right where the agent is lost or uncertain and wrong, unless it has asked at that
    place before. It is lost in every step behind the one of its segment that was nearest to the
    target; segments end with a request, a stop, or the episode.
    """
    steps, batch = len(moments), len(moments[0].node)
    node = np.stack([moment.node for moment in moments])  # (T, B)
    live = ~np.stack([moment.ended for moment in moments])
    able = live & np.stack([moment.requestable for moment in moments])
    asked = np.stack([moment.asked for moment in moments])
    cuts = asked | np.stack([moment.stopped for moment in moments])
    distance = np.stack([*(moment.distance for moment in moments), last])
    reasons = np.zeros((steps, batch, len(REASONS)), dtype=np.float32)
    for moment, row in zip(moments, reasons, strict=True):
        row[:, UNCERTAIN_WRONG] = moment.uncertain & moment.wrong
    for i in range(batch):
        count = int(live[:, i].sum())
        reasons[:count, i, LOST] = lost_steps(distance[: count + 1, i], cuts[:count, i])
        for t in range(count):
            reasons[t, i, ALREADY_ASKED] = node[t, i] in node[:t, i][asked[:t, i]]
    reasons[~able] = 0
    wanted = reasons[..., LOST] + reasons[..., UNCERTAIN_WRONG] > 0
    wanted &= reasons[..., ALREADY_ASKED] == 0
    return RequestTargets(np.where(able, wanted.astype(np.int64), IGNORE), reasons)


def lost_steps(distance: NDArray[np.float64], cuts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of T steps come behind the nearest approach of their segment.

    Args:
        distance: (T + 1,) meters to the target of the step, the last one behind all steps.
        cuts: (T,) steps that end a segment.
    """
    lost = np.zeros(len(cuts), dtype=bool)
    begin = 0
    for end in [*(np.flatnonzero(cuts) + 1).tolist(), len(distance)]:
        if end > begin:
            nearest = begin + int(distance[begin:end].argmin())  # the first of equal ones
            lost[nearest + 1 : end] = True
        begin = end
    return lost
