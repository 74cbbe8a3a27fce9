"""All options of a BigGAN training run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..checks import at_least
from ..data.datasets import DataConfig
from ..runtime.precision import Precision
from ..scoring import ScoringOptions
from .config import BigganConfig, DiscriminatorConfig, GeneratorConfig, QuantizerConfig
from .step import StepConfig

SampleStatistics = Literal["running", "batch", "standing"]


@dataclass(frozen=True)
class BigganTrain:
    """Train BigGAN or FQ-BigGAN. Run the same command again to continue a run."""

    run_dir: str = ""
    """Folder of the run; empty: runs/ and the experiment's name."""
    naming: Literal["described", "authors", "hashed"] = "described"
    """Experiment's name: the authors' and a digest, the authors' alone, or a digest alone."""
    name_suffix: str = ""
    """Last word of the experiment's name."""
    max_steps: int = 97_500
    """Iterations; each has step.num-d-steps updates of D and one of G."""
    seed: int = 0
    """Of weights, order, augmentation, noise and labels."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Precision = "fp32"
    """The quantizer's dictionary is fp32 in all of them."""
    channels_last: bool = True
    """Keep the channels of a pixel together: 8 to 20 % faster on a CPU, and what tensor cores
    prefer; False is the other order."""
    deterministic: bool = False
    """Only kernels that give the same bits every time (CUDA); slower."""
    initial_weights: str = ""
    """Folder of weights to fine-tune; of a run or of `fqgan convert`."""

    architecture: Literal["biggan", "biggan-deep"] = "biggan"
    """biggan-deep has bottleneck blocks."""
    init: Literal["ortho", "N02", "glorot", "none"] = "ortho"
    """Initial weights of convolutions, linear layers and embeddings."""
    bn_eps: float = 1e-5
    """Of batch norm; the output layer of G keeps 1e-5."""
    sn_eps: float = 1e-8
    """Of spectral norm."""
    use_average: bool = True
    """Keep a moving average of G and sample from it."""
    sample_statistics: SampleStatistics = "running"
    """Norm statistics of samples: of training, of their own batch, or newly collected ones."""
    standing_batches: int = 16
    """Batches behind "standing" statistics."""

    log_every: int = 50
    """Iterations between two rows of metrics.jsonl."""
    save_every: int = 1000
    """Iterations between two checkpoints."""
    evaluate_every: int = 1000
    """Iterations between two scores; 0 scores never."""
    sample_every: int = 1000
    """Iterations between two sheets; 0 writes none."""
    spectra_every: int = 0
    """Iterations between two rows of singular values in spectra.jsonl; 0 writes none."""
    keep: int = 2
    """Newest checkpoints that stay."""
    keep_best: int = 5
    """Weights of the best scores that stay, in best0, best1, ..."""
    best_metric: Literal["fid", "inception_score"] = "fid"
    """What "best" means."""

    data: DataConfig = field(default_factory=DataConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    step: StepConfig = field(default_factory=StepConfig)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)

    def __post_init__(self) -> None:
        at_least(self, max_steps=1, log_every=1, save_every=1, keep=1, keep_best=1)
        at_least(self, evaluate_every=0, sample_every=0, spectra_every=0)
        if self.sample_statistics == "standing" and self.standing_batches < 1:
            raise ValueError(
                f"--standing-batches must be at least 1 for --sample-statistics standing, "
                f"got {self.standing_batches}"
            )
        self.networks(2)  # raises where the parts do not fit each other

    def networks(self, num_classes: int) -> BigganConfig:
        """The networks of this run for a data set of ``num_classes`` classes."""
        return BigganConfig(
            resolution=self.data.resolution,
            num_classes=num_classes,
            architecture=self.architecture,
            init=self.init,
            bn_eps=self.bn_eps,
            sn_eps=self.sn_eps,
            generator=self.generator,
            discriminator=self.discriminator,
            quantizer=self.quantizer,
        )

    @property
    def folder(self) -> Path:
        """Where the run is."""
        from .naming import experiment_name

        return Path(self.run_dir) if self.run_dir else Path("runs") / experiment_name(self)


def share_step(step: StepConfig, processes: int) -> StepConfig:
    """``step`` for one of ``processes``, so that together they do what ``step`` says.

    Whole accumulations are dealt out where they divide evenly, which gives the same update as one
    process; otherwise every batch is split.

    Raises:
        ValueError: neither divides evenly.
    """
    replace = dataclasses.replace
    if step.num_d_accumulations % processes == 0 and step.num_g_accumulations % processes == 0:
        return replace(
            step,
            num_d_accumulations=step.num_d_accumulations // processes,
            num_g_accumulations=step.num_g_accumulations // processes,
        )
    if step.batch_size % processes == 0 and step.generator_batch_size % processes == 0:
        return replace(
            step,
            batch_size=step.batch_size // processes,
            generator_batch_size=step.generator_batch_size // processes,
        )
    raise ValueError(
        f"--step.batch-size {step.batch_size} with {step.num_d_accumulations} and "
        f"{step.num_g_accumulations} accumulations cannot be shared by {processes} processes; "
        "choose a multiple of the number of processes"
    )
