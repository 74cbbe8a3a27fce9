"""A folder of weights for use: ``config.json`` and safetensors, no code inside."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ..runtime.rundir import read_config
from ..weight_files import (
    first_weights,
    generator_file,
    load_judge,
    load_ready,
    read_folder,
    read_tensors,
)
from .build import build_discriminator, build_generator
from .config import BigganConfig
from .deep import DeepDiscriminator, DeepGenerator
from .discriminator import Discriminator
from .generator import Generator

logger = logging.getLogger(__name__)


class Weights(NamedTuple):
    config: BigganConfig
    generator: Generator | DeepGenerator  # in eval mode
    class_names: list[str]
    step: int


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
    config, extra = read_folder(folder, BigganConfig, "model")
    path = generator_file(folder, use_average=use_average)
    generator = load_ready(build_generator(config), path, device)
    return Weights(config, generator, extra.get("class_names", []), extra.get("step", 0))


def load_discriminator(
    folder: str | Path, *, device: torch.device | str = "cpu"
) -> Discriminator | DeepDiscriminator:
    """The discriminator with its dictionaries, in eval mode; see `load_judge`."""
    return load_judge(folder, BigganConfig, build_discriminator, device=device)


def start_from(
    folder: str | Path, generator: Generator | DeepGenerator, discriminator: nn.Module
) -> None:
    """Fine-tuning: load the networks of ``folder`` into freshly built ones.

    The generator without the moving average is preferred; a folder without a discriminator leaves
    the discriminator as it was initialised, and so does another number of classes with everything
    whose shape depends on it.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: they belong to other networks.
    """
    folder = Path(folder)
    first = first_weights(folder, "raw", "model")
    saved_classes = read_config(BigganConfig, folder).num_classes
    judge = folder / "discriminator.safetensors"
    for network, path in ((generator, first), (discriminator, judge)):
        if not path.exists():
            continue
        own, saved = network.state_dict(), read_tensors(path)
        for name in own.keys() & saved.keys():
            sizes = [
                saved_classes if size == generator.num_classes else size for size in own[name].shape
            ]
            if own[name].shape != saved[name].shape and list(saved[name].shape) == sizes:
                logger.info("--initial-weights: %s depends on the classes and starts anew", name)
                saved[name] = own[name]
        try:
            network.load_state_dict(saved)
        except RuntimeError as error:
            raise ValueError(
                f"--initial-weights {path} belongs to another network: {error}"
            ) from error
