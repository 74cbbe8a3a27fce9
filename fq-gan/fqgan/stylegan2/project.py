"""``fqgan project``: styles and noise for generated images and for images of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..data.batches import some
from ..data.datasets import DataConfig, build_images
from ..data.images import normalize, to_bytes
from ..metrics.features import build_extractor
from ..metrics.lpips import load_lpips
from ..runtime import distributed
from ..runtime.command import parse
from ..sheets import save_image
from ..weight_files import run_of, weights_of_run
from .generator import Generator
from .options import Stylegan2Train
from .projection import Distance, ProjectionConfig, feature_distance, project, rendered
from .sampling import numbers, repeated_label, seeded_image
from .weights import load_weights


@dataclass(frozen=True)
class ProjectConfig:
    """Project images into the styles of a generator of StyleGAN2. A run brings its data."""

    run_dir: str = ""
    """Folder of a run."""
    best: bool = False
    """Of a run: the weights with the best score instead of the newest."""
    weights: str = ""
    """Folder of weights, from a run or from `fqgan convert`."""
    out: str = ""
    """Where images go; empty: projections/ in the folder of the run or of the weights."""
    seeds: tuple[str, ...] = ()
    """Project generated images: seeds such as 66 230 or 85-100."""
    num_images: int = 0
    """Project so many images of the data set, a fixed random choice (the authors: 3)."""
    truncation: float = 1.0
    """psi of the generated images."""
    label: int | None = None
    """Class of a conditional generator."""
    num_snapshots: int = 5
    """Images on the way that are written, the last step's among them."""
    features: Literal["lpips", "inception", "inception-torch", "squeezenet", "random"] = "lpips"
    """What images are compared by; all but lpips are a stand-in and add the pixels' distance."""
    feature_weights: str = ""
    """File of VGG-16 for lpips, empty: of `fqgan prepare lpips`; else as --scoring.weights."""
    lpips_heads: str = ""
    """File of LPIPS' linear layers; empty likewise."""
    pixel_weight: float = 1.0
    """Weight of the pixels' squared distance, where the features are not lpips."""
    device: str = "auto"
    """auto, cpu or cuda."""
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if self.run_dir and self.weights:
            raise ValueError("give only one of --run-dir and --weights")
        if self.num_images < 0 or self.num_snapshots < 1:
            raise ValueError(
                "--num-images must not be negative and --num-snapshots at least 1, got "
                f"{self.num_images} and {self.num_snapshots}"
            )
        numbers(self.seeds, "seeds")


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan project --run-dir RUN --seeds 66 230 --features random``."""
    run = run_of(Stylegan2Train, argv)
    default = ProjectConfig() if run is None else ProjectConfig(data=run.data)
    for path in project_images(parse(ProjectConfig, argv, "fqgan project", default=default)):
        print(path)


def project_images(config: ProjectConfig) -> list[Path]:
    """Project what ``config`` names; returns the files.

    Every image gives ``PREFIXtarget.png``, ``PREFIXstepNNNN.png`` for the snapshots, and
    ``PREFIXprojected.npz`` with ``style`` (1, W), ``noise0``, ... and ``distance`` (steps,).
    """
    if not (config.run_dir or config.weights):
        raise ValueError("nothing to project into: give --run-dir or --weights")
    if not (config.seeds or config.num_images):
        raise ValueError("nothing to project: give --seeds or --num-images")
    source = Path(config.weights or weights_of_run(config.run_dir, best=config.best))
    out = Path(config.out or Path(config.run_dir or config.weights) / "projections")
    written: list[Path] = []
    with distributed.start(config.device, seed=config.projection.seed) as world:
        if not world.is_main:
            return []
        distance = build_distance(config, world.device)
        generator = load_weights(source, device=world.device).generator.requires_grad_(False)
        out.mkdir(parents=True, exist_ok=True)
        for prefix, target in targets(config, generator):
            target = target[None].to(world.device)
            written += write_projection(config, generator, target, distance, out / prefix)
    return written


def targets(config: ProjectConfig, generator: Generator) -> Iterator[tuple[str, Tensor]]:
    """Prefixes of files and images (3, R, R): first the generated, then the real ones."""
    for seed in numbers(config.seeds, "seeds"):
        image = seeded_image(generator, seed, truncation=config.truncation, label=config.label)
        yield f"seed{seed:04d}-", image
    if config.num_images:
        images = build_images(config.data)
        if images.resolution != generator.resolution:
            raise ValueError(
                f"--data.resolution {images.resolution}: this generator makes images of "
                f"{generator.resolution} pixels"
            )
        pixels = normalize(images.read(some(len(images), config.num_images)))
        for number, image in enumerate(pixels):
            yield f"image{number:04d}-", image


def build_distance(config: ProjectConfig, device: torch.device) -> Distance:
    """The distance of ``config.features``; raises where its weights are missing."""
    if config.features == "lpips":
        try:
            return load_lpips(config.feature_weights, config.lpips_heads).to(device)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"--features lpips: {error} with --feature-weights or --lpips-heads; without them "
                "choose squeezenet or random"
            ) from None
    extractor = build_extractor(config.features, weights=config.feature_weights, device=device)
    return feature_distance(extractor, config.pixel_weight)


def snapshot_steps(num_steps: int, count: int) -> set[int]:
    """``count`` steps evenly spaced over the run, the last one among them."""
    return set((num_steps - np.linspace(0, num_steps, count, endpoint=False, dtype=int)).tolist())


def write_projection(
    config: ProjectConfig, generator: Generator, target: Tensor, distance: Distance, prefix: Path
) -> list[Path]:
    """Project ``target`` (1, 3, R, R) and write its files; returns them."""
    shown = snapshot_steps(config.projection.num_steps, config.num_snapshots)
    written = [Path(f"{prefix}target.png")]
    save_image(to_bytes(target[0].cpu()), written[0])
    labels = repeated_label(generator, config.label, 1)
    distances = []
    for moment in project(generator, target, distance, config.projection, labels):
        distances.append(float(moment.distance))
        if moment.step in shown:
            written.append(Path(f"{prefix}step{moment.step:04d}.png"))
            save_image(to_bytes(rendered(generator, moment)[0].cpu()), written[-1])
    maps: dict[str, Any] = {
        f"noise{number}": part[0].cpu().numpy() for number, part in enumerate(moment.noise)
    }
    written.append(Path(f"{prefix}projected.npz"))
    np.savez(written[-1], style=moment.style[0].cpu().numpy(), distance=distances, **maps)
    return written
