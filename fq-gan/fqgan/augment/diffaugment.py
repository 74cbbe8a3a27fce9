"""DiffAugment (Zhao, Liu, Lin, Zhu, Han: "Differentiable Augmentation for Data-Efficient GAN
Training", NeurIPS 2020): real and generated images pass through it before the discriminator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Policy = Literal["color", "translation", "cutout"]

BRIGHTNESS = 0.5  # at most so much is added or taken, of a range of 2
SHIFT = 0.125  # of the side
CUTOUT = 0.5  # side of the square, of the image's


def diffaugment(images: Tensor, policies: Sequence[Policy]) -> Tensor:
    """``images`` (B, C, H, W) in [-1, 1], each augmented by its own draws, in fp32.

    Without a policy they come back as they are.
    """
    for policy in policies:
        with torch.autocast(images.device.type, enabled=False):
            images = POLICIES[policy](images.float())
    return images


def change_color(images: Tensor) -> Tensor:
    """Another brightness (+- 0.5), saturation (0 to 2) and contrast (0.5 to 1.5)."""
    images = images + (_uniform(images) - 0.5) * 2 * BRIGHTNESS
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * 2 * _uniform(images)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (_uniform(images) + 0.5)


def translate(images: Tensor) -> Tensor:
    """Shifted by up to an eighth of the side; what comes in is 0."""
    height, width = images.shape[2:]
    rows, most_y = _shifted(images, height)
    columns, most_x = _shifted(images, width)
    padded = F.pad(images, [most_x, most_x, most_y, most_y])
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return padded[batch, channel, rows[:, None, :, None], columns[:, None, None, :]]


def cut_out(images: Tensor) -> Tensor:
    """With a square of half of the side set to 0, anywhere, also partly outside."""
    outside = []
    for size in images.shape[2:]:
        side = int(size * CUTOUT + 0.5)
        centre = torch.randint(0, size + (1 - side % 2), (len(images), 1), device=images.device)
        place = torch.arange(size, device=images.device) - (centre - side // 2)  # (B, size)
        outside.append((place < 0) | (place >= side))
    kept = outside[0][:, None, :, None] | outside[1][:, None, None, :]
    return images * kept


POLICIES: dict[Policy, Callable[[Tensor], Tensor]] = {
    "color": change_color,
    "translation": translate,
    "cutout": cut_out,
}


def check_policies(policies: Sequence[str]) -> None:
    """Raise ``ValueError`` for a policy that there is not."""
    for policy in policies:
        if policy not in POLICIES:
            raise ValueError(f"--step.augment {policy}: choose among {', '.join(POLICIES)}")


def _uniform(images: Tensor) -> Tensor:
    """A number of [0, 1) for each image: (B, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, device=images.device)


def _shifted(images: Tensor, size: int) -> tuple[Tensor, int]:
    """Places (B, size) along an edge that is padded by the second result."""
    most = int(size * SHIFT + 0.5)
    shift = torch.randint(-most, most + 1, (len(images), 1), device=images.device)
    return torch.arange(size, device=images.device) + shift + most, most
