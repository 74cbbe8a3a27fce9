"""A folder of weights for use: ``config.json`` and one safetensors file per network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..runtime.rundir import read_config
from ..weight_files import (
    first_weights,
    load_judge,
    load_ready,
    read_folder,
    read_tensors,
    save_folder,
)
from .config import UgatitConfig
from .discriminator import Discriminator
from .generator import Generator
from .moments import load_moments
from .networks import UgatitNetworks
from .step import UgatitStep

GENERATORS, JUDGES = ("a_to_b", "b_to_a"), ("judge_a", "judge_b")


class Weights(NamedTuple):
    config: UgatitConfig
    a_to_b: Generator  # in eval mode
    b_to_a: Generator  # in eval mode
    domain_names: tuple[str, str]  # A, B
    step: int  # iterations behind these weights


def save_weights(
    folder: str | Path,
    networks: UgatitNetworks,
    *,
    domain_names: Sequence[str] = ("A", "B"),
    discriminators: bool = True,
    step: int = 0,
) -> Path:
    """Write a folder that `load_weights` reads, in place of an older one and in one move.

    Args:
        folder: to be written.
        networks: all four.
        domain_names: what to call the domains A and B.
        discriminators: save them too, for fine-tuning.
        step: iterations behind these weights.
    """
    names = (*GENERATORS, *JUDGES) if discriminators else GENERATORS
    return save_folder(
        folder, {name: getattr(networks, name) for name in names}, networks.config,
        domain_names=list(domain_names), step=step,
    )  # fmt: skip


def load_weights(folder: str | Path, *, device: torch.device | str = "cpu") -> Weights:
    """Read the generators that `save_weights` wrote.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: the weights do not fit the configuration beside them.
    """
    folder = Path(folder)
    config, extra = read_folder(folder, UgatitConfig, *GENERATORS)
    a_to_b, b_to_a = (
        load_ready(Generator(config), folder / f"{name}.safetensors", device) for name in GENERATORS
    )
    first, second = extra.get("domain_names", ("A", "B"))
    return Weights(config, a_to_b, b_to_a, (first, second), extra.get("step", 0))


def load_judges(
    folder: str | Path, *, device: torch.device | str = "cpu"
) -> tuple[Discriminator, Discriminator]:
    """Discriminators of A and B with their dictionaries, in eval mode; see `load_judge`."""
    first, second = (
        load_judge(folder, UgatitConfig, Discriminator, name=name, device=device) for name in JUDGES
    )
    return first, second


def start_from(
    folder: str | Path, networks: UgatitNetworks, step: UgatitStep | None = None
) -> None:
    """Fine-tuning: load the networks of ``folder``, and Adam's moments where ``step`` is given.

    A folder without discriminators or moments leaves those as they are; dictionaries that the
    folder lacks, because it is of plain U-GAT-IT, start anew.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: they belong to other networks.
    """
    folder = Path(folder)
    first_weights(folder, GENERATORS[0])
    for name in (*GENERATORS, *JUDGES):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            continue
        network = getattr(networks, name)
        own, saved = network.state_dict(), read_tensors(path)
        for key, value in own.items():
            if ".quantizers." in key:
                saved.setdefault(key, value)
        wrong = [
            f"{key} is {list(value.shape)} there and {list(own[key].shape)} here"
            for key, value in saved.items()
            if key in own and own[key].shape != value.shape
        ]
        wrong += [f"{key} is there only" for key in saved if key not in own]
        wrong += [f"{key} is here only" for key in own if key not in saved]
        if wrong:
            raise ValueError(
                f"--initial-weights {path} belongs to another network ({wrong[0]}); choose the "
                f"options of its config.json: {_options(folder)}"
            )
        network.load_state_dict(saved)
    if step is not None and (folder / "moments.safetensors").exists():
        load_moments(read_tensors(folder / "moments.safetensors"), step)


def _options(folder: Path) -> str:
    config = read_config(UgatitConfig, folder)
    light = "--generator.light" if config.generator.light else "--generator.no-light"
    return (
        f"{config.image_size} pixels, --generator.channels {config.generator.channels}, {light}, "
        f"--generator.num-blocks {config.generator.num_blocks}, "
        f"--discriminator.channels {config.discriminator.channels}, "
        f"--discriminator.depth {config.discriminator.depth}"
    )
