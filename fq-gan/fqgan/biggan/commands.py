"""``fqgan sample`` and ``fqgan evaluate`` of BigGAN: sheets, files, truncation curves, scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ..data.datasets import READ_BY, DataConfig, data_name
from ..data.images import to_bytes
from ..data.sets import read_samples
from ..pictures import check_video, save_image, write_npz
from ..runs import Samples, Source, WeightOptions, run_of
from ..runtime import distributed
from ..runtime.command import parse
from ..runtime.files import json_text
from ..runtime.options import at_least, option, positive
from ..scoring import (
    PUBLISHED_IMAGES,
    ScoringOptions,
    open_extractor,
    open_scorer,
    print_evaluation,
    record_evaluation,
    score_samples,
)
from .config import SampleStatistics
from .sampling import (
    Sampler,
    Weights,
    build_sampler,
    class_sheet,
    interpolation_sheets,
    interpolation_video,
    load_weights,
    random_sheet,
)

Drawing = TypeVar("Drawing", bound="DrawOptions")
PUBLISHED = {"num_images": PUBLISHED_IMAGES}
"""What is behind the published figures."""


@dataclass(frozen=True)
class DrawOptions(WeightOptions):
    """From what images are drawn, and how. A run brings its own settings."""

    use_average: bool = True
    """Draw from the moving average of G; False draws from G itself."""
    sample_statistics: SampleStatistics = "running"
    """Norm statistics of samples: of training, of their own batch, or newly collected ones."""
    standing_batches: int = 16
    """Batches behind "standing" statistics."""
    z_std: float = 1.0
    """Truncation: deviation of the noise (the authors' z_var); smaller is truer and duller."""
    seed: int = 0
    """Of noise and labels."""
    device: str = "auto"
    """auto, cpu or cuda."""
    data: DataConfig = field(default_factory=DataConfig)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "", "z_std")

    def open_weights(self, source: Source, device: torch.device) -> Weights:
        """The weights at ``source``."""
        average = self.use_average
        return load_weights(source.folder, use_average=average, step=source.step, device=device)

    def sampler(self, weights: Weights, batch_size: int, z_std: float = 0.0) -> Sampler:
        """A sampler with its own stream from ``seed``; ``z_std`` of the options where it is 0."""
        return build_sampler(
            weights.generator, seed=self.seed, std=z_std or self.z_std,
            statistics=self.sample_statistics, standing_batches=self.standing_batches,
            batch_size=batch_size,
        )  # fmt: skip


def of_run(options: type[Drawing], argv: Sequence[str]) -> Drawing:
    """``options`` with the settings of the run that ``argv`` names as defaults."""
    if (found := run_of(argv, "biggan")) is None:
        return options()
    run = found.config
    more = {"batch_size": run.step.batch_size} if hasattr(options, "batch_size") else {}
    return options(
        sample_statistics=run.sample_statistics, standing_batches=run.standing_batches,
        data=run.data, scoring=run.scoring, **more,
    )  # fmt: skip


