"""The generator: mapping, average style, synthesis."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from ..runtime.distributed import reduce_mean
from .config import Stylegan2Config
from .mapping import MappingNetwork, broadcast_styles, mix_styles, truncate_styles
from .synthesis import Noise


class Synthesis(Protocol):
    """What the generator needs of a synthesis network; those that do not grow ignore ``lod``."""

    def __call__(self, styles: Tensor, noise: Noise = ..., lod: float = ...) -> Tensor: ...


class Generator(nn.Module):
    """Latents (B, Z) to images (B, C, R, R), about in [-1, 1] but not bounded.

    Args:
        config: of both networks.
        synthesis: styles to images.
    """

    style_average: Tensor

    def __init__(self, config: Stylegan2Config, synthesis: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.latent_dim, self.label_size = config.mapping.latent_dim, config.label_size
        self.num_layers, self.resolution = config.num_layers, config.resolution
        self.mapping = MappingNetwork(config.mapping, config.label_size)
        self.synthesis = synthesis
        self.register_buffer("style_average", torch.zeros(config.mapping.style_dim))

    def styles(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        truncation_layers: int | None = None,
    ) -> Tensor:
        """Styles (B, L, W), pulled towards the average one by ``truncation`` below 1.

        Args:
            latents: (B, Z), standard normal.
            labels: classes (B,) or label vectors (B, S) where the generator has labels.
            truncation: psi; 1 leaves the styles alone.
            truncation_layers: truncate only the first so many layers.
        """
        styles = broadcast_styles(self.mapping(latents, labels), self.num_layers)
        return truncate_styles(styles, self.style_average, truncation, truncation_layers)

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        truncation_layers: int | None = None,
        noise: Noise = "random",
        lod: float = 0.0,
    ) -> Tensor:
        """Images for use; see `styles`. ``noise`` is random, fixed, none, or maps per layer."""
        styles = self.styles(
            latents, labels, truncation=truncation, truncation_layers=truncation_layers
        )
        return self.synthesis(styles, noise, lod)

    def training_styles(
        self, latents: Tensor, labels: Tensor | None = None, *, lod: float = 0.0
    ) -> Tensor:
        """Styles (B, L, W) for training: moves the average style and mixes.

        With the probability ``style_mixing`` the layers after a random one take their style from
        other latents, the same one for the whole batch. Random numbers are the CPU's for the
        decision, so that nothing waits, and the device's for the latents.
        """
        number, probability = len(latents), self.config.generator.style_mixing
        mix = probability > 0.0 and float(torch.rand(())) < probability
        if mix:  # one pass for both
            latents = torch.cat([latents, torch.randn_like(latents)])
            labels = None if labels is None else torch.cat([labels, labels])
        style, *second = self.mapping(latents, labels).split(number)
        decay = self.config.generator.average_decay
        with torch.no_grad():
            mean = reduce_mean(style.detach().mean(dim=0))  # over the ranks, which stay equal
            self.style_average.lerp_(mean, 1.0 - decay)
        if not mix:
            return broadcast_styles(style, self.num_layers)
        in_use = self.num_layers - 2 * math.floor(lod)
        cutoff = int(torch.randint(1, in_use, ()))
        return mix_styles(style, second[0], cutoff, self.num_layers)
