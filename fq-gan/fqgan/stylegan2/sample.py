"""``fqgan sample`` of StyleGAN2: images by seed, mixed styles, truncation sheets, npz files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checks import at_least
from ..data.images import to_bytes
from ..runtime import distributed
from ..runtime.command import parse
from ..sheets import save_image, save_sheet
from ..weight_files import run_of, weights_of_run
from .options import Stylegan2Train
from .sampling import (
    Sampler,
    numbers,
    seeded_image,
    seeded_styles,
    style_mixing_images,
    style_mixing_sheet,
    truncation_sheet,
)
from .weights import Weights, load_weights


@dataclass(frozen=True)
class SampleConfig:
    """Draw images from a run or from a folder of weights of StyleGAN2."""

    run_dir: str = ""
    """Folder of a run."""
    best: bool = False
    """Of a run: the weights with the best score instead of the newest."""
    weights: str = ""
    """Folder of weights, from a run or from `fqgan convert`."""
    out: str = ""
    """Where images go; empty: samples/ in the folder of the run or of the weights."""
    use_average: bool = True
    """Draw from the moving average of G; False draws from G itself."""
    seeds: tuple[str, ...] = ()
    """An image for each of these seeds, such as 66 230 389-391; the authors' generate-images."""
    rows: tuple[str, ...] = ()
    """Style mixing: seeds of the rows; the authors' style-mixing-example."""
    columns: tuple[str, ...] = ()
    """Style mixing: seeds of the columns."""
    mixing_layers: tuple[str, ...] = ("0-6",)
    """Style mixing: layers that take the column's style; those the network lacks are left out."""
    truncation_sheet: tuple[float, ...] = ()
    """A sheet with one column for each of these truncations, such as 0 0.3 0.5 0.7 1."""
    sheet: int = 0
    """A sheet of so many random images."""
    npz: int = 0
    """Write so many images to samples.npz (x: uint8 NCHW, y: labels)."""
    truncation: float = 0.5
    """psi of images by seed and of mixed styles; 1 leaves the styles alone."""
    sheet_truncation: float = 1.0
    """psi of --sheet and --npz."""
    label: int | None = None
    """Class of the images of a conditional generator."""
    batch_size: int = 32
    """Images in one pass."""
    seed: int = 0
    """Of --sheet and --npz."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        if self.run_dir and self.weights:
            raise ValueError("give only one of --run-dir and --weights")
        if bool(self.rows) != bool(self.columns):
            raise ValueError("style mixing needs both --rows and --columns")
        at_least(self, batch_size=1, sheet=0, npz=0)
        for name in ("seeds", "rows", "columns", "mixing_layers"):
            numbers(getattr(self, name), name.replace("_", "-"))


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan sample --run-dir runs/stylegan2-demo --seeds 0-9``."""
    default = SampleConfig()
    run = run_of(Stylegan2Train, argv)
    if run is not None:
        default = SampleConfig(batch_size=run.schedule.device_batch_size)
    for path in sample(parse(SampleConfig, argv, "fqgan sample", default=default)):
        print(path)


def sample(config: SampleConfig) -> list[Path]:
    """Write what ``config`` asks for, a bit of everything if nothing; returns the files."""
    if not (config.run_dir or config.weights):
        raise ValueError("nothing to draw from: give --run-dir or --weights")
    source = Path(config.weights or weights_of_run(config.run_dir, best=config.best))
    out = Path(config.out or Path(config.run_dir or config.weights) / "samples")
    seeds, rows = numbers(config.seeds, "seeds"), numbers(config.rows, "rows")
    columns = numbers(config.columns, "columns")
    truncations, sheet = config.truncation_sheet, config.sheet
    if not (seeds or rows or truncations or sheet or config.npz):
        seeds, rows, columns = list(range(4)), list(range(4)), list(range(4, 8))
        truncations, sheet = (0.0, 0.3, 0.5, 0.7, 1.0), 64
    written: list[Path] = []
    with distributed.start(config.device, seed=config.seed) as world:
        if not world.is_main:
            return []
        weights = load_weights(source, use_average=config.use_average, device=world.device)
        out.mkdir(parents=True, exist_ok=True)
        written += write_seeds(config, weights, seeds, out)
        if rows:
            written += write_mixtures(config, weights, (rows, columns), out)
        if truncations:
            path = out / "truncation.png"
            shown = seeds[:8] or range(8)
            written.append(
                truncation_sheet(
                    weights.generator, shown, truncations, path,
                    label=config.label, lod=weights.lod,
                )
            )  # fmt: skip
        sampler = build_sampler(config, weights)
        if sheet:
            written.append(save_sheet(sampler(sheet), out / "sheet.png", max(1, round(sheet**0.5))))
        if config.npz:
            written.append(write_npz(sampler, out / "samples.npz", config.npz))
    return written


def build_sampler(config: SampleConfig, weights: Weights) -> Sampler:
    """A sampler with its own stream from ``config.seed``."""
    return Sampler(
        weights.generator,
        seed=config.seed,
        truncation=config.sheet_truncation,
        lod=weights.lod,
        batch_size=config.batch_size,
        label=config.label,
    )


def write_seeds(
    config: SampleConfig, weights: Weights, seeds: Sequence[int], out: Path
) -> list[Path]:
    """``seedNNNN.png`` for every seed."""
    written = []
    for seed in seeds:
        image = seeded_image(
            weights.generator,
            seed,
            truncation=config.truncation,
            label=config.label,
            lod=weights.lod,
        )
        written.append(out / f"seed{seed:04d}.png")
        save_image(to_bytes(image.cpu()), written[-1])
    return written


def write_mixtures(
    config: SampleConfig, weights: Weights, seeds: tuple[list[int], list[int]], out: Path
) -> list[Path]:
    """``ROW-COLUMN.png`` for every pair, ``SEED-SEED.png`` for every seed, and ``grid.png``."""
    rows, columns = seeds
    generator = weights.generator
    layers = [
        layer
        for layer in numbers(config.mixing_layers, "mixing-layers")
        if layer < generator.num_layers
    ]
    of_rows, of_columns = (
        seeded_styles(generator, part, truncation=config.truncation, label=config.label)
        for part in seeds
    )
    images = style_mixing_images(generator, of_rows, of_columns, layers, weights.lod)
    folder = out / "mixing"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for (m, n), image in images.items():
        row, column = rows[m] if m >= 0 else columns[n], columns[n] if n >= 0 else rows[m]
        written.append(folder / f"{row}-{column}.png")
        save_image(to_bytes(image.cpu()), written[-1])
    written.append(style_mixing_sheet(images, folder / "grid.png"))
    return written


def write_npz(sampler: Sampler, path: Path, count: int) -> Path:
    """``x`` (N, 3, R, R), uint8, and ``y`` (N,): what the scoring of files reads."""
    pixels, labels = [], []
    for first in range(0, count, sampler.batch_size):
        images, drawn = sampler.draw(min(sampler.batch_size, count - first))
        pixels.append(to_bytes(images.cpu()).numpy())
        labels.append(drawn.cpu().numpy())
    np.savez(path, x=np.concatenate(pixels), y=np.concatenate(labels))
    return path
