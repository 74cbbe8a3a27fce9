"""Which code of a discriminator fires where: maps of images, and the patches of a code."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from ..quantizer import FeatureQuantizer

GOLDEN_RATIO = 0.618034  # hues of neighbouring codes lie far apart
SMALLEST_CELL = 18  # screen pixels of a place that has room for a number


class Fired(NamedTuple):
    """What a quantizer found in a batch."""

    codes: Tensor  # (B, h, w) the nearest code of every place
    distance: Tensor  # (B, h, w) squared distance to it


@torch.no_grad()
def fired_codes(network: nn.Module, judge: Callable[[], Any]) -> dict[str, Fired]:
    """What the quantizers inside ``network``, by name, find while ``judge()`` calls it.

    The network is in eval mode, so that its dictionaries stay.
    """
    found: dict[str, Fired] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...], quantized: Any) -> None:
            assert isinstance(module, FeatureQuantizer)
            index = quantized.code_index
            vectors = given[0].float().movedim(1, -1)  # (B, h, w, C)
            distance = (vectors - module.codes[index]).square().sum(dim=-1)
            found[name] = Fired(index.cpu(), distance.cpu())

        return hook

    assert not network.training
    handles = [part.register_forward_hook(note(name)) for name, part in quantizers(network).items()]
    try:
        judge()
    finally:
        for handle in handles:
            handle.remove()
    return found


def quantizers(network: nn.Module) -> dict[str, FeatureQuantizer]:
    """The quantizers inside ``network`` by name, in its order."""
    parts = network.named_modules()
    return {name: part for name, part in parts if isinstance(part, FeatureQuantizer)}


class Codebook:
    """The dictionaries of one discriminator, and where on ``images`` each code fires.

    Args:
        network: the discriminator, in eval mode, on its device.
        judge: hands a batch (B, 3, R, R) in [-1, 1] to ``network``.
        images: (N, 3, R, R) in [-1, 1] to look for codes in; N may be 0.
        batch_size: images in one pass.
    """

    def __init__(
        self,
        network: nn.Module,
        judge: Callable[[Tensor], Any],
        images: Tensor,
        *,
        batch_size: int = 32,
    ) -> None:
        self.network, self.judge, self.images = network, judge, images
        self.sizes = {name: part.codebook_size for name, part in quantizers(network).items()}
        parts = [self.read(some) for some in images.split(batch_size)] if len(images) else []
        self.fired = {
            name: Fired(
                torch.cat([part[name].codes for part in parts]),
                torch.cat([part[name].distance for part in parts]),
            )
            for name in (self.sizes if parts else ())
        }

    def read(self, images: Tensor) -> dict[str, Fired]:
        """What fires on ``images`` (B, 3, R, R), by layer."""
        return fired_codes(self.network, lambda: self.judge(images))

    def shares(self, layer: str) -> Tensor:
        """The share of all places of all images that each code has: (K,)."""
        if layer not in self.fired:
            return torch.zeros(self.sizes[layer])
        index = self.fired[layer].codes.flatten()
        return torch.bincount(index, minlength=self.sizes[layer]) / len(index)

    def patches(self, layer: str, code: int, count: int = 32) -> Tensor:
        """Where ``code`` fires, best first and one place an image: (up to count, 3, P, P).

        A patch is twice as wide as the place itself, at least a quarter of the image: what the
        place sees is larger than itself.
        """
        images = self.images
        if layer not in self.fired:
            return images[:0]
        index, distance = self.fired[layer]
        away = distance.where(index == code, distance.new_tensor(float("inf"))).flatten(1)
        nearest, place = away.min(dim=1)
        order = nearest.argsort(stable=True)[: int(nearest.isfinite().sum())][:count]
        height, width = index.shape[1:]
        side = min(images.shape[-1], max(2 * images.shape[-1] // width, images.shape[-1] // 4))
        padded = F.pad(images, [side] * 4, mode="replicate") if len(order) else images
        cut = []
        for number in order.tolist():
            row, column = divmod(int(place[number]), width)
            top = side + round((row + 0.5) * images.shape[-2] / height - side / 2)
            left = side + round((column + 0.5) * images.shape[-1] / width - side / 2)
            cut.append(padded[number, :, top : top + side, left : left + side])
        return torch.stack(cut) if cut else images[:0]


def colour_of(code: int) -> tuple[int, int, int]:
    """A colour (red, green, blue), 0 to 255, that is the code's own on every picture."""
    red, green, blue = colorsys.hsv_to_rgb(code * GOLDEN_RATIO % 1.0, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_codes(
    image: Image.Image, index: Tensor, *, code: int | None = None, size: int = 480
) -> Image.Image:
    """``image`` with every place of ``index`` (h, w) in the colour and with the number of its code.

    With ``code`` the places of that code keep the image's colours and the others go dark.
    """
    shown = image.convert("RGB").resize((size, size), Image.Resampling.NEAREST)
    codes = index.numpy()
    if code is None:
        known, where = np.unique(codes, return_inverse=True)
        colours = np.array([colour_of(int(k)) for k in known], dtype=np.uint8)
        tint = Image.fromarray(colours[where.reshape(codes.shape)])
        shown = Image.blend(shown, tint.resize(shown.size, Image.Resampling.NEAREST), 0.45)
    else:
        mask = Image.fromarray(np.where(codes == code, 255, 70).astype(np.uint8))
        mask = mask.resize(shown.size, Image.Resampling.NEAREST)
        shown = Image.composite(shown, Image.new("RGB", shown.size), mask)
    height, width = codes.shape
    if size // max(height, width) >= SMALLEST_CELL:
        font = ImageFont.load_default(max(9, min(18, size // width // 2)))
        pen = ImageDraw.Draw(shown)
        for row, column in np.ndindex(height, width):
            middle = ((column + 0.5) * size / width, (row + 0.5) * size / height)
            text = str(codes[row, column])
            pen.text(middle, text, "white", font, anchor="mm", stroke_width=1, stroke_fill="black")
    return shown
