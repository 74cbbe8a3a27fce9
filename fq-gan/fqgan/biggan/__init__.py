"""FQ-BigGAN: BigGAN (Brock et al., ICLR 2019) with feature quantization in its discriminator."""

from .build import build_discriminator, build_generator
from .config import (
    BigganConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
)
from .discriminator import Discriminator, Judged
from .generator import Generator
from .norms import standing_statistics
from .step import GanStep, StepLosses

__all__ = [
    "BigganConfig",
    "Discriminator",
    "DiscriminatorConfig",
    "GanStep",
    "Generator",
    "GeneratorConfig",
    "Judged",
    "QuantizerConfig",
    "StepConfig",
    "StepLosses",
    "build_discriminator",
    "build_generator",
    "standing_statistics",
]
