"""FQ-StyleGAN2: StyleGAN2 (Karras et al., CVPR 2020) with feature quantization in D."""

from .build import build_discriminator, build_generator
from .config import (
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    Stylegan2Config,
)
from .configurations import CONFIGURATIONS, Recipe, build_recipe
from .discriminator import Discriminator, Judged
from .generator import Generator
from .schedule import Phase, phase_at
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
