"""FQ-BigGAN: BigGAN (Brock et al., ICLR 2019) with feature quantization in its discriminator."""

from .config import BigganConfig, DiscriminatorConfig, GeneratorConfig, QuantizerConfig, StepConfig
from .layers import standing_statistics
from .networks import Discriminator, Generator, Judged, build_discriminator, build_generator
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
