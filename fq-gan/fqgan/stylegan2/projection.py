"""Projection of images into styles and noise (Sec. 5 of StyleGAN2), and ``fqgan project``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.batches import fixed_choice
from ..data.datasets import DataConfig, build_images
from ..data.folders import visible
from ..data.images import is_image_name, normalize, require_images, to_bytes
from ..metrics.features import FeatureExtractor, build_extractor
from ..metrics.latent_space import load_lpips
from ..pictures import read_square, save_image
from ..runs import WeightOptions, run_of
from ..runtime import distributed
from ..runtime.command import parse
from ..runtime.options import at_least, option, positive, shown
from .networks import Generator
from .sampling import load_weights, noise_inputs, numbers, repeated_label, seeded_image

# Images (B, 3, H, W) in [-1, 1], generated and wanted -> (B,), 0 where they are alike.
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ProjectionConfig:
    """How an image is projected; the defaults are the authors'."""

    num_steps: int = 1000
    """Updates of style and noise."""
    style_samples: int = 10_000
    """Latents behind the mean and the spread of styles."""
    lr: float = 0.1
    """Learning rate between its ramps."""
    rampup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    rampdown: float = 0.25
    """Share of the steps in which it falls to zero."""
    style_noise: float = 0.05
    """Noise on the style, relative to the spread of styles, at first."""
    noise_rampdown: float = 0.75
    """Share of the steps after which the style has no noise any more."""
    regularization: float = 1e5
    """Weight of the auto-correlation of the noise maps."""
    seed: int = 123
    """Of the latents behind the statistics, and of the noise."""

    def __post_init__(self) -> None:
        at_least(self, "projection", num_steps=1, style_samples=1, style_noise=0, regularization=0)
        positive(self, "projection", "lr")
        for name in ("rampup", "rampdown", "noise_rampdown"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(
                    f"{option(name, 'projection')} must be in (0, 1], got {getattr(self, name)}"
                )


class Moment(NamedTuple):
    """The state of a projection after ``step`` updates."""

    step: int
    style: Tensor  # (B, 1, W), the same for all layers
    noise: list[Tensor]  # one map (B, 1, h, w) per layer
    distance: Tensor  # (B,)
    regularization: Tensor  # ()


def project(
    generator: Generator,
    target: Tensor,
    distance: Distance,
    config: ProjectionConfig | None = None,
    labels: Tensor | None = None,
) -> Iterator[Moment]:
    """Find style and noise for ``target`` (B, 3, R, R), in [-1, 1]; yields after every step.

    Args:
        generator: in eval mode, with parameters that need no gradient.
        target: images of the generator's resolution.
        distance: compares generated and wanted images, both at most 256 pixels wide.
        config: the authors' where absent.
        labels: (1,) class of the latents behind the mean style, for conditional generators.
    """
    config = config or ProjectionConfig()
    device = target.device
    random = torch.Generator().manual_seed(config.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(device)

    mean, spread = style_statistics(generator, config.style_samples, config.seed, labels)
    wanted = at_most_256(target)
    style = mean.expand(len(target), 1, -1).clone().requires_grad_()
    noise = [
        normal(len(target), *buffer.shape[1:]).requires_grad_()
        for buffer in noise_inputs(generator)
    ]
    optimizer = torch.optim.Adam([style, *noise], lr=config.lr)
    for step in range(config.num_steps):
        done = step / config.num_steps
        strength = spread * config.style_noise * max(0.0, 1 - done / config.noise_rampdown) ** 2
        for group in optimizer.param_groups:
            group["lr"] = config.lr * ramp(done, config.rampup, config.rampdown)
        shaken = style + normal(*style.shape) * strength
        images = generator.synthesis(shaken.expand(-1, generator.num_layers, -1), noise)
        found = distance(at_most_256(images), wanted)
        correlation = noise_correlation(noise)
        optimizer.zero_grad(set_to_none=True)
        (found.sum() + config.regularization * correlation).backward()
        optimizer.step()
        with torch.no_grad():
            for maps in noise:
                maps -= maps.mean(dim=(1, 2, 3), keepdim=True)
                maps *= maps.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
        yield Moment(
            step + 1, style.detach(), [maps.detach() for maps in noise],
            found.detach(), correlation.detach(),
        )  # fmt: skip


@torch.no_grad()
def rendered(generator: Generator, moment: Moment) -> Tensor:
    """The images (B, 3, R, R) of a projection so far."""
    styles = moment.style.expand(-1, generator.num_layers, -1)
    return generator.synthesis(styles, moment.noise)


@torch.no_grad()
def style_statistics(
    generator: Generator, count: int, seed: int, labels: Tensor | None = None
) -> tuple[Tensor, float]:
    """Mean (1, W) and spread of the styles of ``count`` latents of ``RandomState(seed)``.

    The spread is the root of the mean squared distance from the mean style.
    """
    device = generator.style_average.device
    latents = np.random.RandomState(seed).randn(count, generator.latent_dim)
    parts = [
        generator.styles(part.to(device), None if labels is None else labels.expand(len(part)))[
            :, 0
        ]
        for part in torch.from_numpy(latents).float().split(1000)
    ]
    styles = torch.cat(parts)
    mean = styles.mean(dim=0, keepdim=True)
    return mean, float((styles - mean).square().sum(dim=1).mean().sqrt())


def ramp(done: float, rampup: float, rampdown: float) -> float:
    """Factor of the learning rate after a share ``done`` of the steps: linear up, cosine down."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / rampdown))
    return down * min(1.0, done / rampup)


def noise_correlation(noise: Sequence[Tensor]) -> Tensor:
    """Squared correlation of maps (B, 1, h, w) with themselves, moved by one pixel; scalar.

    Every map is also looked at in halved sizes, down to 8; without this term the image hides in
    the noise.
    """
    total = noise[0].new_zeros(())
    for maps in noise:
        while True:
            for axis in (2, 3):
                alike = (maps * maps.roll(1, dims=axis)).mean(dim=(1, 2, 3))
                total = total + alike.square().sum()
            if maps.shape[-1] <= 8:
                break
            maps = F.avg_pool2d(maps, 2)
    return total


def at_most_256(images: Tensor) -> Tensor:
    """Average pixels of images (B, 3, R, R) until they are at most 256 wide."""
    factor = images.shape[-1] // 256
    return F.avg_pool2d(images, factor) if factor > 1 else images


def feature_distance(extractor: FeatureExtractor, pixel_weight: float = 1.0) -> Distance:
    """Squared distance of an extractor's features, relative to their size, plus that of pixels.

    A stand-in for LPIPS where its weights are not at hand. Deviation: the authors use LPIPS.
    """

    def distance(images: Tensor, wanted: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            ours, theirs = (extractor.extract(part.float()).pool for part in (images, wanted))
        size = theirs.square().mean(dim=1).clamp(min=1e-8)
        features = (ours - theirs).square().mean(dim=1) / size
        return features + pixel_weight * (images - wanted).square().mean(dim=(1, 2, 3))

    return distance


@dataclass(frozen=True)
class ProjectConfig(WeightOptions):
    """Project images into the styles of a generator of StyleGAN2. A run brings its data."""

    out: str = ""
    """Where images go; empty: projections/ in the folder of the run or of the weights."""
    input: tuple[str, ...] = ()
    """Project pictures of your own: files, or folders of them; their middle square is taken."""
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
        super().__post_init__()
        if self.num_images < 0 or self.num_snapshots < 1:
            raise ValueError(
                "--num-images must not be negative and --num-snapshots at least 1, got "
                f"{self.num_images} and {self.num_snapshots}"
            )
        at_least(self, pixel_weight=0)
        numbers(self.seeds, "seeds")


def project_main(argv: Sequence[str]) -> None:
    """Run ``fqgan project --run-dir RUN --seeds 66 230 --features random``."""
    run = run_of(argv, "stylegan2")
    default = ProjectConfig(data=run.config.data) if run else ProjectConfig()
    for path in project_images(parse(ProjectConfig, argv, "fqgan project", default=default)):
        print(path)


def project_images(config: ProjectConfig) -> list[Path]:
    """Project what ``config`` names; returns the files.

    Every image gives ``PREFIXtarget.png``, ``PREFIXstepNNNN.png`` for the snapshots, and
    ``PREFIXprojected.npz`` with ``style`` (1, W), ``noise0``, ... and ``distance`` (steps,).
    """
    if not (config.input or config.seeds or config.num_images):
        raise ValueError("nothing to project: give --input, --seeds or --num-images")
    source = config.source("stylegan2")
    out = Path(config.out) if config.out else source.home / "projections"
    written: list[Path] = []
    with distributed.start(config.device, seed=config.projection.seed) as world:
        if not world.is_main:
            return []
        weights = load_weights(source.folder, step=source.step, device=world.device)
        require_images(own_pictures(config.input))  # all, before the first is projected
        distance = build_distance(config, world.device)
        generator = weights.generator.requires_grad_(False)
        out.mkdir(parents=True, exist_ok=True)
        for prefix, target in targets(config, generator):
            target = target[None].to(world.device)
            written += write_projection(config, generator, target, distance, out / prefix)
    return written


def targets(config: ProjectConfig, generator: Generator) -> Iterator[tuple[str, Tensor]]:
    """Prefixes of files and images (3, R, R): own pictures, generated ones, those of the data."""
    for path in own_pictures(config.input):
        yield f"{path.stem}-", read_square(path, generator.resolution)[0]
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
        pixels = normalize(images.read(fixed_choice(len(images), config.num_images)))
        for number, image in enumerate(pixels):
            yield f"image{number:04d}-", image


def own_pictures(places: Sequence[str]) -> list[Path]:
    """The files that --input names; raises where there are none, or two would overwrite another."""
    found: list[Path] = []
    for name in places:
        place = Path(name)
        if not (name and place.exists()):
            raise FileNotFoundError(
                f"--input {shown(name)} does not exist; give a picture or a folder"
            )
        inside = [place]
        if place.is_dir():
            listed = (one for one in place.iterdir() if one.is_file() and visible(one.name))
            inside = sorted(filter(is_image_name, listed))
        if not inside:
            raise ValueError(f"--input {place} holds no image")
        found += inside
    names = [path.stem for path in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--input has two pictures called {twice[0]}; rename one of them")
    return found


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
    extractor = build_extractor(
        config.features, weights=config.feature_weights, device=device,
        options=("--features", "--feature-weights"),
    )  # fmt: skip
    return feature_distance(extractor, config.pixel_weight)


def snapshot_steps(num_steps: int, count: int) -> set[int]:
    """``count`` steps evenly spaced over the run, the last one among them."""
    return set((num_steps - np.linspace(0, num_steps, count, endpoint=False, dtype=int)).tolist())


def write_projection(
    config: ProjectConfig, generator: Generator, target: Tensor, distance: Distance, prefix: Path
) -> list[Path]:
    """Project ``target`` (1, 3, R, R) and write its files; returns them."""
    snapshots = snapshot_steps(config.projection.num_steps, config.num_snapshots)
    written = [Path(f"{prefix}target.png")]
    save_image(to_bytes(target[0].cpu()), written[0])
    labels = repeated_label(generator, config.label, 1)
    distances = []
    for moment in project(generator, target, distance, config.projection, labels):
        distances.append(float(moment.distance))
        if moment.step in snapshots:
            written.append(Path(f"{prefix}step{moment.step:04d}.png"))
            save_image(to_bytes(rendered(generator, moment)[0].cpu()), written[-1])
    maps: dict[str, Any] = {
        f"noise{number}": part[0].cpu().numpy() for number, part in enumerate(moment.noise)
    }
    written.append(Path(f"{prefix}projected.npz"))
    np.savez(written[-1], style=moment.style[0].cpu().numpy(), distance=distances, **maps)
    return written
