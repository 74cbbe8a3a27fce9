"""Tiny runs of U-GAT-IT for the tests of its commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from fqgan.ugatit.config import (
    SMOKE,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    UgatitConfig,
    UgatitTrain,
)
from fqgan.ugatit.networks import build_networks
from fqgan.ugatit.translation import save_weights

TINY = replace(SMOKE, device="cpu", evaluate_every=0, sample_every=0)
TINY_NETWORKS = UgatitConfig(
    image_size=24,
    generator=GeneratorConfig(channels=2, num_blocks=1),
    discriminator=DiscriminatorConfig(channels=2, depth=4),
    quantizer=QuantizerConfig(layers=(1,), codebook_size=4),
)


def tiny_ugatit(run_dir: Path, **changes: Any) -> UgatitTrain:
    """A run of a few iterations of networks of width 2 on toy images of 24 pixels."""
    return replace(TINY, run_dir=str(run_dir), **changes)


def tiny_weights(folder: Path, *, light: bool = False) -> Path:
    """A folder of fresh weights."""
    config = replace(TINY_NETWORKS, generator=replace(TINY_NETWORKS.generator, light=light))
    names = ("selfie", "anime")
    return save_weights(folder, build_networks(config), domain_names=names, step=7)


def ugatit_weights_of(run_dir: Path) -> dict[str, Tensor]:
    """All exported tensors of a run: generators, discriminators with dictionaries."""
    return {
        f"{path.stem}/{name}": value
        for path in sorted((run_dir / "model").glob("*.safetensors"))
        for name, value in load_file(path).items()
    }
