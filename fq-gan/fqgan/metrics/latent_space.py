"""Measures of a latent space: path lengths by LPIPS, linear separability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..runtime import distributed
from ..runtime.precision import ieee_fp32, safe_sqrt
from ..runtime.weight_files import read_weight_file
from .networks import (
    MEAN,
    SHA256,
    STAGES,
    STD,
    URL,
    VGG16,
    cached_file,
    expect_torch_file,
    load_vgg16,
)

COMPARED_SIZE = 256
"""Larger images are averaged down to about this size."""


@dataclass(frozen=True)
class PathLengthVariant:
    """Along which paths, and on which part of the image."""

    space: Literal["z", "w"]
    """Latents are interpolated on the sphere, styles linearly."""
    sampling: Literal["full", "end"]
    """Anywhere on the path, or at its beginning."""
    crop: bool = True
    """Compare the face in the middle of an aligned portrait."""
    epsilon: float = 1e-4
    """Step along the path, whose whole length is 1."""


VARIANTS = {
    "ppl_zfull": PathLengthVariant("z", "full"),
    "ppl_wfull": PathLengthVariant("w", "full"),
    "ppl_zend": PathLengthVariant("z", "end"),
    "ppl_wend": PathLengthVariant("w", "end"),
    "ppl2_wend": PathLengthVariant("w", "end", crop=False),
}


class RobustMean(NamedTuple):
    low: float  # first percentile
    high: float  # 99th percentile
    mean: float  # of what lies between, ends included


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The point at ``t`` on the straight line from ``a`` to ``b``; ``t`` broadcasts."""
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The unit vector (B, Z) at ``t`` (B, 1) on the arc from ``a`` to ``b`` (B, Z)."""
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    cosine = (a * b).sum(dim=-1, keepdim=True)
    angle = t * torch.acos(cosine.clamp(-1, 1))
    across = F.normalize(b - cosine * a, dim=-1)
    return F.normalize(a * torch.cos(angle) + across * torch.sin(angle), dim=-1)


def robust_mean(distances: Tensor) -> RobustMean:
    """Mean of ``distances`` (N,) without the lowest and the highest hundredth."""
    values = distances.double().cpu().numpy()
    low = np.percentile(values, 1, method="lower")
    high = np.percentile(values, 99, method="higher")
    kept = values[(values >= low) & (values <= high)]
    return RobustMean(float(low), float(high), float(kept.mean()))


def path_length(
    variant: PathLengthVariant,
    *,
    draw_latents: Callable[[int], Tensor],
    map_latents: Callable[[Tensor], Tensor],
    synthesize: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    num_pairs: int = 50_000,
    batch_size: int = 8,
) -> RobustMean:
    """Mean perceptual distance per squared step.

    Args:
        variant: see `VARIANTS`.
        draw_latents: number n to latents (n, Z), different ones on every process.
        map_latents: latents to styles (n, L, W); called for both ends of the same n paths in
            turn, which must have the same labels, if any.
        synthesize: styles to images (n, C, R, R) in [-1, 1], with the same noise every time.
        distance: two batches of images (n, 3, H, W) to distances (n,), such as `LPIPS`.
        num_pairs: pairs of images, over all processes.
        batch_size: pairs at a time.

    Raises:
        ValueError: there are too few pairs for percentiles.
    """
    if num_pairs < 2:
        raise ValueError(f"a path length needs at least 2 pairs, got {num_pairs}")
    share, found = -(-num_pairs // distributed.world_size()), []
    with torch.no_grad():
        for start in range(0, share, batch_size):
            count = min(batch_size, share - start)
            pair = _pair(variant, count, draw_latents, map_latents)
            first, second = (comparable_part(synthesize(w), variant.crop) for w in pair)
            found.append(distance(first, second).double().cpu() / variant.epsilon**2)
    parts = distributed.gather_objects(torch.cat(found))
    return robust_mean(torch.cat(parts)[:num_pairs])


def _pair(
    variant: PathLengthVariant,
    count: int,
    draw_latents: Callable[[int], Tensor],
    map_latents: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Styles at two neighbouring points of each of ``count`` paths."""
    start, end = draw_latents(count), draw_latents(count)
    t = torch.zeros(count, 1, device=start.device)
    if variant.sampling == "full":
        t = torch.rand(count, 1, device=start.device)
    following = t + variant.epsilon
    if variant.space == "z":
        return map_latents(slerp(start, end, t)), map_latents(slerp(start, end, following))
    first, last = map_latents(start), map_latents(end)
    return lerp(first, last, t[:, None]), lerp(first, last, following[:, None])


