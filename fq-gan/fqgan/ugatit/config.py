"""Settings of FQ-U-GAT-IT's networks, of one training iteration and of the learning rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..checks import at_least, positive
from ..quantizer_options import QuantizerOptions

GanLoss = Literal["lsgan", "gan", "wgan-gp", "wgan-lp", "dragan", "hinge"]

# Codes per layer where none are asked for: those of the released code.
CODEBOOK_SIZES = {1: 64, 2: 128, 3: 128, 4: 128}
DEEPER_CODEBOOK_SIZE = 128


@dataclass(frozen=True)
class GeneratorConfig:
    """Both generators."""

    channels: int = 64
    """Width after the first convolution; the middle has four times as many."""
    num_blocks: int = 4
    """Residual blocks in front of the attention, and as many AdaLIN blocks behind it."""
    light: bool = False
    """Style from averaged features: a quarter of the parameters, and any size of image."""
    smoothing: bool = True
    """Use AdaLIN's mixing factor rho less 0.1, but not below 0."""

    def __post_init__(self) -> None:
        at_least(self, "generator", channels=1, num_blocks=1)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Both discriminators, each a local and a global one."""

    channels: int = 64
    """Width after the first convolution."""
    depth: int = 6
    """Layers of the global discriminator; the local one has two fewer."""
    spectral_norm: bool = True
    """Normalize the weights by their largest singular value."""

    def __post_init__(self) -> None:
        at_least(self, "discriminator", channels=1, depth=4)


@dataclass(frozen=True)
class QuantizerConfig(QuantizerOptions):
    """Feature quantization in the global discriminators."""

    layers: tuple[int, ...] = (1, 2, 3)
    """Convolutions whose output is quantized, from 1; none at all is plain U-GAT-IT."""
    codebook_size: int = 0
    """Number of codes per layer; 0: 64 at layer 1 and 128 deeper, as released."""
    commitment_weight: float = 2.0
    """Factor of the commitment loss."""
    decay: float = 0.85
    """Decay of the moving averages that make the dictionary, per forward pass."""

    def codes_of(self, layer: int) -> int:
        """Number of codes at ``layer``."""
        return self.codebook_size or CODEBOOK_SIZES.get(layer, DEEPER_CODEBOOK_SIZE)


@dataclass(frozen=True)
class UgatitConfig:
    """All four networks."""

    image_size: int = 256
    """Side of the images in training; a multiple of 4."""
    image_channels: int = 3
    """Colours of the images."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.image_size < 8 or self.image_size % 4:
            raise ValueError(
                f"--data.resolution must be a multiple of 4 from 8, got {self.image_size}"
            )
        if self.image_channels < 1:
            raise ValueError(f"images need at least one channel, got {self.image_channels}")
        halvings = self.discriminator.depth - 1
        if self.image_size >> halvings < 3:
            raise ValueError(
                f"--discriminator.depth {self.discriminator.depth} halves images of "
                f"{self.image_size} pixels {halvings} times, which leaves less than the 3 its last "
                f"layers need; choose a smaller depth or larger images"
            )
        last = self.discriminator.depth - 2
        wrong = [layer for layer in self.quantizer.layers if not 1 <= layer <= last]
        if wrong:
            raise ValueError(
                f"--quantizer.layers has {wrong[0]}, but with --discriminator.depth "
                f"{self.discriminator.depth} the layers are 1 to {last}"
            )


@dataclass(frozen=True)
class StepConfig:
    """One training iteration: a step of the discriminators and one of the generators."""

    batch_size: int = 1
    """Images per domain and process."""
    lr: float = 1e-4
    """Adam's learning rate, before the decay."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    loss: GanLoss = "lsgan"
    """Adversarial loss; wgan-gp, wgan-lp and dragan come with a gradient penalty."""
    adversarial_weight: float = 1.0
    """Factor of the adversarial losses, in both steps."""
    cycle_weight: float = 10.0
    """Factor of the L1 loss of images translated there and back."""
    identity_weight: float = 10.0
    """Factor of the L1 loss of images that are in the target domain already."""
    cam_weight: float = 1000.0
    """Factor of the generators' attention classifiers."""
    penalty_weight: float = 10.0
    """Factor of the gradient penalty."""
    l2_weight: float = 1e-4
    """Factor of half the squared norm of all kernels."""
    generator_every: int = 1
    """Steps of the discriminators per step of the generators."""
    separate_batches: bool = False
    """Give the generators images of their own, as the authors do; costs two more translations."""

    def __post_init__(self) -> None:
        at_least(
            self, "step", batch_size=1, generator_every=1, adversarial_weight=0, cycle_weight=0,
            identity_weight=0, cam_weight=0, penalty_weight=0, l2_weight=0,
        )  # fmt: skip
        positive(self, "step", "lr")

    def moves_generators(self, step: int) -> bool:
        """Whether the generators learn in iteration number ``step`` (from 1)."""
        return (step - 1) % self.generator_every == 0

    def batches_per_step(self, step: int) -> int:
        """Batches of each domain that iteration number ``step`` (from 1) takes."""
        return 2 if self.separate_batches and self.moves_generators(step) else 1


@dataclass(frozen=True)
class ScheduleConfig:
    """Length of training and decay of the learning rate; an epoch is a number of iterations."""

    epochs: int = 101
    """Epochs of training."""
    epoch_steps: int = 10_000
    """Iterations per epoch."""
    decay: bool = True
    """Let the learning rate fall linearly to 0 from epoch schedule.decay-epoch on."""
    decay_epoch: int = 50
    """Epochs with the full learning rate."""

    def __post_init__(self) -> None:
        at_least(self, "schedule", epochs=1, epoch_steps=1, decay_epoch=0)

    @property
    def total_steps(self) -> int:
        """Iterations of the whole training."""
        return self.epochs * self.epoch_steps

    def learning_rate(self, lr: float, step: int) -> float:
        """Learning rate of iteration number ``step`` (from 1); constant within an epoch."""
        epoch = (step - 1) // self.epoch_steps
        if not self.decay or epoch < self.decay_epoch or self.epochs <= self.decay_epoch:
            return lr
        return lr * max(self.epochs - epoch, 0) / (self.epochs - self.decay_epoch)