@dataclass(frozen=True)
class SampleConfig(DrawOptions):
    """Draw images from a run or from a folder of weights. A run brings its own settings."""

    out: str = ""
    """Where images go; empty: samples/ in the folder of the run or of the weights."""
    sheets: bool = False
    """Sheets with one row a class."""
    random_sheet: bool = False
    """A sheet of random classes."""
    interpolations: int = 0
    """Number of sheets between two latents, for noise, class, and both."""
    video: str = ""
    """Write a video, a name in --out with .gif or .mp4, of a way through --classes (at most 12)."""
    video_seconds: float = 8.0
    """Its length."""
    titles: bool = True
    """Write the names of the classes beside the rows of --sheets."""
    npz: int = 0
    """Write so many images to samples.npz (x: uint8 NCHW, y: labels)."""
    each: int = 0
    """Write so many PNG files of every class, into a folder for each class."""
    truncation_curve: tuple[float, float, float] | None = None
    """FIRST STEP LAST standard deviations of the noise; scores each, as the authors do."""
    classes: tuple[str, ...] = ()
    """Names or numbers of the classes of --sheets and --each; default all."""
    columns: int = 10
    """Images in a row of --sheets."""
    classes_per_sheet: int = 20
    """Rows of one sheet."""
    batch_size: int = 64
    """Images in one pass."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, columns=1, classes_per_sheet=1, batch_size=1)
        at_least(self, interpolations=0, npz=0, each=0)
        positive(self, "", "video_seconds")
        if self.video:
            check_video(self.video)
        if self.truncation_curve:
            first, step, last = self.truncation_curve
            if first <= 0 or step <= 0 or last < first:
                raise ValueError(
                    f"--truncation-curve {first} {step} {last}: FIRST and STEP must be positive "
                    "and LAST not below FIRST, such as 0.2 0.2 1.0"
                )


def sample_main(argv: Sequence[str]) -> None:
    """Run ``fqgan sample --run-dir runs/demo --sheets``."""
    default = of_run(SampleConfig, argv)
    for path in sample(parse(SampleConfig, argv, "fqgan sample", default=default)):
        print(path)


def sample(config: SampleConfig) -> list[Path]:
    """Write what ``config`` asks for, sheets of all kinds if nothing; returns the files."""
    source = config.source("biggan")
    out = Path(config.out) if config.out else source.home / "samples"
    asked = (
        config.sheets,
        config.random_sheet,
        config.interpolations,
        config.video,
        config.npz,
        config.each,
        config.truncation_curve,
    )
    with distributed.start(config.device, seed=config.seed) as world:
        weights = config.open_weights(source, world.device)
        out.mkdir(parents=True, exist_ok=True)
        sampler = config.sampler(weights, config.batch_size)
        labels = choose_classes(config, weights)
        written: list[Path] = []
        if config.sheets or not any(asked):
            for number, first in enumerate(range(0, len(labels), config.classes_per_sheet)):
                rows = labels[first : first + config.classes_per_sheet]
                path = out / f"samples{number}.png"
                titles = [class_names(weights)[row] for row in rows] if config.titles else ()
                written.append(class_sheet(sampler, path, rows, config.columns, titles))
        if config.random_sheet or not any(asked):
            written.append(random_sheet(sampler, out / "random_samples.png", config.batch_size))
        for number in range(config.interpolations if any(asked) else 1):
            written += interpolation_sheets(sampler, out, number=number)
        if config.video:
            frames = max(len(labels[:12]), round(config.video_seconds * 25), 4)
            path = out / config.video
            written.append(
                interpolation_video(sampler, path, labels[:12], frames=frames, per_second=25)
            )
        if config.npz:
            written.append(
                write_npz(sampler.draw, out / "samples.npz", config.npz, config.batch_size)
            )
        if config.each:
            written += write_each(sampler, out, labels, class_names(weights), config.each)
        if config.truncation_curve:
            written.append(write_truncation_curve(config, weights, out, world.device))
    return written


def class_names(weights: Weights) -> list[str]:
    """Names of all classes; numbers where the weights came without names."""
    return weights.class_names or [str(label) for label in range(weights.config.num_classes)]


def choose_classes(config: SampleConfig, weights: Weights) -> list[int]:
    """Labels of ``config.classes``; raises ``ValueError`` for a class there is not."""
    names = class_names(weights)
    known = {name: label for label, name in enumerate(names)}
    known |= {str(label): label for label in range(len(names)) if str(label) not in known}
    for name in config.classes:
        if name not in known:
            some = ", ".join(names[:10])
            raise ValueError(
                f"--classes {name}: these weights have {len(names)} classes, such as {some}; "
                "give names or numbers"
            )
    return [known[name] for name in config.classes] or list(range(len(names)))


def write_each(
    sampler: Sampler, out: Path, labels: Sequence[int], names: Sequence[str], count: int
) -> list[Path]:
    """``count`` files in ``OUT/CLASS/`` for every label."""
    paths = []
    for label in labels:
        folder = out / names[label].replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(to_bytes(sampler.of_classes([label], count).cpu())):
            paths.append(folder / f"{number:05d}.png")
            save_image(image, paths[-1])
    return paths


def write_truncation_curve(
    config: SampleConfig, weights: Weights, out: Path, device: torch.device
) -> Path:
    """``truncation.jsonl``: the scores at every standard deviation of the noise."""
    assert config.truncation_curve is not None
    first, step, last = config.truncation_curve
    scorer = open_scorer(config.scoring, config.data, device)
    path = out / "truncation.jsonl"
    rows = []
    for z_std in np.arange(first, last + step / 2, step):
        scores = scorer(config.sampler(weights, config.batch_size, float(z_std)))
        rows.append({"z_std": round(float(z_std), 6), **scores})
    path.write_text("".join(json_text(row) + "\n" for row in rows))
    return path


@dataclass(frozen=True)
class EvaluateConfig(DrawOptions):
    """Score one of: a run, a folder of weights, a samples.npz. A run brings its own settings."""

    samples: str = ""
    """File of samples, from `fqgan sample --npz`; gives the Inception score and pool moments."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples and (self.run_dir or self.weights):
            raise ValueError("give only one of --run-dir, --weights and --samples")

    def unused(self) -> dict[str, str]:
        """Options without an effect on these scores; see `refuse_unused`."""
        unused = {**self.data.unused(), **self.scoring.unused()}
        if self.sample_statistics != "standing":
            unused["--standing-batches"] = "it belongs to --sample-statistics standing; give that"
        reason = f"--scoring.moments {self.scoring.moments} takes the place of the data; drop it"
        if self.samples:
            reason = f"--samples {self.samples} are scored as they are; drop it"
            for name in ("num_images", "real_images", "moments", "batch_size"):
                unused[option(name, "scoring")] = reason
            for name in ("use_average", "sample_statistics", "standing_batches", "z_std", "seed"):
                unused[option(name)] = reason
        if self.samples or self.scoring.moments:
            unused |= {option(one.name, "data"): reason for one in fields(self.data)}
        return unused


