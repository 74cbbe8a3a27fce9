"""A folder of weights for use: ``config.json`` and safetensors, no code inside."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ..weight_files import (
    first_weights,
    generator_file,
    load_into,
    load_judge,
    load_ready,
    read_folder,
)
from .build import build_discriminator, build_generator
from .config import Stylegan2Config
from .generator import Generator


class Weights(NamedTuple):
    config: Stylegan2Config
    generator: Generator  # in eval mode
    class_names: list[str]
    step: int
    lod: float  # halvings of the resolution that the networks have yet to grow by


def load_weights(
    folder: str | Path, *, use_average: bool = True, device: torch.device | str = "cpu"
) -> Weights:
    """Read what `save_weights` wrote.

    Args:
        folder: of the weights.
        use_average: False takes the generator without the moving average, if it was saved.
        device: where the generator goes.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: the weights do not fit the configuration beside them.
    """
    config, extra = read_folder(folder, Stylegan2Config, "model")
    path = generator_file(folder, use_average=use_average)
    generator = load_ready(build_generator(config), path, device)
    names, step = extra.get("class_names", []), extra.get("step", 0)
    return Weights(config, generator, names, step, extra.get("lod", 0.0))


def load_discriminator(folder: str | Path, *, device: torch.device | str = "cpu") -> nn.Module:
    """The discriminator with its dictionaries, in eval mode; see `load_judge`."""
    return load_judge(folder, Stylegan2Config, build_discriminator, device=device)


def start_from(folder: str | Path, generator: nn.Module, discriminator: nn.Module) -> None:
    """Fine-tuning: load the networks of ``folder`` into freshly built ones.

    The generator without the moving average is preferred; a folder without a discriminator leaves
    the discriminator as it was initialised.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: they belong to other networks.
    """
    load_into(generator, first_weights(folder, "raw", "model"))
    judge = Path(folder) / "discriminator.safetensors"
    if judge.exists():
        load_into(discriminator, judge)
