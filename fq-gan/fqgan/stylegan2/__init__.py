"""FQ-StyleGAN2: StyleGAN2 (Karras et al., CVPR 2020) with feature quantization in D."""

from .config import (
    CONFIGURATIONS,
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    Phase,
    QuantizerConfig,
    Recipe,
    ScheduleConfig,
    StepConfig,
    Stylegan2Config,
    build_recipe,
    phase_at,
)
from .legacy import build_discriminator, build_generator
from .networks import Discriminator, Generator, Judged
from .step import GanStep, StepLosses

__all__ = [
    "CONFIGURATIONS",
    "Discriminator",
    "DiscriminatorConfig",
    "GanStep",
    "Generator",
    "GeneratorConfig",
    "Judged",
    "MappingConfig",
    "Phase",
    "QuantizerConfig",
    "Recipe",
    "ScheduleConfig",
    "StepConfig",
    "StepLosses",
    "Stylegan2Config",
    "build_discriminator",
    "build_generator",
    "build_recipe",
    "phase_at",
]
