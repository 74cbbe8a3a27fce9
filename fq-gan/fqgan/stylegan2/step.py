"""One training iteration of StyleGAN2: G, its regularizer, D, its regularizer, the average.

Regularizers run every few iterations in updates of their own ("lazy", Sec. 3.1), always in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augment.adaptive import AdaptiveAugment
from ..gan import ModelAverage, average_in_place, require_grad, send_from_first_rank
from ..runtime.distributed import reduce_mean, world_size
from ..runtime.precision import MixedPrecision, clear_gradients, ieee_fp32, safe_sqrt
from .config import StepConfig
from .networks import DiscriminatorOutput, Generator

Labels = Tensor | None
Draw = Callable[[int], tuple[Tensor, Labels]]
Batch = tuple[Tensor, Labels]


class StepLosses(NamedTuple):
    """Means over the last batches and over the ranks; regularizers as last computed.

    Tensors () on the device; whoever reads them waits for them.
    """

    generator: Tensor
    generator_quantization: Tensor
    real: Tensor
    real_quantization: Tensor
    fake: Tensor
    fake_quantization: Tensor
    codebook_perplexity: Tensor  # mean of D's passes on real and generated images
    r1: Tensor  # penalty with its weight
    path_length: Tensor  # mean length, without weight
    skipped: Tensor  # updates of this iteration left out for gradients that are not finite


class GanStep:
    """Owns both optimizers, the average of G and the mean path length; one call per iteration.

    With ``torch.distributed`` running, gradients are averaged over the ranks by one reduction per
    update, so every rank passes its bare networks. Networks start equal and stay equal.

    Args:
        generator, discriminator: networks on their device.
        config: sizes, learning rates, losses.
        precision: fp32 where absent.
        draw: number -> (latents (number, Z), labels (number,), label vectors (number, S) or None);
            standard normal and uniform classes where absent.
        augment: what all images pass through before D, if anything.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        config: StepConfig,
        *,
        precision: MixedPrecision | None = None,
        draw: Draw | None = None,
        augment: AdaptiveAugment | None = None,
    ) -> None:
        self.augment = augment
        self.generator, self.discriminator, self.config = generator, discriminator, config
        self.device = next(generator.parameters()).device
        self.draw = draw or self._draw
        send_from_first_rank(generator, discriminator)
        regularize_d = max(config.r1_weight, config.r2_weight, config.gradient_penalty_weight) > 0
        self.discriminator_every = config.discriminator_every if regularize_d else 0
        self.generator_every = config.generator_every if config.path_length_weight > 0 else 0
        self.generator_optimizer = self._adam(generator, self.generator_every)
        self.discriminator_optimizer = self._adam(discriminator, self.discriminator_every)
        self.updates = {self.generator_optimizer: 0, self.discriminator_optimizer: 0}
        self.set_phase(config.batch_size, config.num_accumulations)
        self.precision = precision or MixedPrecision("fp32", self.device)
        self.precision.prepare(
            [generator, discriminator], [self.generator_optimizer, self.discriminator_optimizer]
        )
        self.average = ModelAverage(generator, 0.0, average_buffers=False)
        self.path_length_mean = torch.zeros((), device=self.device)
        self.last_r1 = torch.zeros((), device=self.device)
        self.last_path_length = torch.zeros((), device=self.device)
        self.skipped = torch.zeros((), device=self.device)

    def _adam(self, network: nn.Module, every: int) -> torch.optim.Optimizer:
        """Adam, corrected for lazy regularization: ``every`` losses count as ``every + 1``."""
        share = every / (every + 1) if every else 1.0
        beta1, beta2 = (beta**share for beta in self.config.betas)
        return torch.optim.Adam(
            network.parameters(), 1e-3, (beta1, beta2), self.config.adam_eps, fused=True
        )

    def set_phase(self, batch_size: int, num_accumulations: int, lr: float | None = None) -> None:
        """Set what a schedule changes.

        Args:
            batch_size: images per forward pass and process.
            num_accumulations: forward passes per update.
            lr: learning rate of both networks; that of the configuration where absent.
        """
        self.batch_size, self.num_accumulations = batch_size, num_accumulations
        config = self.config
        for optimizer, every, own in (
            (self.generator_optimizer, self.generator_every, config.generator_lr),
            (self.discriminator_optimizer, self.discriminator_every, config.discriminator_lr),
        ):
            share = every / (every + 1) if every else 1.0
            for group in optimizer.param_groups:
                group["lr"] = (own if lr is None else lr) * share

    def reset_optimizers(self) -> None:
        """Forget Adam's moments, as when the resolution doubles."""
        for optimizer in self.updates:
            optimizer.state.clear()
            self.updates[optimizer] = 0

    def __call__(
        self, images: Tensor, labels: Labels, step: int, *, lod: float = 0.0
    ) -> StepLosses:
        """Run iteration number ``step`` (from 1).

        Args:
            images: (batch_size * num_accumulations, C, R, R) real ones in [-1, 1].
            labels: (same number,) classes or (same number, S) label vectors; networks without
                labels take no notice.
            step: decides which regularizers are due; all are in the first iteration.
            lod: halvings of the resolution, for networks that grow.
        """
        expected = self.batch_size * self.num_accumulations
        if len(images) != expected:
            raise ValueError(
                f"an iteration takes {expected} real images (batch size x accumulations), "
                f"got {len(images)}"
            )
        self.generator.train()
        self.discriminator.train()
        self.skipped.zero_()
        require_grad(self.discriminator, False)
        require_grad(self.generator, True)
        generator_losses = self._generator_step(lod)
        if _due(self.generator_every, step):
            self._path_length_step(lod)
        self._average(expected * world_size(), step)
        require_grad(self.discriminator, True)
        require_grad(self.generator, False)
        batches = list(self._batches(images, labels))
        discriminator_losses = self._discriminator_step(batches, lod)
        if _due(self.discriminator_every, step):
            self._r1_step(batches, lod)
        if self.augment is not None:
            self.augment.update(expected * world_size())
        means = [*generator_losses, *discriminator_losses, self.last_r1, self.last_path_length]
        shared = reduce_mean(torch.stack(means)).unbind()
        return StepLosses._make([*shared, self.skipped.clone()])

    def _generator_step(self, lod: float) -> list[Tensor]:
        losses = (self._generator_loss(lod) for _ in range(self.num_accumulations))
        return self._update(self.generator, self.generator_optimizer, losses)

    def _path_length_step(self, lod: float) -> None:
        every = self.generator_every
        losses = (self._path_length_loss(lod, every) for _ in range(self.num_accumulations))
        with ieee_fp32():
            self._update(self.generator, self.generator_optimizer, losses)

    def _discriminator_step(self, batches: Sequence[Batch], lod: float) -> list[Tensor]:
        losses = (self._discriminator_loss(*batch, lod) for batch in batches)
        return self._update(self.discriminator, self.discriminator_optimizer, losses)

    def _r1_step(self, batches: Sequence[Batch], lod: float) -> None:
        every = self.discriminator_every
        losses = (self._gradient_penalties(*batch, lod, every) for batch in batches)
        with ieee_fp32():
            self._update(self.discriminator, self.discriminator_optimizer, losses)

    def _update(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        losses: Iterator[tuple[Tensor, list[Tensor]]],
    ) -> list[Tensor]:
        """Step along the mean of ``losses``; returns the values that came with the last one."""
        clear_gradients(optimizer)
        values: list[Tensor] = []
        for loss, parts in losses:
            self.precision.backward(loss / self.num_accumulations, optimizer)
            values = parts
        parameters = list(network.parameters())
        for parameter in parameters:
            # Adam's moments decay without a gradient too, as those of the authors do.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if world_size() > 1:
            average_in_place(gradients)
        if self.config.skip_nonfinite and not self.precision.scaler.is_enabled():
            norms = torch.stack(torch._foreach_norm(gradients))
            bad = (~torch.isfinite(norms).all()).float()
            self.skipped += bad
            optimizer.found_inf = bad  # type: ignore[attr-defined]  # fused Adam heeds it
        for group in optimizer.param_groups:
            # TensorFlow adds epsilon before the correction of the second moment, not after.
            self.updates[optimizer] += 1
            correction = 1.0 - group["betas"][1] ** self.updates[optimizer]
            group["eps"] = self.config.adam_eps / math.sqrt(correction)
        self.precision.step(optimizer)
        return values

    def _generator_loss(self, lod: float) -> tuple[Tensor, list[Tensor]]:
        """G's loss on one batch, with its parts."""
        latents, labels = self.draw(self.batch_size)
        with self.precision.autocast():
            styles = self.generator.training_styles(latents, labels, lod=lod)
            images = self.generator.synthesis(styles, "random", lod)
            judged = self._judge(images, labels, lod)
            loss = GENERATOR_LOSSES[self.config.generator_loss](judged.logits).mean()
            quantization = judged.quantization_loss.mean()
        total = loss + quantization
        if self.config.path_length_weight > 0 and not self.generator_every:
            total = total + self._path_length_loss(lod, 1)[0]
        return total, [loss.detach(), quantization.detach()]

    @torch.enable_grad()
    def _path_length_loss(self, lod: float, factor: int) -> tuple[Tensor, list[Tensor]]:
        """Path length regularization on a smaller batch (Sec. 3.2), in fp32."""
        config = self.config
        latents, labels = self.draw(max(self.batch_size // config.path_length_shrink, 1))
        with torch.autocast(self.device.type, enabled=False), ieee_fp32():
            styles = self.generator.training_styles(latents, labels, lod=lod)
            # One leaf for all layers of a sample, so that gradients are per layer.
            styles = styles.contiguous()
            images = self.generator.synthesis(styles, "random", lod)
            lengths = path_lengths(images, styles, torch.randn_like(images))
            own = lengths.mean()
            length = reduce_mean(own.detach())
            self.path_length_mean.lerp_(length, config.path_length_decay)
            # The mean of this batch is part of the average, and so of the gradient.
            center = self.path_length_mean + config.path_length_decay * (own - own.detach())
            penalty = (lengths - center).square().mean()
        self.last_path_length = length
        return penalty * (config.path_length_weight * factor), []

    def _discriminator_loss(
        self, real: Tensor, labels: Labels, lod: float
    ) -> tuple[Tensor, list[Tensor]]:
        """D's loss on one batch, with its parts; real images before generated ones."""
        config = self.config
        latents, fake_labels = self.draw(len(real))
        with self.precision.autocast():
            with torch.no_grad():
                styles = self.generator.training_styles(latents, fake_labels, lod=lod)
                fake = self.generator.synthesis(styles, "random", lod)
            seen = self._judge(real, labels, lod)
            made = self._judge(fake, fake_labels, lod)
            if self.augment is not None:
                self.augment.observe(seen.logits)
            loss = DISCRIMINATOR_LOSSES[config.discriminator_loss](seen.logits, made.logits)
            parts = [
                loss.real.mean(), seen.quantization_loss.mean(),
                loss.fake.mean(), made.quantization_loss.mean(),
            ]  # fmt: skip
        total = torch.stack(parts).sum()
        if config.drift_weight > 0:
            total = total + config.drift_weight * seen.logits.square().mean()
        if not self.discriminator_every and self._regularizes_d:
            total = total + self._gradient_penalties(real, labels, lod, 1)[0]
        perplexity = (seen.codebook_perplexity + made.codebook_perplexity) / 2
        return total, [*(part.detach() for part in parts), perplexity]

    @property
    def _regularizes_d(self) -> bool:
        config = self.config
        return max(config.r1_weight, config.r2_weight, config.gradient_penalty_weight) > 0

    def _gradient_penalties(
        self, real: Tensor, labels: Labels, lod: float, factor: int
    ) -> tuple[Tensor, list[Tensor]]:
        """R1 and, where asked for, R2 and the gradient penalty, in fp32; no dictionary moves."""
        config = self.config
        penalty = torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, enabled=False), ieee_fp32():
            if config.r1_weight > 0:
                penalty = penalty + self._squared_gradient(real, labels, lod) * (
                    config.r1_weight / 2
                )
            self.last_r1 = penalty.detach()
            if config.r2_weight > 0 or config.gradient_penalty_weight > 0:
                latents, fake_labels = self.draw(len(real))
                with torch.no_grad():
                    styles = self.generator.training_styles(latents, fake_labels, lod=lod)
                    fake = self.generator.synthesis(styles, "random", lod)
                if config.r2_weight > 0:
                    slope = self._squared_gradient(fake, fake_labels, lod)
                    penalty = penalty + slope * (config.r2_weight / 2)
                if config.gradient_penalty_weight > 0:
                    excess = gradient_penalty(
                        lambda x: self._scores(x, fake_labels, lod), real.float(), fake.float()
                    )
                    penalty = penalty + excess.mean() * config.gradient_penalty_weight
        return penalty * factor, []

    def _squared_gradient(self, images: Tensor, labels: Labels, lod: float) -> Tensor:
        images = images.detach().float().requires_grad_()
        return squared_gradient(self._scores(images, labels, lod), images).mean()

    def _scores(self, images: Tensor, labels: Labels, lod: float) -> Tensor:
        return self._judge(images, labels, lod, quantize=False).logits

    def _judge(
        self, images: Tensor, labels: Labels, lod: float, *, quantize: bool = True
    ) -> DiscriminatorOutput:
        """D on images, augmented where they are to be."""
        if self.augment is not None:
            images = self.augment(images)
        judged: DiscriminatorOutput = self.discriminator(images, labels, lod=lod, quantize=quantize)
        return judged

    def _batches(self, images: Tensor, labels: Labels) -> Iterator[tuple[Tensor, Labels]]:
        for start in range(0, len(images), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield images[part], None if labels is None else labels[part]

    def _draw(self, number: int) -> tuple[Tensor, Labels]:
        latents = torch.randn(number, self.generator.latent_dim, device=self.device)
        size = self.generator.label_size
        return latents, torch.randint(size, (number,), device=self.device) if size else None

    @torch.no_grad()
    def _average(self, images: int, step: int) -> None:
        """Move the average of G by an iteration of ``images``, before D's passes move the style."""
        half_life = 1000.0 * self.config.average_kimg
        self.average.decay = 0.5 ** (images / half_life) if half_life > 0 else 0.0
        self.average.update(self.generator, step)

    def state_dict(self) -> dict[str, Any]:
        """Optimizers and running values; networks and their average are parts of their own."""
        return {
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "updates": list(self.updates.values()),
            "path_length_mean": self.path_length_mean,
            "last_r1": self.last_r1,
            "last_path_length": self.last_path_length,
            **({"augment": self.augment.state_dict()} if self.augment is not None else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        self.updates = dict(zip(self.updates, state["updates"], strict=True))
        for name in ("path_length_mean", "last_r1", "last_path_length"):
            setattr(self, name, state[name].to(self.device))
        if self.augment is not None and "augment" in state:
            self.augment.load_state_dict(state["augment"])


def _due(every: int, step: int) -> bool:
    return every > 0 and (step - 1) % every == 0


class AdversarialLoss(NamedTuple):
    """D's loss in its two parts."""

    real: Tensor  # (B,)
    fake: Tensor  # (B,)


def logistic_discriminator_loss(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """Cross-entropy of D from scores (B,) of real and of generated images."""
    return AdversarialLoss(F.softplus(-real), F.softplus(fake))


def wasserstein_discriminator_loss(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """WGAN's critic loss; its Lipschitz constraint is `gradient_penalty`."""
    return AdversarialLoss(-real, fake)


def nonsaturating_generator_loss(fake: Tensor) -> Tensor:
    """-log sigmoid of the scores (B,) of generated images."""
    return F.softplus(-fake)


def saturating_generator_loss(fake: Tensor) -> Tensor:
    """The minimax loss log(1 - sigmoid), whose gradient vanishes where D is sure."""
    return -F.softplus(fake)


def wasserstein_generator_loss(fake: Tensor) -> Tensor:
    """WGAN's loss of G."""
    return -fake


DISCRIMINATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], AdversarialLoss]] = {
    "logistic": logistic_discriminator_loss,
    "wgan": wasserstein_discriminator_loss,
}
GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic_ns": nonsaturating_generator_loss,
    "logistic": saturating_generator_loss,
    "wgan": wasserstein_generator_loss,
}


def squared_gradient(scores: Tensor, images: Tensor) -> Tensor:
    """Squared norm (B,) of the gradient of each image's score: R1 at real, R2 at generated ones.

    The penalty is gamma / 2 times this (Mescheder et al., ICML 2018).

    Args:
        scores: (B,), computed from ``images``.
        images: (B, C, H, W) that require gradients.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3))


def gradient_penalty(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """WGAN-GP's (norm of the gradient - 1)^2 (B,) at random points between pairs of images."""
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    mixed = torch.lerp(real, fake, share).requires_grad_()
    norms = safe_sqrt(squared_gradient(score(mixed), mixed))
    return (norms - 1.0).square()


def path_lengths(images: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """How far images move when styles do: |J^T y| (B,), mean over the layers (Sec. 3.2).

    Args:
        images: (B, C, H, W), computed from ``styles``.
        styles: (B, L, W) that require gradients.
        noise: (B, C, H, W), standard normal; it is divided by the root of H W.
    """
    scale = (images.shape[2] * images.shape[3]) ** -0.5
    (gradient,) = torch.autograd.grad((images * noise).sum() * scale, styles, create_graph=True)
    return safe_sqrt(gradient.square().sum(dim=2).mean(dim=1))
