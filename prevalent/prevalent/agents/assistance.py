"""HANNA's agent: its networks, how it learns and how it acts (EMNLP 2019; CVPR 2020, Sec. 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..agent_config import OptimizerConfig
from ..assistance_config import AssistanceConfig, SearchConfig
from ..data.features import DeviceFeatures
from ..environments.assistance import AssistanceEnvironment, SearchTask
from ..models.assistance import AskNetwork, DicEncoder, NavigationNetwork, WordEncoder
from ..models.prevalent import PrevalentModel
from ..runtime.distributed import reduce_mean
from ..runtime.precision import Precision
from .assistance_rollout import Feedback, Policy, SearchRollout, rollout
from .assistance_teachers import IGNORE, REASONS
from .updates import Updater

REASON_THRESHOLD = 0.5  # probability from which on a reason is reported


class SearchLosses(NamedTuple):
    """Sums over the steps of an episode of means over agents, in nats."""

    navigation: Tensor
    asking: Tensor


class AssistanceAgent:
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
        config: AssistanceConfig,
        environment: AssistanceEnvironment,
        features: DeviceFeatures,
        encode: Callable[[str], NDArray[np.int64]],
        *,
        vocab_size: int,
        max_length: int,
        bert: PrevalentModel | None = None,
        optimizer: OptimizerConfig | None = None,
        search: SearchConfig | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.search = config, search or SearchConfig()
        self.environment, self.features, self.encode = environment, features, encode
        if config.angle_size != features.angle_size:
            raise ValueError(
                f"--model.angle-size {config.angle_size} differs from the {features.angle_size} of "
                "the loaded features"
            )
        encoders = [build_encoder(config, vocab_size, max_length, bert) for _ in range(2)]
        width = features.image_width
        modules: dict[str, nn.Module] = {
            "nav_module": NavigationNetwork(config, encoders[0], width),
            "ask_module": AskNetwork(config, encoders[1], width),
        }
        for module in modules.values():
            module.to(features.device)
        self.updater = Updater(
            modules, optimizer or OptimizerConfig("adam"), (), precision, features.device
        )
        self.modules, self.optimizers = self.updater.modules, self.updater.optimizers

    @property
    def policy(self) -> Policy:
        """The networks that act; under a rule of asking the first alone."""
        ask = self.modules["ask_module"] if self.search.ask == "learned" else None
        return Policy(self.modules["nav_module"], ask)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> AssistanceAgent:
        """Put both networks in train or eval mode."""
        for module in self.modules.values():
            module.train(mode)
        return self

    def parts(self) -> dict[str, Any]:
        """Named parts for a checkpoint."""
        return self.updater.parts()

    def rollout(
        self, tasks: Sequence[SearchTask], helper: str, feedback: Feedback, **options: Any
    ) -> SearchRollout:
        """Walk ``tasks``; options as in `assistance_rollout.rollout`."""
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

    def learn(self, tasks: Sequence[SearchTask], helper: str, **options: Any) -> dict[str, Tensor]:
        """Sample walks and add the gradients of both losses.

        Returns:
            Detached scalars: loss, navigation and asking (nats per episode), requests (per agent).
        """
        walked = self.rollout(tasks, helper, "sample", **options)
        losses = search_losses(walked, self.search, reasons=self.config.reasons)
        loss = losses.navigation + losses.asking
        self.updater.backward(loss)
        asked = np.sum([step.asked & ~step.seen.ended for step in walked.steps]) / len(tasks)
        return {
            "loss": loss.detach(),
            "navigation": losses.navigation.detach(),
            "asking": losses.asking.detach(),
            "requests": torch.tensor(float(asked), device=loss.device),
        }

    def update(self) -> None:
        """Step both optimizers. No gradient is clipped."""
        self.updater.step()

    @torch.inference_mode()
    def act(
        self, batches: Iterable[Sequence[SearchTask]], helper: str, feedback: Feedback = "argmax"
    ) -> list[dict[str, Any]]:
        """Walk ``batches`` in eval mode; one record in the authors' form for each task."""
        was_training = self.modules["nav_module"].training
        self.train(False)
        results = []
        for tasks in batches:
            walked = self.rollout(tasks, helper, feedback)
            results += records(walked, self.environment, tasks)
        self.train(was_training)
        return results


def build_encoder(
    config: AssistanceConfig, vocab_size: int, max_length: int, bert: PrevalentModel | None
) -> nn.Module:
    """The text encoder that ``config`` names, with weights of its own."""
    if config.encoder == "words":
        return WordEncoder(config, vocab_size, max_length)
    if bert is None:
        raise ValueError("--model.encoder dic needs a pre-trained model")
    copy = PrevalentModel(bert.config)
    copy.load_state_dict(bert.state_dict())
    return DicEncoder(config, copy, max_length)


def search_losses(
    walked: SearchRollout, config: SearchConfig, *, reasons: bool = True
) -> SearchLosses:
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
        if walked.lesson is None or step.ask_logits is None:
            continue
        target = torch.from_numpy(walked.lesson.decision[t]).to(device)
        counts[1, t] = int((walked.lesson.decision[t] != IGNORE).sum())
        total = F.cross_entropy(
            step.ask_logits.float(), target, ignore_index=IGNORE, reduction="sum"
        )
        if reasons and step.reasons is not None:
            wanted = torch.from_numpy(walked.lesson.reasons[t]).to(device)
            each = F.binary_cross_entropy_with_logits(
                step.reasons.float(), wanted, reduction="none"
            )
            total = total + (each.mean(dim=1) * (target != IGNORE)).sum()
        sums[1].append(total)
    counts = reduce_mean(counts.to(device)).clamp(min=1e-8)
    zero = torch.zeros((), device=device)
    totals = [
        (torch.stack(part) / counts[i, : len(part)]).sum() if part else zero
        for i, part in enumerate(sums)
    ]
    return SearchLosses(*totals)


def _navigation_sum(
    logits: Tensor, teacher: NDArray[np.int64], wrong: NDArray[np.bool_], curiosity: float
) -> Tensor:
    """Sum over agents of one step's navigation loss."""
    target = torch.from_numpy(teacher).to(logits.device)
    log_probs = logits.float().log_softmax(dim=1)
    total = F.nll_loss(log_probs, target, ignore_index=IGNORE, reduction="sum")
    wrong = wrong & (teacher != IGNORE)[:, None]
    if curiosity and wrong.any():
        mask = torch.from_numpy(wrong).to(logits.device)
        each = -log_probs.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        total = total - curiosity * each.sum()
    return total


def records(
    walked: SearchRollout, environment: AssistanceEnvironment, tasks: Sequence[SearchTask]
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
        if walked.lesson is not None:
            result["teacher_ask"] = walked.lesson.decision[: len(steps), i].tolist()
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
