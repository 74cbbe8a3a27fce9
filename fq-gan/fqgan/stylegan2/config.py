"""Settings of the networks of StyleGAN2 and of its first version, and of one training iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..checks import at_least, positive
from ..quantizer_options import QuantizerOptions

GeneratorArchitecture = Literal["skip", "orig", "resnet", "growing", "stylegan1"]
DiscriminatorArchitecture = Literal["resnet", "orig", "skip", "growing", "stylegan1"]
GeneratorLoss = Literal["logistic_ns", "logistic", "wgan"]
DiscriminatorLoss = Literal["logistic", "wgan"]

LEGACY = ("growing", "stylegan1")
# Codes per quantized layer, by log2 of the resolution that enters the block (the authors' table).
CODEBOOK_SIZES = {2: 128, 3: 128, 4: 128, 5: 128, 6: 128}
LARGE_CODEBOOK_SIZE = 64  # at 128x128 and above


@dataclass(frozen=True)
class MappingConfig:
    """The network from z to w."""

    latent_dim: int = 512
    """Size of z."""
    style_dim: int = 512
    """Size of w."""
    hidden_dim: int = 512
    """Width of the layers between."""
    num_layers: int = 8
    """Dense layers."""
    lr_multiplier: float = 0.01
    """Learning rate of these layers relative to the others."""

    def __post_init__(self) -> None:
        at_least(self, "mapping", latent_dim=1, style_dim=1, hidden_dim=1, num_layers=1)
        positive(self, "mapping", "lr_multiplier")


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator."""

    architecture: GeneratorArchitecture = "skip"
    """skip, orig, resnet (config e and f); growing (configs b to d); stylegan1 (config a)."""
    channel_base: int = 8192
    """Width: resolution R has channel-base / (R / 2) channels, at most channel-max."""
    channel_max: int = 512
    """Largest width."""
    fir: tuple[int, ...] = (1, 3, 3, 1)
    """Filter of up- and downsampling; empty: nearest neighbours and averages."""
    style_mixing: float = 0.9
    """Share of the batches whose layers take their styles from two latents."""
    average_decay: float = 0.995
    """Decay of the average style that truncation pulls towards, per forward pass in training."""

    def __post_init__(self) -> None:
        at_least(self, "generator", channel_base=1, channel_max=1)
        if not 0.0 <= self.style_mixing <= 1.0:
            raise ValueError(f"--generator.style-mixing must be in [0, 1], got {self.style_mixing}")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator."""

    architecture: DiscriminatorArchitecture = "resnet"
    """resnet, orig, skip (config e and f); growing (configs b to d); stylegan1 (config a)."""
    channel_base: int = 8192
    """Width: resolution R has channel-base / (R / 2) channels, at most channel-max."""
    channel_max: int = 512
    """Largest width."""
    fir: tuple[int, ...] = (1, 3, 3, 1)
    """Filter of downsampling; empty: averages. stylegan1 blurs with (1, 2, 1) unless empty."""
    group_size: int = 4
    """Images whose deviation is one feature of the last block; 0 leaves the feature out."""
    group_features: int = 1
    """Number of such features."""

    def __post_init__(self) -> None:
        at_least(
            self, "discriminator", channel_base=1, channel_max=1, group_features=1, group_size=0
        )


@dataclass(frozen=True)
class QuantizerConfig(QuantizerOptions):
    """Feature quantization in the discriminator."""

    layers: tuple[int, ...] = (4, 5)
    """Blocks, by log2 of the resolution that enters them; none at all is plain StyleGAN2."""
    codebook_size: int = 0
    """Number of codes per layer; 0: the authors', 128 below 128x128 and 64 from there on."""

    def codes_at(self, layer: int) -> int:
        """K of block ``layer``."""
        return self.codebook_size or CODEBOOK_SIZES.get(layer, LARGE_CODEBOOK_SIZE)


@dataclass(frozen=True)
class Stylegan2Config:
    """Both networks."""

    resolution: int = 1024
    """Side of the images, a power of two from 8."""
    num_channels: int = 3
    """Channels of the images."""
    label_size: int = 0
    """Size of the label vectors; 0: unconditional."""
    mapping: MappingConfig = field(default_factory=MappingConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"--resolution must be a power of two from 8, got {self.resolution}")
        if self.label_size < 0 or self.num_channels < 1:
            raise ValueError("label vectors and images need sizes that are not negative")
        wrong = [n for n in self.quantizer.layers if not 3 <= n <= self.levels]
        if wrong:
            raise ValueError(
                f"--quantizer.layers has {wrong[0]}, but at {self.resolution} pixels the blocks "
                f"are 3 to {self.levels} (log2 of the resolution that enters them)"
            )
        if self.quantizer.layers and self.discriminator.architecture in LEGACY:
            raise ValueError(
                f"--discriminator.architecture {self.discriminator.architecture} has no feature "
                "quantization; leave --quantizer.layers empty or take resnet, orig or skip"
            )
        if (self.generator.architecture in LEGACY) != (self.discriminator.architecture in LEGACY):
            raise ValueError(
                "--generator.architecture and --discriminator.architecture must both grow "
                "(growing, stylegan1) or both not"
            )

    @property
    def levels(self) -> int:
        """log2 of the resolution."""
        return int(math.log2(self.resolution))

    @property
    def num_layers(self) -> int:
        """Layers of the generator that take a style of their own."""
        return 2 * self.levels - 2

    @property
    def growing(self) -> bool:
        """Whether training begins with small images."""
        return self.discriminator.architecture in LEGACY


