"""Settings of FQ-BigGAN's networks and of one training iteration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..checks import at_least, positive
from ..quantizer_options import QuantizerOptions

Norm = Literal["bn", "mybn", "sync-bn", "in", "gn", "none"]
Init = Literal["ortho", "N02", "glorot", "none"]

RESOLUTIONS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator."""

    channels: int = 64
    """Width multiplier of every layer."""
    latent_dim: int = 128
    """Size of z; hierarchical z rounds it down to equal chunks."""
    hierarchical: bool = False
    """Give every block its own chunk of z; needs --generator.shared-dim."""
    shared_dim: int = 0
    """Size of one class embedding for all blocks; 0: each norm layer has its own embedding."""
    attention: tuple[int, ...] = ()
    """Resolutions after whose block self-attention follows, such as 64."""
    norm: Norm = "bn"
    """Normalization in the blocks: bn, mybn (own statistics), sync-bn (all ranks), in, gn, none."""
    spectral_norm: bool = True
    """Normalize the weights by their largest singular value."""
    singular_vectors: int = 1
    """Singular vectors tracked per weight."""
    power_iterations: int = 1
    """Power iterations per forward pass."""
    depth: int = 2
    """Blocks per stage; biggan-deep only."""

    def __post_init__(self) -> None:
        at_least(
            self, "generator", channels=1, latent_dim=1, depth=1, singular_vectors=1,
            power_iterations=1,
        )  # fmt: skip
        if self.hierarchical and self.shared_dim < 1:
            raise ValueError(
                "--generator.hierarchical needs one class embedding for all blocks; "
                "set --generator.shared-dim, for instance to 128"
            )


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator."""

    channels: int = 64
    """Width multiplier of every layer."""
    wide: bool = True
    """Inner width of a block is that of its output (else of its input)."""
    attention: tuple[int, ...] = ()
    """Resolutions after whose block attention follows; at 32 pixels only 16, meaning all blocks."""
    singular_vectors: int = 1
    """Singular vectors tracked per weight."""
    power_iterations: int = 1
    """Power iterations per forward pass."""
    depth: int = 2
    """Blocks per stage; biggan-deep only."""

    def __post_init__(self) -> None:
        at_least(self, "discriminator", channels=1, depth=1, singular_vectors=1, power_iterations=1)


@dataclass(frozen=True)
class QuantizerConfig(QuantizerOptions):
    """Feature quantization in the discriminator."""

    layers: tuple[int, ...] = (2,)
    """Blocks of the discriminator that are quantized; none at all is plain BigGAN."""
    codebook_size: int = 1024
    """Number of codes per layer."""
    commitment_weight: float = 0.5
    """Factor of the commitment loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "quantizer", codebook_size=1)


@dataclass(frozen=True)
class BigganConfig:
    """Both networks."""

    resolution: int = 32
    """Side of the images: 32, 64, 128, 256, or 512 (generator only)."""
    num_classes: int = 10
    """Classes of the data set."""
    architecture: Literal["biggan", "biggan-deep"] = "biggan"
    """Residual blocks of two convolutions, or of four with bottlenecks."""
    init: Init = "ortho"
    """First weights: orthogonal, normal with deviation 0.02, Glorot, or PyTorch's own."""
    bn_eps: float = 1e-5
    """Added to variances; the generator's last norm layer always has 1e-5."""
    sn_eps: float = 1e-8
    """Smallest norm in the power iteration."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"--resolution must be one of {RESOLUTIONS}, got {self.resolution}")
        at_least(self, num_classes=1)


@dataclass(frozen=True)
class StepConfig:
    """One training iteration: some steps of D, one step of G, one update of the average."""

    batch_size: int = 64
    """Images per forward pass and process."""
    generator_batch_size: int = 0
    """Images per forward pass in G's step; never fewer than the batch size."""
    num_d_steps: int = 2
    """Updates of D per iteration."""
    num_d_accumulations: int = 1
    """Batches per update of D."""
    num_g_accumulations: int = 1
    """Batches per update of G."""
    generator_lr: float = 5e-5
    """Adam's learning rate for G."""
    discriminator_lr: float = 2e-4
    """Adam's learning rate for D."""
    generator_betas: tuple[float, float] = (0.0, 0.999)
    """Adam's decay rates for G."""
    discriminator_betas: tuple[float, float] = (0.0, 0.999)
    """Adam's decay rates for D."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    loss: Literal["hinge", "dcgan"] = "hinge"
    """Adversarial loss."""
    split_d: bool = False
    """Pass fake and real images through D one after the other instead of together."""
    generator_ortho: float = 0.0
    """Weight of the orthogonal regularization of G."""
    discriminator_ortho: float = 0.0
    """Weight of the orthogonal regularization of D."""
    ortho_variant: Literal["modified", "default"] = "modified"
    """Orthogonal regularization without (BigGAN's) or with the diagonal."""
    ema_decay: float = 0.9999
    """Decay of the average of G."""
    ema_start: int = 0
    """Iterations during which the average simply equals G."""

    def __post_init__(self) -> None:
        at_least(
            self, "step", batch_size=1, num_d_steps=1, num_d_accumulations=1, num_g_accumulations=1
        )
        positive(self, "step", "generator_lr", "discriminator_lr")

    @property
    def images_per_step(self) -> int:
        """Real images that one iteration takes, per process."""
        return self.batch_size * self.num_d_steps * self.num_d_accumulations

    @property
    def fake_batch_size(self) -> int:
        return max(self.generator_batch_size, self.batch_size)
