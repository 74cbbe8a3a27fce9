"""A folder of weights for use: ``config.json`` and safetensors, no code inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..runtime.rundir import read_config
from ..weight_files import load_into, save_folder
from .build import build_discriminator, build_generator
from .config import Stylegan2Config
from .generator import Generator


class Weights(NamedTuple):
    config: Stylegan2Config
    generator: Generator  # in eval mode
    class_names: list[str]
    step: int
    lod: float  # halvings of the resolution that the networks have yet to grow by


def save_weights(
    folder: str | Path,
    config: Stylegan2Config,
    generator: nn.Module,
    *,
    raw: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    class_names: Sequence[str] = (),
    step: int = 0,
    lod: float = 0.0,
) -> Path:
    """Write a folder that `load_weights` reads, in place of an older one and in one move.

    Args:
        folder: to be written.
        config: of both networks.
        generator: to be used; where there is a moving average, that one.
        raw: the generator without the average.
        discriminator: for fine-tuning.
        class_names: in the order of the labels.
        step: images behind these weights.
        lod: halvings of the resolution that the networks have yet to grow by.
    """
    networks = {"model": generator, "raw": raw, "discriminator": discriminator}
    return save_folder(folder, networks, config, class_names=list(class_names), step=step, lod=lod)


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
    folder = Path(folder)
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(
            f"no weights were found in {folder} (model.safetensors is missing); give the folder of "
            "a finished save, such as RUN/model, or of `fqgan convert`"
        )
    config = read_config(Stylegan2Config, folder)
    extra: dict[str, Any] = json.loads((folder / "config.json").read_text())
    raw = folder / "raw.safetensors"
    path = raw if not use_average and raw.exists() else folder / "model.safetensors"
    generator = build_generator(config)
    load_into(generator, path)
    generator.to(device).eval()
    names, step = extra.get("class_names", []), extra.get("step", 0)
    return Weights(config, generator, names, step, extra.get("lod", 0.0))


def load_discriminator(folder: str | Path, *, device: torch.device | str = "cpu") -> nn.Module:
    """The discriminator with its dictionaries that `save_weights` wrote, in eval mode.

    Raises:
        FileNotFoundError: ``folder`` has weights for use only.
        ValueError: the weights do not fit the configuration beside them.
    """
    path = Path(folder) / "discriminator.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} holds no discriminator, and so no dictionary; give the folder of a run"
        )
    discriminator = build_discriminator(read_config(Stylegan2Config, folder))
    load_into(discriminator, path)
    return discriminator.to(device).eval()


def start_from(folder: str | Path, generator: nn.Module, discriminator: nn.Module) -> None:
    """Fine-tuning: load the networks of ``folder`` into freshly built ones.

    The generator without the moving average is preferred; a folder without a discriminator leaves
    the discriminator as it was initialised.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: they belong to other networks.
    """
    folder = Path(folder)
    paths = [path for name in ("raw", "model") if (path := folder / f"{name}.safetensors").exists()]
    if not paths:
        raise FileNotFoundError(
            f"--initial-weights {folder}: there is no model.safetensors; give a folder that a run "
            "or `fqgan convert` wrote"
        )
    load_into(generator, paths[0])
    judge = folder / "discriminator.safetensors"
    if judge.exists():
        load_into(discriminator, judge)
