"""One training iteration of FQ-BigGAN: steps of D, a step of G, an update of the average."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augment.diffaugment import diffaugment
from ..gan import (
    ModelAverage,
    average_gradients,
    average_in_place,
    require_grad,
    send_from_first_rank,
)
from ..runtime.distributed import reduce_mean, world_size
from ..runtime.precision import MixedPrecision, clear_gradients
from ..spectral_norm import as_matrix
from .config import StepConfig
from .networks import (
    DeepDiscriminator,
    DeepGenerator,
    Discriminator,
    DiscriminatorOutput,
    Generator,
)

Draw = Callable[[int], tuple[Tensor, Tensor]]


class StepLosses(NamedTuple):
    """The last batch of D's last step and of G's step, means over the ranks.

    Tensors () on the device; whoever reads them waits for them.
    """

    generator: Tensor
    generator_quantization: Tensor
    real: Tensor
    real_quantization: Tensor
    fake: Tensor
    fake_quantization: Tensor
    codebook_perplexity: Tensor  # D's last batch, last quantized layer


class GanStep:
    """Owns both optimizers and the average of G; call it once per iteration.

    With ``torch.distributed`` running, gradients are averaged over the ranks by one reduction per
    update, so every rank passes its bare networks: the hooks of DistributedDataParallel expect a
    gradient from every backward pass, and here D gets none in G's step. Networks start equal (rank
    0's weights are sent out) and stay equal.

    Args:
        generator, discriminator: networks on their device, D in the state for training.
        config: sizes, learning rates, losses.
        precision: fp32 where absent.
        draw: number -> (z (number, latent_dim), labels (number,)); standard normal and uniform
            where absent, from torch's global random state.
    """

    def __init__(
        self,
        generator: Generator | DeepGenerator,
        discriminator: Discriminator | DeepDiscriminator,
        config: StepConfig,
        *,
        precision: MixedPrecision | None = None,
        draw: Draw | None = None,
    ) -> None:
        self.generator, self.discriminator, self.config = generator, discriminator, config
        self.device = next(generator.parameters()).device
        self.draw = draw or self._draw
        send_from_first_rank(generator, discriminator)
        self.generator_optimizer = torch.optim.Adam(
            generator.parameters(), config.generator_lr, config.generator_betas, config.adam_eps,
            fused=True,
        )  # fmt: skip
        self.discriminator_optimizer = torch.optim.Adam(
            discriminator.parameters(), config.discriminator_lr, config.discriminator_betas,
            config.adam_eps, fused=True,
        )  # fmt: skip
        self.precision = precision or MixedPrecision("fp32", self.device)
        # Changes anything with apex only, which patches networks and optimizers in place.
        self.precision.prepare(
            [generator, discriminator], [self.generator_optimizer, self.discriminator_optimizer]
        )
        self.average = ModelAverage(generator, config.ema_decay, config.ema_start)

    def use_options(self, lrs: tuple[float, float] | None = None) -> None:
        """Give the optimizers this configuration's settings, not those of a loaded state.

        ``lrs`` are the learning rates of G and D, where a schedule has changed them.
        """
        config = self.config
        generator_lr, discriminator_lr = lrs or (config.generator_lr, config.discriminator_lr)
        for optimizer, lr, betas in (
            (self.generator_optimizer, generator_lr, config.generator_betas),
            (self.discriminator_optimizer, discriminator_lr, config.discriminator_betas),
        ):
            for group in optimizer.param_groups:
                group.update(lr=lr, betas=betas, eps=config.adam_eps)

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> StepLosses:
        """Run iteration number ``step`` (from 1) on ``config.images_per_step`` real images.

        Args:
            images: (images_per_step, 3, R, R) in [-1, 1].
            labels: (images_per_step,).
        """
        config = self.config
        if len(images) != config.images_per_step:
            raise ValueError(
                f"an iteration takes {config.images_per_step} real images (batch size x D steps x "
                f"accumulations), got {len(images)}"
            )
        self.generator.train()
        self.discriminator.train()
        batches = iter(
            zip(images.split(config.batch_size), labels.split(config.batch_size), strict=True)
        )
        judged = []
        require_grad(self.discriminator, True)
        require_grad(self.generator, False)
        for _ in range(config.num_d_steps):
            clear_gradients(self.discriminator_optimizer)
            for _ in range(config.num_d_accumulations):
                judged = self._discriminator_loss(*next(batches))
            self._update(
                self.discriminator.parameters(), self.discriminator_optimizer,
                config.discriminator_ortho,
            )  # fmt: skip
        require_grad(self.discriminator, False)
        require_grad(self.generator, True)
        clear_gradients(self.generator_optimizer)
        for _ in range(config.num_g_accumulations):
            generator_losses = self._generator_loss()
        regularized = [p for n, p in self.generator.named_parameters() if n != "shared.weight"]
        self._update(
            self.generator.parameters(), self.generator_optimizer, config.generator_ortho,
            regularized,
        )  # fmt: skip
        _average_norm_statistics(self.generator)
        self.average.update(self.generator, step)
        return StepLosses(*reduce_mean(torch.stack([*generator_losses, *judged])).unbind())

    def _discriminator_loss(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        config = self.config
        z, fake_labels = self.draw(config.fake_batch_size)
        z, fake_labels = z[: len(images)], fake_labels[: len(images)]
        with self.precision.autocast():
            with torch.no_grad():
                generated = self.generator(z, fake_labels)
            fake, real, perplexity = self._judge(generated, fake_labels, images, labels)
            loss = DISCRIMINATOR_LOSSES[config.loss](real.logits, fake.logits)
            real_loss, fake_loss = real.quantization_loss.mean(), fake.quantization_loss.mean()
            total = (loss.real + loss.fake + real_loss + fake_loss) / config.num_d_accumulations
        self.precision.backward(total, self.discriminator_optimizer)
        values = (loss.real, real_loss, loss.fake, fake_loss, perplexity)
        return [value.detach() for value in values]

    def _judge(
        self, generated: Tensor, fake_labels: Tensor, images: Tensor, labels: Tensor
    ) -> tuple[DiscriminatorOutput, DiscriminatorOutput, Tensor]:
        """D on both halves: in one pass, or (``split_d``) in two, generated images first."""
        generated, images = (diffaugment(one, self.config.augment) for one in (generated, images))
        if self.config.split_d:
            fake = self.discriminator(generated, fake_labels)
            real = self.discriminator(images, labels)
            return fake, real, real.codebook_perplexity
        both = torch.cat([generated.to(images.dtype), images])
        judged = self.discriminator(both, torch.cat([fake_labels, labels]))
        perplexity = judged.codebook_perplexity
        parts = zip(judged.logits.chunk(2), judged.quantization_loss.chunk(2), strict=True)
        fake, real = (DiscriminatorOutput(*part, perplexity) for part in parts)
        return fake, real, perplexity

    def _generator_loss(self) -> list[Tensor]:
        config = self.config
        z, labels = self.draw(config.fake_batch_size)
        with self.precision.autocast():
            images = diffaugment(self.generator(z, labels), config.augment)
            judged = self.discriminator(images, labels)
            loss = GENERATOR_LOSSES[config.loss](judged.logits)
            quantization_loss = judged.quantization_loss.mean()
            total = (loss + quantization_loss) / config.num_g_accumulations
        self.precision.backward(total, self.generator_optimizer)
        return [loss.detach(), quantization_loss.detach()]

    def _update(
        self,
        parameters: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        ortho: float,
        regularized: Iterable[nn.Parameter] | None = None,
    ) -> None:
        parameters = list(parameters)
        average_gradients(parameters)
        if ortho > 0.0:
            self.precision.scaler.unscale_(optimizer)
            chosen = parameters if regularized is None else regularized
            add_orthogonal_gradient(chosen, ortho, self.config.ortho_variant)
        self.precision.step(optimizer)

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        z = torch.randn(number, self.generator.latent_dim, device=self.device)
        labels = torch.randint(self.generator.num_classes, (number,), device=self.device)
        return z, labels


def _average_norm_statistics(network: nn.Module) -> None:
    """Mean of the running moments over the ranks, whose batches differ; keeps the ranks equal."""
    if world_size() > 1:
        average_in_place([b for n, b in network.named_buffers() if "stored_" in n])


class AdversarialLoss(NamedTuple):
    """D's loss in its two parts, means over the batch."""

    real: Tensor  # ()
    fake: Tensor  # ()


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """Hinge loss of D from logits (B,) of real and of generated images."""
    return AdversarialLoss(F.relu(1.0 - real).mean(), F.relu(1.0 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Loss of G from D's logits (B,) of generated images; a scalar."""
    return -fake.mean()


def dcgan_discriminator_loss(real: Tensor, fake: Tensor) -> AdversarialLoss:
    """Binary cross-entropy of D from logits (B,) of real and of generated images."""
    return AdversarialLoss(F.softplus(-real).mean(), F.softplus(fake).mean())


def dcgan_generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss of G from D's logits (B,) of generated images; a scalar."""
    return F.softplus(-fake).mean()


DISCRIMINATOR_LOSSES = {"hinge": hinge_discriminator_loss, "dcgan": dcgan_discriminator_loss}
GENERATOR_LOSSES = {"hinge": hinge_generator_loss, "dcgan": dcgan_generator_loss}


@torch.no_grad()
def add_orthogonal_gradient(
    parameters: Iterable[Tensor],
    weight: float,
    variant: Literal["modified", "default"] = "modified",
) -> None:
    """Add the gradient of orthogonal regularization to ``.grad`` (Eq. 3 of BigGAN).

    With W the parameter as (outputs, rest): ``modified`` 2 (W W^T * (1 - I)) W, which leaves the
    norms of the rows alone; ``default`` 2 (W W^T - I) W. Vectors and scalars are skipped.
    """
    for parameter in parameters:
        if parameter.ndim < 2 or parameter.grad is None:
            continue
        matrix = as_matrix(parameter)
        # The smaller of the two Gram matrices: an embedding can have very many rows.
        if matrix.shape[0] <= matrix.shape[1]:
            product = (matrix @ matrix.t()) @ matrix
        else:
            product = matrix @ (matrix.t() @ matrix)
        diagonal = matrix.square().sum(dim=1, keepdim=True) if variant == "modified" else 1.0
        gradient = as_matrix(parameter.grad)
        if parameter.grad.stride() != parameter.stride():
            raise ValueError("orthogonal regularization needs gradients laid out as the weights")
        gradient.add_(product - diagonal * matrix, alpha=2.0 * weight)
