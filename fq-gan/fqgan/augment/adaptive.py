"""Adaptive discriminator augmentation, ADA (Karras et al., "Training Generative Adversarial
Networks with Limited Data", NeurIPS 2020): geometry and colours, as often as D overfits (Sec. 3).

Written from the paper. Of its six groups of transformations these are the three it trains with
(pixel blitting, geometry, colour); image-space filters, noise and cutout are not there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..runtime.distributed import reduce_sum
from ..runtime.options import at_least, positive


@dataclass(frozen=True)
class AdaptiveOptions:
    """Adaptive discriminator augmentation, for small data sets."""

    enabled: bool = False
    """Augment what the discriminator sees, as often as overfitting asks for."""
    target: float = 0.6
    """What r_t, the mean sign of D's scores of real images, is held at."""
    interval: int = 4
    """Iterations between two changes of the probability p."""
    kimg: float = 500.0
    """Thousands of images in which p would go from 0 to 1."""
    initial: float = 0.0
    """p at the start."""

    def __post_init__(self) -> None:
        at_least(self, "adaptive", interval=1)
        positive(self, "adaptive", "kimg")
        for name in ("target", "initial"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--adaptive.{name} must be in [0, 1], got {getattr(self, name)}")


class AdaptiveAugment:
    """Augments images with a probability that follows D's overfitting; its state is checkpointed.

    Overfitting is seen in r_t, the mean sign of D's scores of real images (Eq. 1): where it is
    above the target p rises, else it falls. All of it stays on the device.

    Args:
        options: see `AdaptiveOptions`.
        device: of the images.
    """

    def __init__(self, options: AdaptiveOptions, device: torch.device | str = "cpu") -> None:
        self.options = options
        self.probability = torch.tensor(options.initial, device=device)
        self.sign = torch.zeros((), device=device)  # r_t of the last change
        self._seen = torch.zeros(2, device=device)  # sum of signs, number of scores
        self._iterations = self._images = 0

    def __call__(self, images: Tensor) -> Tensor:
        """``images`` (B, 3, H, W) in [-1, 1], augmented, in fp32; gradients of any order pass."""
        with torch.autocast(images.device.type, enabled=False):
            moved = transform(images.float(), draw_geometry(images, self.probability))
            return recolor(moved, draw_colors(images, self.probability))

    @torch.no_grad()
    def observe(self, scores: Tensor) -> None:
        """Take in D's scores (B,) of real images, as it saw them."""
        signs = scores.detach().float().sign()
        self._seen += torch.stack([signs.sum(), torch.ones_like(signs).sum()])

    @torch.no_grad()
    def update(self, images: int) -> None:
        """Count an iteration of so many ``images`` of all ranks, and move p where it is time."""
        self._iterations += 1
        self._images += images
        if self._iterations < self.options.interval:
            return
        total, number = reduce_sum(self._seen.clone()).unbind()
        self.sign = total / number.clamp(min=1)
        step = self._images / (self.options.kimg * 1000)
        moved = self.probability + (self.sign - self.options.target).sign() * step
        self.probability = moved.clamp(0, 1)
        self._seen.zero_()
        self._iterations = self._images = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "probability": self.probability, "sign": self.sign, "seen": self._seen,
            "iterations": self._iterations, "images": self._images,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.probability.device
        self.probability, self.sign, self._seen = (
            state[name].to(device) for name in ("probability", "sign", "seen")
        )
        self._iterations, self._images = int(state["iterations"]), int(state["images"])


SCALE = 0.2  # standard deviation of log2 of the scalings
SHIFT = 0.125  # largest whole shift, and standard deviation of the fractional one, of the side


def draw_geometry(images: Tensor, probability: Tensor) -> Tensor:
    """For each image the map (B, 3, 3) from places in the result to places in the image.

    Places are relative to the centre, in pixels. Each transformation is applied with the
    ``probability``, which is 0 to 1, independently (App. B, Fig. 2).
    """
    count, device = len(images), images.device
    height, width = images.shape[2:]
    size = torch.tensor([width, height], device=device)

    def chosen(values: Tensor, neutral: float, share: Tensor = probability) -> Tensor:
        on = torch.rand(count, device=device) < share
        return torch.where(on.view(-1, *[1] * (values.ndim - 1)), values, neutral)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, device=device)

    flip = chosen(torch.randint(0, 2, (count,), device=device).float(), 0.0)
    quarter = chosen(torch.randint(0, 4, (count,), device=device).float(), 0.0)
    whole = chosen((torch.rand(count, 2, device=device) * 2 - 1) * SHIFT, 0.0)
    both = chosen(torch.exp2(normal() * SCALE), 1.0)
    # Two rotations, of which at least one happens with the probability.
    half = 1 - (1 - probability).clamp(min=0).sqrt()
    before = chosen((torch.rand(count, device=device) * 2 - 1) * math.pi, 0.0, half)
    one = chosen(torch.exp2(normal() * SCALE), 1.0)
    after = chosen((torch.rand(count, device=device) * 2 - 1) * math.pi, 0.0, half)
    fraction = chosen(normal(2) * SHIFT, 0.0)
    steps = [  # in the order in which they happen; what is returned undoes them, the last one first
        _scaling(1 - 2 * flip, torch.ones_like(flip)),
        _rotation(quarter * (math.pi / 2)),
        _shift((whole * size).round()),
        _scaling(1 / both, 1 / both),
        _rotation(before),
        _scaling(1 / one, one),
        _rotation(after),
        _shift(fraction * size),
    ]
    total = steps[0]
    for step in steps[1:]:
        total = total @ step
    return total


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    matrix = torch.diag_embed(angle.new_ones(len(angle), 3))
    cosine, sine = angle.cos(), angle.sin()
    matrix[:, 0, 0], matrix[:, 1, 1] = cosine, cosine
    matrix[:, 0, 1], matrix[:, 1, 0] = -sine, sine
    return matrix


