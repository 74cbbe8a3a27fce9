"""Translation of any picture: a file, the bytes of an upload, or an open stream."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..data.images import UNREADABLE, normalize, to_bytes, to_rgb
from ..data.unpaired import FITS, Resize
from .generator import Generator, Translated
from .weights import Weights

Picture = str | Path | bytes | BinaryIO
Direction = Literal["a2b", "b2a"]
Shape = Literal["stretch", "crop"]


class Translator:
    """Both generators of a pair of domains, ready for pictures.

    Args:
        weights: from `load_weights`, on their device.
        size: width and height that pictures are brought to; 0 takes that of the training, which a
            full generator insists on.
        shape: ``stretch`` as the authors do, or ``crop`` the square in the middle.
        resize: ``legacy`` as the authors do at tests, or ``modern`` with antialiasing.

    Raises:
        ValueError: a full generator with another ``size``.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        size: int = 0,
        shape: Shape = "stretch",
        resize: Resize = "legacy",
    ) -> None:
        trained = weights.config.image_size
        if size not in (0, trained) and not weights.config.generator.light:
            raise ValueError(
                f"--size {size}: these weights translate {trained} pixels only; leave it out, or "
                "use weights of a light generator"
            )
        if size and (size < 8 or size % 4):
            raise ValueError(f"--size must be a multiple of 4 from 8, got {size}")
        self.weights, self.size, self.shape, self.resize = weights, size or trained, shape, resize
        self.device = next(weights.a_to_b.parameters()).device

    def read(self, picture: Picture) -> Tensor:
        """A picture as (1, 3, size, size) in [-1, 1], on the device.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no picture.
        """
        name = str(picture) if isinstance(picture, str | Path) else "the picture"
        try:
            with Image.open(
                io.BytesIO(picture) if isinstance(picture, bytes) else picture
            ) as image:
                upright = ImageOps.exif_transpose(to_rgb(image))
        except FileNotFoundError:
            raise FileNotFoundError(f"{name} does not exist") from None
        except UNREADABLE as error:
            raise ValueError(f"{name} cannot be read as an image ({error})") from error
        if self.shape == "crop":
            upright = ImageOps.fit(upright, (min(upright.size),) * 2)
        levels = FITS[self.resize, "test"](upright, self.size, 0.5)
        pixels = torch.from_numpy(np.ascontiguousarray(levels.transpose(2, 0, 1)))[None]
        return normalize(pixels).to(self.device)

    def generators(self, direction: Direction) -> tuple[Generator, Generator]:
        """The generator of ``direction`` and the one that leads back."""
        pair = (self.weights.a_to_b, self.weights.b_to_a)
        return pair if direction == "a2b" else pair[::-1]

    @torch.no_grad()
    def translate(self, images: Tensor, direction: Direction) -> Translated:
        """Translate ``images`` (B, 3, H, W) of `read`."""
        return self.generators(direction)[0](images)

    def __call__(self, picture: Picture, direction: Direction = "a2b") -> Image.Image:
        """Translate one picture, of any mode, to one of ``size`` pixels."""
        translated = self.translate(self.read(picture), direction).images[0]
        return Image.fromarray(to_bytes(translated.cpu()).permute(1, 2, 0).numpy())
