"""All options of a StyleGAN2 training run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..checks import at_least, positive
from ..data.datasets import DataConfig, data_name
from ..runtime.precision import Precision
from ..scoring import ScoringOptions
from .config import (
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    Stylegan2Config,
)
from .schedule import Phase

# What does not change the result, or only how far the run goes, is no part of the folder's name.
OUTSIDE_DIGEST = (
    "run_dir", "name", "device", "log_kimg", "save_kimg", "evaluate_kimg", "sample_kimg", "keep",
    "keep_best", "best_metric", "sheet_images", "scoring",
)  # fmt: skip
# The schedule decides these at every moment of the run.
OF_THE_SCHEDULE = {
    "batch_size": "--schedule.device-batch-size",
    "num_accumulations": "--schedule.batch-size",
    "generator_lr": "--schedule.lr",
    "discriminator_lr": "--schedule.lr",
}


@dataclass(frozen=True)
class Stylegan2Train:
    """Train StyleGAN2 or FQ-StyleGAN. Run the same command again to continue a run."""

    run_dir: str = ""
    """Folder of the run; empty: runs/, the name, the data set and a digest of the options."""
    name: str = "stylegan2"
    """First word of the folder's name."""
    seed: int = 0
    """Of weights, order, augmentation, latents and labels."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Precision = "fp32"
    """The quantizer's dictionary, R1 and path length are fp32 in all of them."""
    channels_last: bool = False
    """Memory order that tensor cores prefer."""
    deterministic: bool = False
    """Only kernels that give the same bits every time (CUDA); slower."""
    initial_weights: str = ""
    """Folder of weights to go on from; of a run or of `fqgan convert`."""
    initial_kimg: float = 0.0
    """Thousands of images that --initial-weights have seen; the schedule goes on from there."""
    conditional: bool = False
    """Give the labels of the data set to both networks."""

    log_kimg: float = 4.0
    """Thousands of images between two rows of metrics.jsonl, the authors' tick."""
    save_kimg: float = 40.0
    """Thousands of images between two checkpoints."""
    evaluate_kimg: float = 40.0
    """Thousands of images between two scores; 0 scores never."""
    sample_kimg: float = 40.0
    """Thousands of images between two sheets; 0 writes none."""
    sheet_images: int = 64
    """Images on a sheet."""
    keep: int = 2
    """Newest checkpoints that stay."""
    keep_best: int = 1
    """Weights of the best scores that stay, in best0, best1, ..."""
    best_metric: Literal["fid", "inception_score"] = "fid"
    """What "best" means."""

    data: DataConfig = field(default_factory=DataConfig)
    mapping: MappingConfig = field(default_factory=MappingConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    step: StepConfig = field(default_factory=StepConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)

    def __post_init__(self) -> None:
        positive(self, "", "log_kimg", "save_kimg")
        at_least(self, evaluate_kimg=0, sample_kimg=0, initial_kimg=0)
        at_least(self, keep=1, keep_best=1, sheet_images=1)
        for name, option in OF_THE_SCHEDULE.items():
            if getattr(self.step, name) != getattr(StepConfig, name):
                given = f"--step.{name.replace('_', '-')} {getattr(self.step, name)}"
                raise ValueError(f"{given}: the schedule of a run decides this; give {option}")
        self.networks(2)  # raises where the parts do not fit each other

    def networks(self, num_classes: int) -> Stylegan2Config:
        """The networks of this run for a data set of ``num_classes`` classes."""
        return Stylegan2Config(
            resolution=self.data.resolution,
            label_size=num_classes if self.conditional else 0,
            mapping=self.mapping,
            generator=self.generator,
            discriminator=self.discriminator,
            quantizer=self.quantizer,
        )

    @property
    def total_images(self) -> int:
        """Images after which the run ends."""
        return round(self.schedule.total_kimg * 1000)

    @property
    def folder(self) -> Path:
        """Where the run is."""
        if self.run_dir:
            return Path(self.run_dir)
        plain = dataclasses.asdict(self)
        plain["data"].pop("workers")
        plain["schedule"].pop("total_kimg")
        kept = {name: value for name, value in plain.items() if name not in OUTSIDE_DIGEST}
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
        return Path("runs") / f"{self.name}-{data_name(self.data)}-{digest}"


def share_phase(phase: Phase, processes: int) -> tuple[int, int]:
    """The batch of one pass and the number of passes of each of ``processes``.

    A pass takes ``phase.device_batch_size`` images where that many can be dealt out, else the
    process's whole share.

    Raises:
        ValueError: the batch cannot be shared evenly.
    """
    share, rest = divmod(phase.batch_size, processes)
    device_batch = min(phase.device_batch_size, share)
    if rest or share % device_batch:
        raise ValueError(
            f"--schedule.batch-size {phase.batch_size} cannot be shared by {processes} processes "
            f"with passes of --schedule.device-batch-size {phase.device_batch_size}; choose a "
            "multiple of their product"
        )
    return device_batch, share // device_batch