def _shift(pixels: Tensor) -> Tensor:
    matrix = torch.diag_embed(pixels.new_ones(len(pixels), 3))
    matrix[:, :2, 2] = -pixels
    return matrix


# The lowpass filter of the wavelet sym6: enlarging by it and shrinking by it is the identity.
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
PAD = 6  # pixels mirrored around the image, for the filter
CENTRE = sum(i * tap for i, tap in enumerate(SYM6)) / sum(SYM6)  # it is not quite symmetric
MARGIN = 3.5  # pixels outside of the image up to which the mirrored ones are read


def transform(images: Tensor, geometry: Tensor) -> Tensor:
    """``images`` (B, C, H, W) through the maps of `draw_geometry`, without aliasing.

    As in App. B.1: enlarged twice by a wavelet filter, sampled bilinearly, shrunk by the same
    filter. Outside of the image is its mirror image.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, [PAD] * 4, mode="reflect")
    large = enlarge(padded)
    # Sample j of an enlarged edge lies at pixel (j - CENTRE) / 2.
    places = []
    for size in (width, height):
        samples = torch.arange(2 * size + len(SYM6) - 2, device=images.device)
        places.append((samples - CENTRE) / 2 - (size - 1) / 2)
    y, x = torch.meshgrid(places[1], places[0], indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # (h, w, 3)
    moved = torch.einsum("bij,hwj->bhwi", geometry[:, :2], points)
    grid = []
    for axis, size in enumerate((width, height)):
        pixel = mirrored(moved[..., axis] + (size - 1) / 2, size)
        sample = 2 * (pixel + PAD) + CENTRE
        grid.append((2 * sample + 1) / large.shape[3 - axis] - 1)
    return shrink(sample_bilinearly(large, torch.stack(grid, dim=-1)))


def mirrored(places: Tensor, size: int) -> Tensor:
    """Places in pixels, those far outside of 0 .. size - 1 folded back into it."""
    period = 2 * (size - 1)
    folded = places.remainder(period)
    folded = torch.minimum(folded, period - folded)
    near = (places >= -MARGIN) & (places <= size - 1 + MARGIN)
    return torch.where(near, places, folded)


def enlarge(images: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, 2 H + 10, 2 W + 10) by the wavelet's filter."""
    taps, channels = _taps(images)
    rows = taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    tall = F.conv_transpose2d(images, rows, stride=(2, 1), groups=channels)
    return F.conv_transpose2d(tall, rows.transpose(2, 3), stride=(1, 2), groups=channels)


