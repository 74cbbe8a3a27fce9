"""``prevalent convert SOURCE DESTINATION``: the released checkpoint to ours and back.

Formats: ``ours`` is ``model.safetensors`` and ``config.json``; ``authors`` is the released layout,
``pytorch_model.bin`` and ``config.json`` of pytorch-transformers 1.2. ``training_args.bin`` of a
released folder is a pickle of code objects and is never opened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .data.weights import (
    compare,
    find_weights,
    normalize_names,
    read_weights,
    restore,
    save_authors_folder,
    save_model,
    to_model_config,
)
from .models.prevalent import PrevalentForPretraining
from .runtime.command import parse


@dataclass(frozen=True)
class ConvertConfig:
    """Convert a checkpoint folder and report every tensor."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder with ``config.json`` and ``pytorch_model.bin`` or ``model.safetensors``."""
    destination: Annotated[Path, tyro.conf.Positional]
    """Folder to write; it must not hold weights yet."""
    to: Literal["ours", "authors"] = "ours"
    """Format to write."""
    quiet: bool = False
    """Print the totals alone, not every tensor."""


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent convert checkpoint-12864 prevalent-base``."""
    convert(parse(ConvertConfig, argv, "prevalent convert"))


def convert(config: ConvertConfig) -> PrevalentForPretraining:
    """Read ``source`` without executing code in it, check every tensor, write ``destination``.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: a tensor is missing, unexpected or of another shape than ``config.json`` says.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (config.destination / name).exists():
            raise ValueError(
                f"{config.destination} already holds {name}; give an empty or new folder"
            )
    weights, config_path = find_weights(config.source), config.source / "config.json"
    if not config_path.is_file():
        raise FileNotFoundError(f"{config.source} has no config.json beside {weights.name}")
    state = normalize_names(read_weights(weights))
    model = PrevalentForPretraining(
        to_model_config(json.loads(config_path.read_text()), config_path)
    )
    report = compare(model, state)
    if not config.quiet:
        for name in report.matched:
            value = state[name]
            print(f"  {name}  {tuple(value.shape)}  {str(value.dtype).removeprefix('torch.')}")
    for title in ("missing", "unexpected", "wrong_shape"):
        for line in getattr(report, title):
            print(f"  {title}: {line}")
    print(
        f"{len(report.matched)} tensors fit, {len(report.missing)} missing, "
        f"{len(report.unexpected)} unexpected, {len(report.wrong_shape)} of another shape"
    )
    restore(model, state, weights)
    (save_model if config.to == "ours" else save_authors_folder)(config.destination, model)
    vocabulary = config.source / "vocab.txt"
    if vocabulary.is_file():
        (config.destination / "vocab.txt").write_bytes(vocabulary.read_bytes())
    print(f"written: {config.destination}")
    return model
