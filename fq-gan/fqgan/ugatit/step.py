"""One training iteration of FQ-U-GAT-IT: both discriminators, then both generators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augment.diffaugment import diffaugment
from ..gan import average_gradients, require_grad, send_from_first_rank
from ..runtime.distributed import reduce_mean
from ..runtime.precision import MixedPrecision, clear_gradients, ieee_fp32
from .config import GanLoss, ScheduleConfig, StepConfig
from .layers import kernels
from .networks import Discriminator, DiscriminatorOutput, Generator, Translated, UgatitNetworks


class StepLosses(NamedTuple):
    """Unweighted losses summed over both directions, means over the batch and the ranks.

    Tensors () on the device; whoever reads them waits for them. Where the generators do not move,
    theirs are those of their last step.
    """

    discriminator: Tensor  # adversarial
    penalty: Tensor  # on D's gradient; 0 without
    discriminator_quantization: Tensor  # commitment loss of real and translated images
    codebook_perplexity: Tensor  # deepest quantized layer, mean of both discriminators
    generator: Tensor  # adversarial
    cycle: Tensor
    identity: Tensor
    cam: Tensor
    generator_quantization: Tensor


class _Direction(NamedTuple):
    """One way of translating: its networks, and the generator that goes back."""

    generator: Generator
    back: Generator
    discriminator: Discriminator
    precision: MixedPrecision
    optimizer: torch.optim.Optimizer


class UgatitStep:
    """Owns the optimizers; call it once per iteration.

    Both directions are worked through one after the other, forward and backward, and the
    generators move once, at the end: the gradients are those of the authors' sum of losses, while
    the activations of one direction exist at a time. A generator translates its source images
    (for the adversarial and the cycle loss) and images of its target (for the identity loss) in
    one batch, and the discriminators judge what was translated then: nothing is translated twice.

    With ``torch.distributed`` running, gradients are averaged over the ranks by one reduction per
    update, so every rank passes its bare networks.

    Args:
        networks: on their device.
        config: sizes, learning rate, losses.
        schedule: of the learning rate.
        precision: fp32 where absent. It scales the generators' losses; the discriminators have a
            scale of their own, as they move while the generators' gradients are being collected.
    """

    def __init__(
        self,
        networks: UgatitNetworks,
        config: StepConfig,
        schedule: ScheduleConfig,
        *,
        precision: MixedPrecision | None = None,
    ) -> None:
        self.networks, self.config, self.schedule = networks, config, schedule
        device = next(networks.parameters()).device
        send_from_first_rank(networks)
        self.generator_optimizer = build_adam(networks.generators(), config)
        self.discriminator_optimizers = [
            build_adam([one], config) for one in networks.discriminators()
        ]
        self.precision = precision or MixedPrecision("fp32", device)
        names = ("a_to_b", "b_to_a", "judge_a", "judge_b")
        # Changes anything with apex only, which patches networks and optimizers in place.
        self.precision.prepare(
            [getattr(networks, name) for name in names],
            [self.generator_optimizer, *self.discriminator_optimizers],
        )
        self.discriminator_precisions = [
            self.precision
            if self.precision.amp is not None
            else MixedPrecision(self.precision.precision, device)
            for _ in self.discriminator_optimizers
        ]
        self._generator_losses = torch.zeros(5, device=device)

    def __call__(
        self,
        a: Tensor,
        b: Tensor,
        step: int,
        *,
        generator_a: Tensor | None = None,
        generator_b: Tensor | None = None,
    ) -> StepLosses:
        """Run iteration number ``step`` (from 1).

        Args:
            a, b: (B, C, H, W) in [-1, 1], images of the two domains.
            step: decides on the learning rate, and on whether the generators move.
            generator_a, generator_b: the generators' own images with ``separate_batches``, where
                ``config.batches_per_step(step)`` is 2.
        """
        config, networks = self.config, self.networks
        moves = config.moves_generators(step)
        own = config.batches_per_step(step) == 2
        if generator_a is None or generator_b is None:
            if own:
                raise ValueError("--step.separate-batches needs images for the generators as well")
            generator_a, generator_b = a, b
        sources = ((generator_a, generator_b), (generator_b, generator_a))
        networks.train()
        self._begin(step)
        judged = []
        for number, (direction, source, target) in enumerate(self._directions(a, b)):
            if moves and not own:
                translated = self._translate(direction, source, target)
                fake = translated.images[: len(source)].detach()
                judged.append(self._discriminator_step(direction, target, fake))
                losses = self._generator_gradients(direction, translated, source, target)
            else:
                with torch.no_grad(), self.precision.autocast():
                    fake = direction.generator(source).images
                judged.append(self._discriminator_step(direction, target, fake))
                if own:
                    pair = sources[number]
                    translated = self._translate(direction, *pair)
                    losses = self._generator_gradients(direction, translated, *pair)
            if moves:
                before = self._generator_losses if number else torch.zeros_like(losses)
                self._generator_losses = before + losses
        if moves:
            self._move_generators()
        sums = torch.stack(judged).sum(dim=0)
        sums[3] /= len(judged)
        return StepLosses(*reduce_mean(torch.cat([sums, self._generator_losses])).unbind())

    def state_dict(self) -> dict[str, Any]:
        """Moments, scales of the losses and the generators' last losses; names are of 0.1."""
        return {
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "judge_optimizers": [one.state_dict() for one in self.discriminator_optimizers],
            "precision": self.precision.state_dict(),
            "judge_precisions": [one.state_dict() for one in self.discriminator_precisions],
            "played": self._generator_losses,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.precision.load_state_dict(state["precision"])
        for one, saved in zip(
            self.discriminator_optimizers, state["judge_optimizers"], strict=True
        ):
            one.load_state_dict(saved)
        for scale, saved in zip(
            self.discriminator_precisions, state["judge_precisions"], strict=True
        ):
            scale.load_state_dict(saved)
        self._generator_losses = state["played"].to(self._generator_losses.device)

    def _directions(self, a: Tensor, b: Tensor) -> list[tuple[_Direction, Tensor, Tensor]]:
        """A to B and B to A, each with its source and its target images."""
        networks = self.networks
        (to_b, to_a), (judge_a, judge_b) = networks.generators(), networks.discriminators()
        (scale_a, scale_b), (adam_a, adam_b) = (
            self.discriminator_precisions,
            self.discriminator_optimizers,
        )
        return [
            (_Direction(to_b, to_a, judge_b, scale_b, adam_b), a, b),
            (_Direction(to_a, to_b, judge_a, scale_a, adam_a), b, a),
        ]

    def _begin(self, step: int) -> None:
        rate = self.schedule.learning_rate(self.config.lr, step)
        for optimizer in (self.generator_optimizer, *self.discriminator_optimizers):
            clear_gradients(optimizer)
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _translate(self, direction: _Direction, source: Tensor, target: Tensor) -> Translated:
        """Source images and target images in one batch, with gradients."""
        with self.precision.autocast():
            return direction.generator(torch.cat([source, target]))

    def _discriminator_step(self, direction: _Direction, real: Tensor, fake: Tensor) -> Tensor:
        """Move one discriminator; returns the first four losses of `StepLosses`."""
        config, discriminator = self.config, direction.discriminator
        require_grad(discriminator, True)
        real, fake = (diffaugment(images, config.augment) for images in (real, fake))
        with direction.precision.autocast():
            both: DiscriminatorOutput = discriminator(
                torch.cat([real, fake.to(real.dtype)]), parts=2
            )
            loss = total_discriminator_loss(config.loss, *both.halves())
            penalty = loss.new_zeros(())
            if config.loss in PENALIZED:
                penalty = gradient_penalty(discriminator, config.loss, real, fake)
            # The mean of both halves, twice: theirs is the sum of the two means.
            quantization = 2.0 * both.quantization_loss.mean()
            total = config.adversarial_weight * (loss + config.penalty_weight * penalty)
            total = total + quantization
        # the penalty's second derivatives, which are IEEE as it is, belong to this backward pass
        with ieee_fp32() if config.loss in PENALIZED else nullcontext():
            direction.precision.backward(total, direction.optimizer)
        average_gradients(discriminator.parameters())
        direction.precision.step(direction.optimizer)
        require_grad(discriminator, False)
        return torch.stack([loss, penalty, quantization, both.codebook_perplexity]).detach()

    def _generator_gradients(
        self, direction: _Direction, translated: Translated, source: Tensor, target: Tensor
    ) -> Tensor:
        """Collect the generators' gradients; returns the last five losses of `StepLosses`.

        The way back and the judgement have graphs of their own, which are gone before the graph
        of the first translation is followed.
        """
        config, number = self.config, len(source)
        leaf = translated.images[:number].detach().requires_grad_()
        with self.precision.autocast():
            cycle = F.l1_loss(direction.back(leaf).images, source)
            weighted = config.cycle_weight * cycle
        self.precision.backward(weighted, self.generator_optimizer)
        with self.precision.autocast():
            judged = direction.discriminator(diffaugment(leaf, config.augment))
            adversarial = total_generator_loss(config.loss, judged)
            quantization = judged.quantization_loss.mean()
            weighted = config.adversarial_weight * adversarial + quantization
        self.precision.backward(weighted, self.generator_optimizer)
        identity = F.l1_loss(translated.images[number:], target)
        cam = cam_loss(translated.cam_logits[:number], translated.cam_logits[number:])
        weighted = config.identity_weight * identity + config.cam_weight * cam
        translated.images.register_hook(lambda gradient: _add_rows(gradient, leaf.grad))
        self.precision.backward(weighted, self.generator_optimizer)
        return torch.stack([adversarial, cycle, identity, cam, quantization]).detach()

    def _move_generators(self) -> None:
        generators = self.networks.generators()
        average_gradients([p for one in generators for p in one.parameters()])
        self.precision.step(self.generator_optimizer)
        for generator in generators:
            generator.clip_rho()


def build_adam(networks: Sequence[nn.Module], config: StepConfig) -> torch.optim.Adam:
    """Adam with the L2 regularization of all kernels as its weight decay: the same gradient."""
    regularized = [kernel for one in networks for kernel in kernels(one)]
    known = set(regularized)
    others = [p for one in networks for p in one.parameters() if p not in known]
    groups = [
        {"params": regularized, "weight_decay": config.l2_weight},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.Adam(groups, config.lr, config.betas, config.adam_eps, fused=True)


def _add_rows(gradient: Tensor, rows: Tensor | None) -> Tensor:
    """``gradient`` with ``rows`` added to its first ones."""
    assert rows is not None
    gradient = gradient.clone()
    gradient[: len(rows)] += rows
    return gradient


PENALIZED = ("wgan-gp", "wgan-lp", "dragan")
DRAGAN_SPREAD = 0.5  # of the noise, in standard deviations of the batch


def discriminator_loss(kind: GanLoss, real: Tensor, fake: Tensor) -> Tensor:
    """D's loss from logits of any shape, without the gradient penalty."""
    if kind == "lsgan":
        return (real - 1.0).square().mean() + fake.square().mean()
    if kind in ("gan", "dragan"):
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    if kind == "hinge":
        return F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(kind: GanLoss, fake: Tensor) -> Tensor:
    """G's loss from D's logits of any shape."""
    if kind == "lsgan":
        return (fake - 1.0).square().mean()
    if kind in ("gan", "dragan"):
        return F.softplus(-fake).mean()
    return -fake.mean()


def total_discriminator_loss(
    kind: GanLoss, real: DiscriminatorOutput, fake: DiscriminatorOutput
) -> Tensor:
    """D's loss summed over local and global logits and both attention heads."""
    pairs = zip(real.all_logits, fake.all_logits, strict=True)
    return torch.stack([discriminator_loss(kind, *pair) for pair in pairs]).sum()


def total_generator_loss(kind: GanLoss, fake: DiscriminatorOutput) -> Tensor:
    """G's loss, likewise."""
    return torch.stack([generator_loss(kind, logits) for logits in fake.all_logits]).sum()


def gradient_penalty(
    discriminator: Callable[..., DiscriminatorOutput], kind: GanLoss, real: Tensor, fake: Tensor
) -> Tensor:
    """Penalty on the gradient's norm between ``real`` and ``fake``, summed over the four logits.

    ``dragan`` takes the neighbourhood of the real images instead of the fakes; ``wgan-lp``
    penalizes norms above 1 only. The dictionaries do not see these images.

    Args:
        discriminator: without gradients of its own, or with.
        kind: ``wgan-gp``, ``wgan-lp`` or ``dragan``.
        real, fake: (B, C, H, W), without gradients.
    """
    if kind == "dragan":
        fake = real + DRAGAN_SPREAD * real.std(correction=0) * torch.rand_like(real)
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(real, fake.to(real.dtype), share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False), ieee_fp32():  # second derivatives in fp32
        judged = discriminator(between, quantize=False)
        penalties = []
        for logits in judged.all_logits:
            (gradient,) = torch.autograd.grad(logits.sum(), between, create_graph=True)
            excess = gradient.flatten(1).norm(dim=1) - 1.0
            if kind == "wgan-lp":
                excess = F.relu(excess)
            penalties.append(excess.square().mean())
        return torch.stack(penalties).sum()


def cam_loss(source: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of a generator's attention head (Eq. 7).

    Args:
        source: logits (B, 2) of images of the domain it translates from, to be high.
        target: of images of the domain it translates to, to be low.
    """
    return F.softplus(-source).mean() + F.softplus(target).mean()


@torch.no_grad()
def l2_penalty(networks: Iterable[nn.Module], weight: float) -> Tensor:
    """``weight`` / 2 times the squared norm of all kernels.

    For logs: in training it is the weight decay of Adam's moments, which is the same gradient.
    """
    norms = torch._foreach_norm([kernel for one in networks for kernel in kernels(one)])
    return 0.5 * weight * torch.stack(norms).square().sum()
