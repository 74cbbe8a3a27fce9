"""Dropout of image features: large tensors at every step, so the way to draw masks matters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 2**16


class FeatureDropout(nn.Module):
    """Element dropout whose masks are cheap on the CPU.

    PyTorch draws one double for each element there; 16 random bits are enough, so that four
    elements share one draw (about 20 times as fast). The probability is rounded to 1/65536.

    Args:
        p: probability of a zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, features: Tensor) -> Tensor:
        """``features`` as they are in eval mode, else a copy with zeros, scaled by 1 / (1 - p)."""
        if not self.training or not self.p:
            return features
        if features.device.type != "cpu":
            return nn.functional.dropout(features, self.p)
        dropped = round(self.p * LEVELS)
        count = features.numel()
        words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[:count].view(features.shape)
        # Comparing floats is many times as fast as comparing 16-bit integers.
        kept = bits.float().ge_(dropped - LEVELS // 2).mul_(LEVELS / (LEVELS - dropped))
        return features * kept.to(features.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def drop_images(dropout: FeatureDropout, features: Tensor, angle_size: int) -> Tensor:
    """Drop the image part of ``features`` (..., D + A); the last ``angle_size`` columns stay."""
    if not dropout.training or not dropout.p:
        return features
    images, angles = features.tensor_split([-angle_size], dim=-1)
    return torch.cat([dropout(images), angles], dim=-1)
