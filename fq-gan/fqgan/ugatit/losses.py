"""Losses of U-GAT-IT (Kim et al., ICLR 2020, Eq. 4 to 8); all are scalars, means over the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import GanLoss
from .discriminator import Judged
from .layers import kernels

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


def judges_loss(kind: GanLoss, real: Judged, fake: Judged) -> Tensor:
    """D's loss summed over local and global logits and both attention heads."""
    pairs = zip(real.all_logits, fake.all_logits, strict=True)
    return torch.stack([discriminator_loss(kind, *pair) for pair in pairs]).sum()


def deceivers_loss(kind: GanLoss, fake: Judged) -> Tensor:
    """G's loss, likewise."""
    return torch.stack([generator_loss(kind, logits) for logits in fake.all_logits]).sum()


def gradient_penalty(
    judge: Callable[..., Judged], kind: GanLoss, real: Tensor, fake: Tensor
) -> Tensor:
    """Penalty on the gradient's norm between ``real`` and ``fake``, summed over the four logits.

    ``dragan`` takes the neighbourhood of the real images instead of the fakes; ``wgan-lp``
    penalizes norms above 1 only. The dictionaries do not see these images.

    Args:
        judge: the discriminator.
        kind: ``wgan-gp``, ``wgan-lp`` or ``dragan``.
        real, fake: (B, C, H, W), without gradients.
    """
    if kind == "dragan":
        fake = real + DRAGAN_SPREAD * real.std(correction=0) * torch.rand_like(real)
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = torch.lerp(real, fake.to(real.dtype), share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):  # second derivatives in fp32
        judged = judge(between, quantize=False)
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
