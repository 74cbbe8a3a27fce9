"""``fqgan convert``: weights that others published, as a folder that ours read.

The folder gets ``config.json``, the networks as safetensors, and ``report.txt`` with one line per
tensor. Nothing in the source is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from safetensors.torch import save_file

from ..biggan.networks import build_generator
from ..runs import save_weights
from ..runtime.command import choose, parse
from ..runtime.files import json_text, require_target
from ..ugatit import translation as ugatit_weights
from . import stylegan2, ugatit
from .biggan import (
    build_released,
    read_released_set,
    read_tfhub_arrays,
    state_from_tfhub,
    tfhub_config,
)
from .loading import Report, load_with_report, require_complete, write_report

WRITTEN = ("config.json", "*.safetensors", "flags.json", "report.txt")
"""Names in a folder that was converted before, which is replaced."""


@dataclass(frozen=True)
class ConvertBiggan:
    """The .pth files of one experiment of BigGAN-PyTorch or FQ-BigGAN."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder with G.pth, G_ema.pth, D.pth, state_dict.pth."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write."""
    suffix: str = ""
    """Which copy: copy0, best0, ...; none for the plain names."""


@dataclass(frozen=True)
class ConvertTfhub:
    """A BigGAN generator of TensorFlow Hub."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """Unpacked module, checkpoint prefix, or dump of the variables as .npz or .h5."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write."""
    resolution: int = 256
    """128, 256 or 512."""


@dataclass(frozen=True)
class ConvertUgatit:
    """A TensorFlow checkpoint of FQ-U-GAT-IT or U-GAT-IT."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """Folder with a file "checkpoint", or the path of an index without .index."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write."""
    image_size: int = 256
    """Side of the training images; a full network tells itself."""
    moments: bool = False
    """Write Adam's moments too, to continue the training."""
    check: bool = True
    """Compare checksums; some seconds per 100 MB."""


@dataclass(frozen=True)
class ConvertStylegan2:
    """A network pickle of StyleGAN, StyleGAN2 or FQ-StyleGAN."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """The .pkl file."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write."""


Options = ConvertBiggan | ConvertTfhub | ConvertUgatit | ConvertStylegan2
KINDS: dict[str, Callable[..., Options]] = {
    "biggan": ConvertBiggan,
    "tfhub": ConvertTfhub,
    "ugatit": ConvertUgatit,
    "stylegan2": ConvertStylegan2,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``fqgan convert biggan weights/EXPERIMENT OUT --suffix best0``."""
    texts = {name: str(kind.__doc__).partition("\n")[0] for name, kind in KINDS.items()}
    about = "Convert weights of the authors, or of TensorFlow Hub, to a folder of ours."
    name, words = choose(texts, argv or [], "fqgan convert", "kind", about)
    options: Options = parse(KINDS[name], words, f"fqgan convert {name}")
    require_target(options.out, WRITTEN)
    if isinstance(options, ConvertBiggan):
        reports = convert_biggan(options.folder, options.out, options.suffix)
    elif isinstance(options, ConvertTfhub):
        reports = convert_tfhub(options.source, options.out, options.resolution)
    elif isinstance(options, ConvertUgatit):
        reports = convert_ugatit(options)
    else:
        reports = convert_stylegan2(options.source, options.out)
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
    (out / "flags.json").write_text(json_text(released.flags, indent=2, default=str) + "\n")
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


def convert_ugatit(options: ConvertUgatit) -> list[Report]:
    """Convert one checkpoint of four networks, or of the two generators."""
    released = ugatit.read_released(
        options.source, image_size=options.image_size, moments=options.moments,
        check=options.check,
    )  # fmt: skip
    networks, reports = ugatit.build_released(released)
    require_complete(reports, released.prefix)
    moments = ugatit.moments_by_name(released) if options.moments else None
    ugatit_weights.save_weights(
        options.out, networks, domain_names=released.domain_names,
        discriminators=released.has_discriminators, step=released.step,
    )  # fmt: skip
    if moments is not None:
        save_file(moments, options.out / "moments.safetensors")
    write_report(options.out, reports)
    return reports


def convert_stylegan2(source: Path, out: Path) -> list[Report]:
    """Convert one pickle; the average, where there is one, becomes the generator for use."""
    snapshot = stylegan2.load_snapshot(source)
    require_complete(snapshot.reports, source)
    generator = snapshot.average or snapshot.generator
    if generator is None:
        raise ValueError(f"{source} has a discriminator only; a folder for use needs a generator")
    kimg = re.fullmatch(r"network-snapshot-(\d+)", source.stem)
    save_weights(
        out, snapshot.config, generator,
        raw=snapshot.generator if snapshot.average is not None else None,
        discriminator=snapshot.discriminator, step=int(kimg[1]) * 1000 if kimg else 0,
        lod=snapshot.lod,
    )  # fmt: skip
    write_report(out, snapshot.reports)
    return snapshot.reports