def shrink(images: Tensor) -> Tensor:
    """The way back of `enlarge`."""
    taps, channels = _taps(images)
    rows = taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    low = F.conv2d(images, rows, stride=(2, 1), groups=channels)
    return F.conv2d(low, rows.transpose(2, 3), stride=(1, 2), groups=channels)


def _taps(images: Tensor) -> tuple[Tensor, int]:
    return torch.tensor(SYM6, dtype=images.dtype, device=images.device), images.shape[1]


BILINEAR, BORDER, CORNERS = 0, 1, False  # how the operators below are told


def sample_bilinearly(images: Tensor, grid: Tensor) -> Tensor:
    """``grid_sample`` whose gradient with respect to ``images`` can be differentiated again.

    R1 needs that, and PyTorch's own operator does not have it. Sampling is linear in the images, so
    the backward pass of its backward pass is sampling itself. The grid gets no gradient.
    """
    return _Sample.apply(images, grid)


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return torch.ops.aten.grid_sampler_2d(images, grid, BILINEAR, BORDER, CORNERS)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradients[0], grid, ctx.shape), None


class _Spread(torch.autograd.Function):
    """The adjoint of `_Sample`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        like = gradient.new_empty(1).expand(shape)
        found, _ = torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), like, grid, BILINEAR, BORDER, CORNERS, (True, False)
        )
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Sample.apply(gradients[0], grid), None, None


BRIGHTNESS = 0.2  # standard deviation, of a range of 2
CONTRAST = 0.5  # standard deviation of log2
SATURATION = 1.0  # likewise


def draw_colors(images: Tensor, probability: Tensor) -> Tensor:
    """For each image a linear map of its colours with a constant: (B, 3, 4)."""
    count, device = len(images), images.device

    def chosen(values: Tensor, neutral: float) -> Tensor:
        return torch.where(torch.rand(count, device=device) < probability, values, neutral)

    def normal(deviation: float) -> Tensor:
        return torch.randn(count, device=device) * deviation

    def scaled(factors: Tensor) -> Tensor:
        return factors[:, None, None] * identity

    identity = torch.eye(3, device=device)
    grey = torch.full((3, 3), 1 / 3, device=device)  # onto the axis of luma
    brightness = chosen(normal(BRIGHTNESS), 0.0)
    contrast = chosen(torch.exp2(normal(CONTRAST)), 1.0)
    flip = chosen(torch.randint(0, 2, (count,), device=device).float(), 0.0)
    hue = chosen((torch.rand(count, device=device) * 2 - 1) * math.pi, 0.0)
    saturation = chosen(torch.exp2(normal(SATURATION)), 1.0)
    # A rotation around the axis of luma, by Rodrigues' formula.
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / math.sqrt(3)
    turn = scaled(hue.cos()) + hue.sin()[:, None, None] * cross
    turn = turn + (1 - hue.cos())[:, None, None] * grey
    strength = grey + saturation[:, None, None] * (identity - grey)
    colors = strength @ turn @ (identity - 2 * flip[:, None, None] * grey)
    constant = (colors * (contrast * brightness)[:, None, None]).sum(dim=2, keepdim=True)
    return torch.cat([colors * contrast[:, None, None], constant], dim=2)


def recolor(images: Tensor, colors: Tensor) -> Tensor:
    """``images`` (B, 3, H, W) through the maps of `draw_colors`."""
    mixed = torch.einsum("bij,bjhw->bihw", colors[:, :, :3], images)
    return mixed + colors[:, :, 3:, None]
