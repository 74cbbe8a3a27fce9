"""``fqgan sample`` and ``fqgan evaluate`` of StyleGAN2: images by seed, mixed styles, metrics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.batches import one_pass
from ..data.datasets import DataConfig, build_images, data_name
from ..data.images import Images, to_bytes
from ..metrics.distances import precision_recall
from ..metrics.features import FeatureExtractor, build_extractor
from ..metrics.latent_space import (
    LPIPS,
    VARIANTS,
    load_lpips,
    path_length,
    random_lpips,
    separability,
)
from ..metrics.statistics import collect
from ..pictures import check_video, save_image, save_sheet, square_columns, write_npz
from ..released.loading import require_complete
from ..released.stylegan2 import Snapshot, load_snapshot
from ..runs import Samples, WeightOptions, run_of
from ..runtime import distributed
from ..runtime.command import parse
from ..runtime.options import at_least, option, positive
from ..scoring import PUBLISHED_IMAGES, Scorer, ScoringOptions, print_evaluation, record_evaluation
from .networks import Generator
from .projection import at_most_256
from .sampling import (
    Sampler,
    Weights,
    labels_for,
    load_weights,
    numbers,
    seeded_image,
    seeded_styles,
    style_mixing_images,
    style_mixing_sheet,
    style_video,
    truncation_sheet,
)


@dataclass(frozen=True)
class SampleConfig(WeightOptions):
    """Draw images from a run or from a folder of weights of StyleGAN2."""

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
    video: str = ""
    """Write a video, .gif or .mp4, of a way through the styles of --seeds; a name in --out."""
    video_seconds: float = 8.0
    """Its length."""
    titles: bool = True
    """Write seeds and truncations beside --truncation-sheet."""
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
        super().__post_init__()
        if bool(self.rows) != bool(self.columns):
            raise ValueError("style mixing needs both --rows and --columns")
        at_least(self, batch_size=1, sheet=0, npz=0)
        positive(self, "", "video_seconds")
        if self.video:
            check_video(self.video)
        for name in ("seeds", "rows", "columns", "mixing_layers"):
            numbers(getattr(self, name), name.replace("_", "-"))


def sample_main(argv: Sequence[str]) -> None:
    """Run ``fqgan sample --run-dir runs/stylegan2-demo --seeds 0-9``."""
    default = SampleConfig()
    if found := run_of(argv, "stylegan2"):
        run = found.config
        default = SampleConfig(batch_size=run.schedule.device_batch_size)
    for path in sample(parse(SampleConfig, argv, "fqgan sample", default=default)):
        print(path)


def sample(config: SampleConfig) -> list[Path]:
    """Write what ``config`` asks for, a bit of everything if nothing; returns the files."""
    source = config.source("stylegan2")
    out = Path(config.out) if config.out else source.home / "samples"
    seeds, rows = numbers(config.seeds, "seeds"), numbers(config.rows, "rows")
    columns = numbers(config.columns, "columns")
    truncations, sheet = config.truncation_sheet, config.sheet
    if not (seeds or rows or truncations or sheet or config.npz or config.video):
        seeds, rows, columns = list(range(4)), list(range(4)), list(range(4, 8))
        truncations, sheet = (0.0, 0.3, 0.5, 0.7, 1.0), 64
    written: list[Path] = []
    with distributed.start(config.device, seed=config.seed) as world:
        if not world.is_main:
            return []
        weights = load_weights(
            source.folder, use_average=config.use_average, step=source.step, device=world.device
        )
        out.mkdir(parents=True, exist_ok=True)
        if config.video:
            through = seeds if len(seeds) > 1 else list(range(4))
            written.append(
                style_video(
                    weights.generator, through, out / config.video,
                    frames=max(len(through), round(config.video_seconds * 25)), per_second=25,
                    truncation=config.truncation, label=config.label, lod=weights.lod,
                )
            )  # fmt: skip
        else:
            written += write_seeds(config, weights, seeds, out)
        if rows:
            written += write_mixtures(config, weights, (rows, columns), out)
        if truncations:
            path = out / "truncation.png"
            shown = seeds[:8] or range(8)
            written.append(
                truncation_sheet(
                    weights.generator, shown, truncations, path,
                    label=config.label, lod=weights.lod, titles=config.titles,
                )
            )  # fmt: skip
        sampler = build_sampler(config, weights)
        if sheet:
            written.append(save_sheet(sampler(sheet), out / "sheet.png", square_columns(sheet)))
        if config.npz:
            written.append(
                write_npz(sampler.draw, out / "samples.npz", config.npz, config.batch_size)
            )
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


PUBLISHED = {
    "num_images": PUBLISHED_IMAGES,
    "path_pairs": 50_000,
    "separability_images": 200_000,
}
"""What is behind the published figures."""
Metric = Literal[
    "fid50k", "is50k", "pr50k3", "ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend", "ppl2_wend", "ls"
]  # fmt: skip
SCORES = {
    "fid50k": (
        "fid", "kid_x100", "kid_x100_std", "kid_x100_low", "kid_x100_high",
        "precision", "recall", "density", "coverage",
    ),
    "is50k": ("inception_score", "inception_score_std"),
}  # fmt: skip


@dataclass(frozen=True)
class EvaluateConfig(WeightOptions):
    """Score a run or a folder of weights of StyleGAN2. A run brings its own settings."""

    metrics: tuple[Metric, ...] = ("fid50k",)
    """What is computed; fid50k also gives KID, precision and recall on the same features."""
    use_average: bool = True
    """Score the moving average of G; False scores G itself."""
    truncation: float = 1.0
    """psi of the styles; the authors score without truncation."""
    vgg_weights: str = ""
    """File of VGG-16, for pr50k3 and path lengths; empty: that of `fqgan prepare lpips`."""
    lpips_heads: str = ""
    """File of LPIPS' linear layers, for path lengths; empty likewise."""
    random_lpips: bool = False
    """Path lengths by a network with random weights: offline, not comparable."""
    path_pairs: int = PUBLISHED["path_pairs"]
    """Pairs of images behind a path length."""
    classifiers: str = ""
    """Folder of the 40 attribute classifiers (NVlabs' pickles), for ls."""
    separability_images: int = PUBLISHED["separability_images"]
    """Images behind ls; the half that the classifiers are surest of counts."""
    seed: int = 0
    """Of latents and labels."""
    device: str = "auto"
    """auto, cpu or cuda."""
    data: DataConfig = field(default_factory=DataConfig)
    scoring: ScoringOptions = field(default_factory=lambda: ScoringOptions(features="inception"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.metrics:
            raise ValueError("--metrics is empty; give some, such as fid50k ppl2_wend")
        at_least(self, path_pairs=2, separability_images=2)

    @property
    def lengths(self) -> list[str]:
        """The path lengths among the metrics."""
        return [name for name in self.metrics if name in VARIANTS]

    @property
    def on_features(self) -> bool:
        """Whether there are metrics on the features of ``scoring``."""
        return bool({"fid50k", "is50k"}.intersection(self.metrics))

    def unused(self) -> dict[str, str]:
        """Options that none of the metrics needs; see `refuse_unused`."""
        unused = {**self.data.unused(), **self.scoring.unused()}
        reason = f"--metrics {' '.join(self.metrics)} does not need it; drop it, or ask for others"
        names = [option(one.name, "data") for one in fields(self.data)]
        if self.scoring.moments and "pr50k3" not in self.metrics:
            moments = f"--scoring.moments {self.scoring.moments} takes the place of the data"
            unused |= dict.fromkeys(names, f"{moments}; drop it")
        if not self.on_features:
            kept = ("batch_size", "num_images" if "pr50k3" in self.metrics else "")
            others = [one.name for one in fields(self.scoring) if one.name not in kept]
            unused |= {option(name, "scoring"): reason for name in others}
            unused |= dict.fromkeys(names if "pr50k3" not in self.metrics else (), reason)
        if not self.lengths:
            without = ["path_pairs", "lpips_heads", "random_lpips"]
            without += [] if "pr50k3" in self.metrics else ["vgg_weights"]
            unused |= {option(name): reason for name in without}
        if "ls" not in self.metrics:
            unused |= {"--classifiers": reason, "--separability-images": reason}
        return unused


def evaluate_main(argv: Sequence[str]) -> None:
    """Run ``fqgan evaluate --run-dir RUN --metrics fid50k ppl2_wend``."""
    default = EvaluateConfig()
    if found := run_of(argv, "stylegan2"):
        run = found.config
        default = EvaluateConfig(data=run.data, scoring=run.scoring)
    print_evaluation(
        evaluate(
            parse(
                EvaluateConfig,
                argv,
                "fqgan evaluate",
                default=default,
                unused=EvaluateConfig.unused,
            )
        )
    )


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score what ``config`` names and add a line to ``evaluations.jsonl`` beside it.

    Returns:
        The scores, and what they depend on: features and protocol, data, sample count, weights.
    """
    source = config.source("stylegan2")
    scoring, wanted = config.scoring, set(config.metrics)
    with distributed.start(config.device, seed=config.seed) as world:
        device = world.device
        weights = load_weights(
            source.folder, use_average=config.use_average, step=source.step, device=device
        )
        weights.generator.requires_grad_(False)
        # What is missing is said before anything is computed.
        needed = "pr50k3" in wanted or (config.on_features and not scoring.moments)
        images = build_images(config.data) if needed else None
        scorer = vgg = lpips = None
        if config.on_features:
            scorer = Scorer(scoring, images, device)
        if "pr50k3" in wanted:
            vgg = build_extractor("vgg16", weights=config.vgg_weights, device=device)
        lpips = build_lpips(config, device) if config.lengths else None
        classifiers = read_classifiers(config.classifiers, device) if "ls" in wanted else []

        row: dict[str, Any] = {}
        if scorer:
            row |= feature_scores(config, weights, scorer)
        if vgg and images:
            row |= manifold_scores(config, weights, images, vgg)
        if lpips:
            for name in config.lengths:
                row[name] = measured_path_length(name, config, weights, lpips)
            row["lpips"] = "random weights, not comparable" if config.random_lpips else "VGG-16"
            row["path_pairs"] = config.path_pairs
        if classifiers:
            row |= measured_separability(config, weights, classifiers)
            row["separability_images"] = config.separability_images
        row |= {
            "metrics": list(config.metrics),
            "weights": str(source.folder),
            "step": weights.step,
            "use_average": config.use_average,
            "truncation": config.truncation,
            "seed": config.seed,
        }
        if scorer or vgg:
            row |= {"data": data_name(config.data), "num_images": scoring.num_images}
        if scorer:
            row |= {"real_images": scorer.num_real}
            row |= {"data": scoring.moments} if scoring.moments else {}
        if images is not None and config.data.limit:
            row["limit"] = config.data.limit
        extractor = scorer.extractor if scorer else vgg
        return record_evaluation(source.home, row, extractor, published=PUBLISHED)


def open_samples(options: WeightOptions, *, seed: int, device: torch.device) -> Samples:
    """The images by which `evaluate` would score the same run or weights."""
    scoring = EvaluateConfig().scoring
    if options.run_dir and (found := run_of(["--run-dir", options.run_dir], "stylegan2")):
        scoring = found.config.scoring
    config = EvaluateConfig(**vars(options), seed=seed, scoring=scoring)
    source = config.source("stylegan2")
    weights = load_weights(source.folder, step=source.step, device=device)
    settings = {"weights": str(source.folder), "step": weights.step}
    sampler = metric_sampler(config, weights)
    return Samples(sampler, scoring.batch_size, scoring.num_images, settings)


def feature_scores(config: EvaluateConfig, weights: Weights, scorer: Scorer) -> dict[str, float]:
    """``fid50k`` and ``is50k`` on the features of ``config.scoring``."""
    found = scorer(metric_sampler(config, weights))
    if "is50k" in config.metrics and "inception_score" not in found:
        raise ValueError(
            f"is50k needs features that classify; --scoring.features {config.scoring.features} "
            "do not: give inception"
        )
    kept = [name for metric in SCORES if metric in config.metrics for name in SCORES[metric]]
    return {name: found[name] for name in kept if name in found}


def manifold_scores(
    config: EvaluateConfig, weights: Weights, images: Images, extractor: FeatureExtractor
) -> dict[str, float]:
    """``pr50k3``: precision and recall of VGG-16 features, of all images (Kynkaanniemi 2019)."""
    batch_size, count = config.scoring.batch_size, config.scoring.num_images
    device, sampler = weights.generator.style_average.device, metric_sampler(config, weights)
    total = min(count, len(images))
    real, fake = (
        collect(extractor, batches, number, max_features=number, keep_logits=False).features
        for batches, number in (
            ((b.images for b in one_pass(images, batch_size, device=device, limit=total)), total),
            ((sampler(batch_size) for _ in itertools.count()), count),
        )
    )
    found = precision_recall(real.to(device), fake.to(device))
    return {"pr50k3_precision": found.precision, "pr50k3_recall": found.recall}


def metric_sampler(config: EvaluateConfig, weights: Weights) -> Sampler:
    """The same latents for every metric."""
    return Sampler(
        weights.generator,
        seed=config.seed,
        truncation=config.truncation,
        lod=weights.lod,
        batch_size=config.scoring.batch_size,
    )


def build_lpips(config: EvaluateConfig, device: torch.device) -> LPIPS:
    """LPIPS from local files; raises ``FileNotFoundError`` where they are not there."""
    if config.random_lpips:
        return random_lpips(config.seed).to(device)
    try:
        return load_lpips(config.vgg_weights, config.lpips_heads).to(device)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"path lengths: {error} with --vgg-weights or --lpips-heads; --random-lpips compares "
            "our own runs without them"
        ) from None


def measured_path_length(
    name: str,
    config: EvaluateConfig,
    weights: Weights,
    distance: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """One of the five path lengths, in the network's own noise."""
    generator = weights.generator
    latents = metric_sampler(config, weights).latents

    def styles(z: Tensor) -> Tensor:
        return generator.styles(z, spread_labels(generator, len(z)), truncation=config.truncation)

    found = path_length(
        VARIANTS[name],
        draw_latents=lambda count: latents(count).z,
        map_latents=styles,
        synthesize=lambda w: generator.synthesis(w, noise="fixed", lod=weights.lod).float(),
        distance=distance,
        num_pairs=config.path_pairs,
        batch_size=max(1, config.scoring.batch_size // 2),
    )
    return float(found.mean)


@torch.no_grad()
def measured_separability(
    config: EvaluateConfig, weights: Weights, classifiers: Sequence[Snapshot]
) -> dict[str, float]:
    """``ls_z`` and ``ls_w``: how far attributes are from being separable by a plane."""
    generator = weights.generator
    draw = metric_sampler(config, weights).latents
    share = -(-config.separability_images // distributed.world_size())
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for first in range(0, share, config.scoring.batch_size):
        latents = draw(min(config.scoring.batch_size, share - first)).z
        styles = generator.styles(
            latents, spread_labels(generator, len(latents)), truncation=config.truncation
        )
        images = at_most_256(generator.synthesis(styles, "random", weights.lod).float())
        logits = [classify(classifier, images) for classifier in classifiers]
        parts.append((latents.cpu(), styles[:, 0].cpu(), torch.stack(logits, dim=1).cpu()))
    own = tuple(torch.cat(column) for column in zip(*parts, strict=True))
    ranks = distributed.gather_objects(own)
    z, w, said = (torch.cat(column) for column in zip(*ranks, strict=True))
    return {
        "ls_z": separability(z, said).score,
        "ls_w": separability(w, said).score,
        "ls_attributes": len(classifiers),  # published figures are of 40
    }


def read_classifiers(folder: str, device: torch.device) -> list[Snapshot]:
    """The attribute classifiers of ``folder``; raises ``FileNotFoundError`` where it has none."""
    # The authors' folder has their other networks for metrics too.
    paths = sorted(Path(folder).glob("*classifier*.pkl")) if folder else []
    if not paths:
        raise FileNotFoundError(
            f"ls needs --classifiers, a folder with the attribute classifiers of the StyleGAN "
            f"authors (celebahq-classifier-NN-NAME.pkl); {folder or 'none'} holds none of them"
        )
    found = [load_snapshot(path) for path in paths]
    for path, snapshot in zip(paths, found, strict=True):
        require_complete(snapshot.reports, path)
        if snapshot.discriminator is None:
            raise ValueError(f"{path} holds no classifier, which has the form of a discriminator")
        snapshot.discriminator.to(device)
    return found


def classify(classifier: Snapshot, images: Tensor) -> Tensor:
    """What one classifier says about images (B, 3, R, R): (B,), positive for the attribute."""
    assert classifier.discriminator is not None
    if images.shape[-1] != classifier.config.resolution:
        raise ValueError(
            f"the attribute classifiers look at {classifier.config.resolution} pixels, these "
            f"images have {images.shape[-1]}; ls is for generators of 256 pixels and more"
        )
    return classifier.discriminator(images, lod=classifier.lod, quantize=False).logits


def spread_labels(generator: Generator, count: int) -> Tensor | None:
    """Classes 0, 1, ... in turn for ``count`` images; None without classes."""
    classes = torch.arange(count, device=generator.style_average.device)
    return labels_for(classes % max(1, generator.label_size), generator.label_size)