def comparable_part(images: Tensor, crop: bool) -> Tensor:
    """What of ``images`` (B, C, R, R) is compared: cut out, averaged down, with three channels."""
    if crop:  # rows 3/8 to 7/8, columns 2/8 to 6/8: the face
        eighth = images.shape[2] // 8
        images = images[:, :, eighth * 3 : eighth * 7, eighth * 2 : eighth * 6]
    factor = images.shape[2] // COMPARED_SIZE
    if factor > 1:
        images = F.avg_pool2d(images, factor)
    return images.expand(-1, 3, -1, -1)


HEADS_URL = (
    "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/vgg.pth"
)
FILES = {
    URL: SHA256,
    HEADS_URL: "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}
"""What LPIPS consists of: address -> sha256."""


class LPIPS(nn.Module):
    """Distance of two images: weighted squared differences of normalized features of five stages.

    Args:
        network: VGG-16.
        heads: five vectors, weights of the channels, one for each stage.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: VGG16, heads: list[Tensor]) -> None:
        super().__init__()
        self.network = network
        for i, head in enumerate(heads):
            self.register_buffer(f"head{i}", head.reshape(-1).float())
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Per stage (B, C, H', W') of ``images`` (B, 3, H, W) in [-1, 1], of length 1 along C."""
        with torch.autocast(images.device.type, enabled=False), ieee_fp32():
            normalized = ((images.float() + 1) / 2 - self.mean) / self.std
            return [
                x / (safe_sqrt(x.square().sum(dim=1, keepdim=True)) + 1e-10)
                for x in self.network.stages(normalized)
            ]

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distances (B,) of two results of `features`."""
        total = first[0].new_zeros(len(first[0]))
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            difference = (a - b).square().mean(dim=(2, 3))  # (B, C)
            total = total + difference @ self.get_buffer(f"head{i}")
        return total

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,) of images (B, 3, H, W) in [-1, 1]; can be differentiated."""
        return self.compare(self.features(first), self.features(second))


def load_lpips(vgg: str | Path = "", heads: str | Path = "") -> LPIPS:
    """LPIPS v0.1 from local files; those that are not named are taken from the cache.

    Args:
        vgg: VGG-16 of torchvision.
        heads: ``vgg.pth`` of the LPIPS repository: ``linN.model.1.weight`` (1, C, 1, 1).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one holds something else.
    """
    network, heads = load_vgg16(vgg, dense=False), heads or cached_file(HEADS_URL)
    expect_torch_file(heads, HEADS_URL)
    state = read_weight_file(heads)
    try:
        weights = [state[f"lin{i}.model.1.weight"] for i in range(len(STAGES))]
    except (KeyError, TypeError):
        raise ValueError(
            f"{heads} does not hold the heads of LPIPS on VGG-16; fetch {HEADS_URL}"
        ) from None
    sizes = [weight.numel() for weight in weights]
    if sizes != network.stage_widths:
        raise ValueError(f"{heads} has heads for {sizes} channels, not {network.stage_widths}")
    return LPIPS(network, weights)


def random_lpips(seed: int = 0, width: float = 0.25) -> LPIPS:
    """The same distance with fixed random weights: offline, comparable with itself only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VGG16(dense=False, width=width)
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        heads = [torch.rand(channels) / channels for channels in network.stage_widths]
    return LPIPS(network, heads)


class LinearSvm(NamedTuple):
    """sign(x weight + bias)."""

    weight: Tensor  # (D,)
    bias: Tensor  # ()

    def predict(self, points: Tensor) -> Tensor:
        """Side (N,), bool, of ``points`` (N, D)."""
        return points.to(self.weight.dtype) @ self.weight + self.bias > 0


class Separability(NamedTuple):
    score: float  # 2 ** (sum over attributes); lower is more separable
    conditional_entropies: Tensor  # (A,) bits


def conditional_entropy(table: Tensor) -> float:
    """H(Y | X) in bits of a joint distribution or counts (X, Y)."""
    joint = table.double() / table.double().sum()
    return entropy(joint) - entropy(joint.sum(dim=1))


def mutual_information(table: Tensor) -> float:
    """I(X; Y) in bits of a joint distribution or counts (X, Y)."""
    joint = table.double() / table.double().sum()
    return entropy(joint.sum(dim=0)) + entropy(joint.sum(dim=1)) - entropy(joint)


def entropy(table: Tensor) -> float:
    """Entropy in bits of a distribution or of counts of any shape."""
    share = table.double() / table.double().sum()
    return float(-torch.xlogy(share, share).sum() / torch.log(torch.tensor(2.0)).double())


def linear_svm(
    points: Tensor, sides: Tensor, *, penalty: float = 1.0, max_steps: int = 50
) -> LinearSvm:
    """Linear support vector machine with squared hinge loss.

    Minimizes (|w|^2 + b^2) / 2 + penalty * sum max(0, 1 - y f(x))^2, which is what the authors'
    solver approximates, by Newton's method with line search, in fp64.

    Args:
        points: (N, D).
        sides: (N,) bool.
        penalty: of the loss.
        max_steps: of Newton's method; some ten are enough.
    """
    x = torch.cat([points.double(), points.new_ones(len(points), 1).double()], dim=1)
    y = torch.where(sides, 1.0, -1.0).to(x)
    solution = x.new_zeros(x.shape[1])
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

    def objective(candidate: Tensor) -> Tensor:
        hinge = (1 - y * (x @ candidate)).clamp(min=0)
        return candidate.square().sum() / 2 + penalty * hinge.square().sum()

    value = objective(solution)
    for _ in range(max_steps):
        margins = 1 - y * (x @ solution)
        active = margins > 0
        inside = x[active]
        gradient = solution - 2 * penalty * inside.t() @ (y[active] * margins[active])
        if float(gradient.norm()) <= 1e-9 * max(1.0, len(x) * penalty):
            break
        direction = torch.linalg.solve(identity + 2 * penalty * inside.t() @ inside, gradient)
        step = 1.0
        while step > 1e-6 and objective(solution - step * direction) > value:
            step /= 2
        solution = solution - step * direction
        before, value = value, objective(solution)
        if float(before - value) <= 1e-12 * float(value):
            break
    return LinearSvm(solution[:-1], solution[-1])


def separability(latents: Tensor, logits: Tensor, *, keep: float = 0.5) -> Separability:
    """Score of one latent space.

    Args:
        latents: (N, D), z or the style w of N images.
        logits: (N, A), what a classifier says about each of A attributes of the images.
        keep: share of the images that counts for an attribute, those it is surest of.

    Raises:
        ValueError: fewer than two images are left.
    """
    kept = int(len(latents) * keep)
    if kept < 2:
        raise ValueError(f"linear separability needs more than {len(latents)} images")
    entropies = []
    for attribute in logits.t():
        surest = attribute.abs().topk(kept).indices
        points, sides = latents[surest], attribute[surest] > 0
        predicted = linear_svm(points, sides).predict(points)
        table = torch.zeros(2, 2, dtype=torch.float64)
        for row in (0, 1):
            for column in (0, 1):
                table[row, column] = ((predicted == bool(row)) & (sides == bool(column))).sum()
        entropies.append(conditional_entropy(table))
    found = torch.tensor(entropies, dtype=torch.float64)
    return Separability(float(torch.exp2(found.sum())), found)
