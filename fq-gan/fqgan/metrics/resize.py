"""Bilinear resizing exactly as TensorFlow 1 did it, which the published FID weights expect."""

from __future__ import annotations

import torch
from torch import Tensor


def resize_like_tf1(images: Tensor, height: int, width: int) -> Tensor:
    """Resize (B, C, H, W) as ``tf.image.resize_bilinear`` of TF 1 without corner alignment.

    Output pixel ``i`` reads the input at ``i * H / height`` (not at pixel centres, and without
    smoothing when it shrinks). Returns (B, C, height, width).
    """
    return _along(_along(images, 2, height), 3, width)


def _along(images: Tensor, dim: int, size: int) -> Tensor:
    length = images.shape[dim]
    # float32, as in TF: at 299 pixels a float64 scale would choose other neighbours now and then.
    scale = torch.tensor(length, dtype=torch.float32) / torch.tensor(size, dtype=torch.float32)
    place = torch.arange(size, dtype=torch.float32) * scale
    low = place.floor().long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    shape = [1] * images.dim()
    shape[dim] = size
    weight = (place - low).view(shape).to(images)
    near = images.index_select(dim, low.to(images.device))
    far = images.index_select(dim, high.to(images.device))
    return near + (far - near) * weight
