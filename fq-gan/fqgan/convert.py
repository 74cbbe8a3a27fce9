"""``fqgan convert``: weights that others published, as a folder that ours read.

The folder gets ``config.json``, the networks as safetensors, and ``report.txt`` with one line per
tensor. Nothing in the source is executed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .biggan.build import build_generator
from .biggan.released import build_released, read_released_set
from .biggan.tfhub import read_tfhub_arrays, state_from_tfhub, tfhub_config
from .biggan.weights import save_weights
from .conversion import Report, load_with_report, require_complete, write_report
from .runtime.command import parse


@dataclass(frozen=True)
class ConvertBiggan:
    """The .pth files of one experiment of BigGAN-PyTorch or FQ-BigGAN."""

    folder: tyro.conf.Positional[Path]
    """Folder with G.pth, G_ema.pth, D.pth, state_dict.pth."""
    out: tyro.conf.Positional[Path]
    """Folder to write."""
    suffix: str = ""
    """Which copy: copy0, best0, ...; none for the plain names."""


@dataclass(frozen=True)
class ConvertTfhub:
    """A BigGAN generator of TensorFlow Hub."""

    source: tyro.conf.Positional[Path]
    """Unpacked module, checkpoint prefix, or dump of the variables as .npz or .h5."""
    out: tyro.conf.Positional[Path]
    """Folder to write."""
    resolution: int = 256
    """128, 256 or 512."""


Options = (
    Annotated[ConvertBiggan, tyro.conf.subcommand("biggan")]
    | Annotated[ConvertTfhub, tyro.conf.subcommand("tfhub")]
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``fqgan convert biggan weights/EXPERIMENT OUT --suffix best0``."""
    options: ConvertBiggan | ConvertTfhub = parse(
        Options,  # type: ignore[arg-type]  # tyro takes unions of subcommands
        argv or [],
        "fqgan convert",
    )
    reports = (
        convert_biggan(options.folder, options.out, options.suffix)
        if isinstance(options, ConvertBiggan)
        else convert_tfhub(options.source, options.out, options.resolution)
    )
    for report in reports:
        print(report.summary())
    print(f"wrote {options.out}")


def convert_biggan(folder: Path, out: Path, suffix: str = "") -> list[Report]:
    """Convert one set; the average, where there is one, becomes the generator for use."""
    released = read_released_set(folder, suffix)
    networks, reports = build_released(released)
    require_complete(reports, folder)
    generator = networks.get("average", networks.get("generator"))
    if generator is None:
        raise ValueError(f"{folder} has a discriminator only; a folder for use needs G or G_ema")
    save_weights(
        out, released.config, generator,
        raw=networks.get("generator") if "average" in networks else None,
        discriminator=networks.get("discriminator"), step=int(released.progress.get("itr", 0)),
    )  # fmt: skip
    (out / "flags.json").write_text(json.dumps(released.flags, indent=2, default=str) + "\n")
    write_report(out, reports)
    return reports


def convert_tfhub(source: Path, out: Path, resolution: int) -> list[Report]:
    """Convert one generator of TensorFlow Hub."""
    config = tfhub_config(resolution)
    state, filled = state_from_tfhub(read_tfhub_arrays(source), config)
    generator = build_generator(config)
    reports = [load_with_report(generator, state, "generator", filled=tuple(filled))]
    require_complete(reports, source)
    save_weights(out, config, generator)
    write_report(out, reports)
    return reports
