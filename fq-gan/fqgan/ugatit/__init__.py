"""FQ-U-GAT-IT: U-GAT-IT (Kim et al., ICLR 2020) with feature quantization in its discriminators."""

from .config import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    UgatitConfig,
)
from .discriminator import Discriminator, Judged
from .generator import Generator, Translated
from .networks import UgatitNetworks, build_networks
from .step import StepLosses, UgatitStep

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "Judged",
    "QuantizerConfig",
    "ScheduleConfig",
    "StepConfig",
    "StepLosses",
    "Translated",
    "UgatitConfig",
    "UgatitNetworks",
    "UgatitStep",
    "build_networks",
]
