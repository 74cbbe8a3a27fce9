"""Small networks, batches and recorded arrays for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fqgan.biggan import (
    BigganConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
)


class Recorded:
    """Arrays of one recorded file as tensors, halves widened to fp32."""

    def __init__(self, path: Path) -> None:
        self.arrays = np.load(path)
        self.names = list(self.arrays.files)

    def __getitem__(self, name: str) -> Tensor:
        tensor = torch.from_numpy(np.array(self.arrays[name]))
        return tensor.float() if tensor.is_floating_point() else tensor

    def json(self, name: str) -> Any:
        return json.loads(str(self.arrays[name]))

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Everything under ``prefix/``, without it."""
        start = f"{prefix}/"
        return {name[len(start) :]: self[name] for name in self.names if name.startswith(start)}


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of ``theirs``."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12))


def tiny_config(**changes: Any) -> BigganConfig:
    """32-pixel networks of the smallest width, quantized in two blocks."""
    options: dict[str, Any] = {
        "num_classes": 3,
        "init": "N02",
        "generator": GeneratorConfig(channels=4, latent_dim=8),
        "discriminator": DiscriminatorConfig(channels=4),
        "quantizer": QuantizerConfig(layers=(0, 2), codebook_size=8),
    }
    return BigganConfig(**{**options, **changes})


def tiny_step(**changes: Any) -> StepConfig:
    options: dict[str, Any] = {"batch_size": 2, "num_d_steps": 2, "generator_lr": 2e-4}
    return StepConfig(**{**options, **changes})


def real_batch(config: BigganConfig, number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (number, 3, R, R) in [-1, 1] and labels (number,)."""
    random = torch.Generator().manual_seed(seed)
    side = config.resolution
    images = torch.rand(number, 3, side, side, generator=random) * 2 - 1
    return images, torch.randint(config.num_classes, (number,), generator=random)