def channels_at(config: GeneratorConfig | DiscriminatorConfig, stage: int) -> int:
    """Width of ``stage`` = log2(resolution) - 1, between 1 and ``channel_max``."""
    return min(max(config.channel_base >> stage, 1), config.channel_max)


@dataclass(frozen=True)
class StepConfig:
    """One training iteration: updates of G and D, and of the regularizers that are due."""

    batch_size: int = 4
    """Images per forward pass and process."""
    num_accumulations: int = 1
    """Batches per update."""
    generator_lr: float = 0.002
    """Adam's learning rate for G, before the correction for lazy regularization."""
    discriminator_lr: float = 0.002
    """Adam's learning rate for D, likewise."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decay rates, likewise."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    generator_loss: GeneratorLoss = "logistic_ns"
    """Non-saturating logistic, saturating logistic, or Wasserstein."""
    discriminator_loss: DiscriminatorLoss = "logistic"
    """Logistic or Wasserstein."""
    r1_weight: float = 10.0
    """gamma of R1, the squared gradient of D's scores at real images; 0: without."""
    r2_weight: float = 0.0
    """gamma of R2, the same at generated images."""
    gradient_penalty_weight: float = 0.0
    """Weight of WGAN-GP's penalty between real and generated images."""
    drift_weight: float = 0.0
    """Weight of the squared scores of real images (WGAN-GP: 0.001)."""
    discriminator_every: int = 16
    """Iterations between two regularizations of D; 0: part of every loss (configs a and b)."""
    path_length_weight: float = 2.0
    """Weight of path length regularization; 0: without (configs a to c)."""
    path_length_decay: float = 0.01
    """How fast the mean path length follows."""
    path_length_shrink: int = 2
    """The batch for path lengths is so many times smaller."""
    generator_every: int = 4
    """Iterations between two regularizations of G; 0: part of every loss."""
    average_kimg: float = 10.0
    """Half-life of the average of G, in thousands of images."""
    skip_nonfinite: bool = True
    """Leave out updates whose gradients are not finite, as the authors do."""

    def __post_init__(self) -> None:
        at_least(
            self, "step", batch_size=1, num_accumulations=1, path_length_shrink=1,
            discriminator_every=0, generator_every=0, average_kimg=0, r1_weight=0, r2_weight=0,
            gradient_penalty_weight=0, drift_weight=0, path_length_weight=0,
        )  # fmt: skip
        positive(self, "step", "generator_lr", "discriminator_lr")

    @property
    def images_per_step(self) -> int:
        """Real images that one iteration takes, per process."""
        return self.batch_size * self.num_accumulations


@dataclass(frozen=True)
class ScheduleConfig:
    """What changes in the course of a run; counted in thousands of images (kimg)."""

    total_kimg: float = 25_000.0
    """Length of the run."""
    growing: bool = False
    """Begin with small images (configs a to d)."""
    initial_resolution: int = 8
    """Where growing begins."""
    training_kimg: float = 600.0
    """Growing: how long a resolution is trained."""
    transition_kimg: float = 600.0
    """Growing: how long the next resolution is faded in."""
    batch_size: int = 32
    """Images per update over all processes, where batch-size-at says nothing."""
    batch_size_at: tuple[tuple[int, int], ...] = ()
    """Pairs of resolution and batch size."""
    device_batch_size: int = 4
    """Images per forward pass, where device-batch-size-at says nothing."""
    device_batch_size_at: tuple[tuple[int, int], ...] = ()
    """Pairs of resolution and images per forward pass."""
    lr: float = 0.002
    """Learning rate, where lr-at says nothing."""
    lr_at: tuple[tuple[int, float], ...] = ()
    """Pairs of resolution and learning rate."""
    warmup_kimg: float = 0.0
    """The learning rate rises linearly during so many."""

    def __post_init__(self) -> None:
        at_least(
            self, "schedule", batch_size=1, device_batch_size=1, training_kimg=0,
            transition_kimg=0, warmup_kimg=0,
        )  # fmt: skip
        positive(self, "schedule", "total_kimg", "lr")
