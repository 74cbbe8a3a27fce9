"""From an image to the style and noise that make it (Karras et al., CVPR 2020, Sec. 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import at_least, option, positive
from ..metrics.features import FeatureExtractor
from .generator import Generator
from .sampling import noise_inputs

# Images (B, 3, H, W) in [-1, 1], generated and wanted -> (B,), 0 where they are alike.
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ProjectionConfig:
    """How an image is projected; the defaults are the authors'."""

    num_steps: int = 1000
    """Updates of style and noise."""
    style_samples: int = 10_000
    """Latents behind the mean and the spread of styles."""
    lr: float = 0.1
    """Learning rate between its ramps."""
    rampup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    rampdown: float = 0.25
    """Share of the steps in which it falls to zero."""
    style_noise: float = 0.05
    """Noise on the style, relative to the spread of styles, at first."""
    noise_rampdown: float = 0.75
    """Share of the steps after which the style has no noise any more."""
    regularization: float = 1e5
    """Weight of the auto-correlation of the noise maps."""
    seed: int = 123
    """Of the latents behind the statistics, and of the noise."""

    def __post_init__(self) -> None:
        at_least(self, "projection", num_steps=1, style_samples=1, style_noise=0, regularization=0)
        positive(self, "projection", "lr")
        for name in ("rampup", "rampdown", "noise_rampdown"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(
                    f"{option(name, 'projection')} must be in (0, 1], got {getattr(self, name)}"
                )


class Moment(NamedTuple):
    """The state of a projection after ``step`` updates."""

    step: int
    style: Tensor  # (B, 1, W), the same for all layers
    noise: list[Tensor]  # one map (B, 1, h, w) per layer
    distance: Tensor  # (B,)
    regularization: Tensor  # ()


def project(
    generator: Generator,
    target: Tensor,
    distance: Distance,
    config: ProjectionConfig | None = None,
    labels: Tensor | None = None,
) -> Iterator[Moment]:
    """Find style and noise for ``target`` (B, 3, R, R), in [-1, 1]; yields after every step.

    Args:
        generator: in eval mode, with parameters that need no gradient.
        target: images of the generator's resolution.
        distance: compares generated and wanted images, both at most 256 pixels wide.
        config: the authors' where absent.
        labels: (1,) class of the latents behind the mean style, for conditional generators.
    """
    config = config or ProjectionConfig()
    device = target.device
    random = torch.Generator().manual_seed(config.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(device)

    mean, spread = style_statistics(generator, config.style_samples, config.seed, labels)
    wanted = at_most_256(target)
    style = mean.expand(len(target), 1, -1).clone().requires_grad_()
    noise = [
        normal(len(target), *buffer.shape[1:]).requires_grad_()
        for buffer in noise_inputs(generator)
    ]
    optimizer = torch.optim.Adam([style, *noise], lr=config.lr)
    for step in range(config.num_steps):
        done = step / config.num_steps
        strength = spread * config.style_noise * max(0.0, 1 - done / config.noise_rampdown) ** 2
        for group in optimizer.param_groups:
            group["lr"] = config.lr * ramp(done, config.rampup, config.rampdown)
        shaken = style + normal(*style.shape) * strength
        images = generator.synthesis(shaken.expand(-1, generator.num_layers, -1), noise)
        found = distance(at_most_256(images), wanted)
        correlation = noise_correlation(noise)
        optimizer.zero_grad(set_to_none=True)
        (found.sum() + config.regularization * correlation).backward()
        optimizer.step()
        with torch.no_grad():
            for maps in noise:
                maps -= maps.mean(dim=(1, 2, 3), keepdim=True)
                maps *= maps.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
        yield Moment(
            step + 1, style.detach(), [maps.detach() for maps in noise],
            found.detach(), correlation.detach(),
        )  # fmt: skip


@torch.no_grad()
def rendered(generator: Generator, moment: Moment) -> Tensor:
    """The images (B, 3, R, R) of a projection so far."""
    styles = moment.style.expand(-1, generator.num_layers, -1)
    return generator.synthesis(styles, moment.noise)


@torch.no_grad()
def style_statistics(
    generator: Generator, count: int, seed: int, labels: Tensor | None = None
) -> tuple[Tensor, float]:
    """Mean (1, W) and spread of the styles of ``count`` latents of ``RandomState(seed)``.

    The spread is the root of the mean squared distance from the mean style.
    """
    device = generator.style_average.device
    latents = np.random.RandomState(seed).randn(count, generator.latent_dim)
    parts = [
        generator.styles(part.to(device), None if labels is None else labels.expand(len(part)))[
            :, 0
        ]
        for part in torch.from_numpy(latents).float().split(1000)
    ]
    styles = torch.cat(parts)
    mean = styles.mean(dim=0, keepdim=True)
    return mean, float((styles - mean).square().sum(dim=1).mean().sqrt())


def ramp(done: float, rampup: float, rampdown: float) -> float:
    """Factor of the learning rate after a share ``done`` of the steps: linear up, cosine down."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / rampdown))
    return down * min(1.0, done / rampup)


def noise_correlation(noise: Sequence[Tensor]) -> Tensor:
    """Squared correlation of maps (B, 1, h, w) with themselves, moved by one pixel; scalar.

    Every map is also looked at in halved sizes, down to 8; without this term the image hides in
    the noise.
    """
    total = noise[0].new_zeros(())
    for maps in noise:
        while True:
            for axis in (2, 3):
                alike = (maps * maps.roll(1, dims=axis)).mean(dim=(1, 2, 3))
                total = total + alike.square().sum()
            if maps.shape[-1] <= 8:
                break
            maps = F.avg_pool2d(maps, 2)
    return total


def at_most_256(images: Tensor) -> Tensor:
    """Average pixels of images (B, 3, R, R) until they are at most 256 wide."""
    factor = images.shape[-1] // 256
    return F.avg_pool2d(images, factor) if factor > 1 else images


def feature_distance(extractor: FeatureExtractor, pixel_weight: float = 1.0) -> Distance:
    """Squared distance of an extractor's features, relative to their size, plus that of pixels.

    A stand-in for LPIPS where its weights are not at hand. Deviation: the authors use LPIPS.
    """

    def distance(images: Tensor, wanted: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            ours, theirs = (extractor.extract(part.float()).pool for part in (images, wanted))
        size = theirs.square().mean(dim=1).clamp(min=1e-8)
        features = (ours - theirs).square().mean(dim=1) / size
        return features + pixel_weight * (images - wanted).square().mean(dim=(1, 2, 3))

    return distance