def evaluate_main(argv: Sequence[str]) -> None:
    """Run ``fqgan evaluate --run-dir runs/demo``."""
    default = of_run(EvaluateConfig, argv)
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
    if not (config.run_dir or config.weights or config.samples):
        raise ValueError("nothing to score: give --run-dir, --weights or --samples")
    with distributed.start(config.device, seed=config.seed) as world:
        if not config.samples:
            return evaluate_weights(config, world.device)
        read_samples(config.samples)  # what is wrong with them is said first
        scoring = config.scoring
        extractor = open_extractor(scoring, world.device)
        if not extractor.classifies:
            raise ValueError(
                f"--samples gives the Inception score, and --scoring.features {scoring.features} "
                "do not classify; give inception or inception-torch"
            )
        scores = score_samples(
            config.samples, extractor, splits=scoring.splits, device=world.device
        )
        row = {**scores, "samples": config.samples}
        return record_evaluation(Path(config.samples).parent, row, extractor)


def open_samples(options: WeightOptions, *, seed: int, device: torch.device) -> Samples:
    """The images by which `evaluate` would score the same run or weights."""
    words = ["--run-dir", options.run_dir] if options.run_dir else []
    config = replace(of_run(EvaluateConfig, words), **vars(options), seed=seed)
    source = config.source("biggan")
    weights = config.open_weights(source, device)
    settings = {
        "weights": str(source.folder),
        "step": weights.step,
        "sample_statistics": config.sample_statistics,
    }
    size, number = config.scoring.batch_size, config.scoring.num_images
    return Samples(config.sampler(weights, size), size, number, settings)


def evaluate_weights(config: EvaluateConfig, device: torch.device) -> dict[str, Any]:
    """Score the generator of a run or of a folder of weights against the data set."""
    scoring = config.scoring
    source = config.source("biggan")
    weights = config.open_weights(source, device)
    scorer = open_scorer(scoring, config.data, device)
    sampler = config.sampler(weights, scoring.batch_size)
    row = {
        **scorer(sampler),
        "weights": str(source.folder),
        "step": weights.step,
        "data": data_name(config.data),
        "num_images": scoring.num_images,
        "real_images": scorer.num_real,
        "use_average": config.use_average,
        "sample_statistics": config.sample_statistics,
        "z_std": config.z_std,
        "seed": config.seed,
    }
    if scoring.moments:
        row["data"] = scoring.moments
    elif config.data.source in READ_BY["split"]:
        row["split"] = config.data.split
    parts = [number for number in (config.data.limit, scoring.real_images) if number]
    if parts and not scoring.moments:
        row["limit"] = min(parts)
    return record_evaluation(source.home, row, scorer.extractor, published=PUBLISHED)
