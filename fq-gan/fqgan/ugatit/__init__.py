"""FQ-U-GAT-IT: U-GAT-IT (Kim et al., ICLR 2020) with feature quantization in its discriminators."""

from .config import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    UgatitConfig,
)
from .networks import Discriminator, Generator, Judged, Translated, UgatitNetworks, build_networks
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
