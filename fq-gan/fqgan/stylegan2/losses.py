"""Losses and regularizers of StyleGAN and its relatives.

Losses are functions of D's scores (B,) and return (B,), so that quantization losses can be added
per image. Regularizers differentiate scores or images and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


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
    norms = squared_gradient(score(mixed), mixed).sqrt()
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
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()
