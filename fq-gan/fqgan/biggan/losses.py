"""Adversarial losses and orthogonal regularization."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..spectral_norm import as_matrix


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
