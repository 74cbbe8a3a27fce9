"""From latents to styles: the mapping network, style mixing, truncation (Karras et al., 2019)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import MappingConfig
from .layers import EqualLinear


class MappingNetwork(nn.Module):
    """z (B, Z) and, with labels, classes (B,) or label vectors (B, S) to the style w (B, W)."""

    def __init__(self, config: MappingConfig, label_size: int = 0) -> None:
        super().__init__()
        self.label_size = label_size
        inputs = config.latent_dim * (2 if label_size else 1)
        if label_size:
            self.label_concat = LabelConcat(label_size, config.latent_dim)
        hidden = [config.hidden_dim] * (config.num_layers - 1)
        sizes = [inputs, *hidden, config.style_dim]
        self.num_layers = config.num_layers
        for i, (a, b) in enumerate(pairwise(sizes)):
            layer = EqualLinear(a, b, activation="lrelu", lr_multiplier=config.lr_multiplier)
            self.add_module(f"dense{i}", layer)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Styles (B, W) of ``latents`` (B, Z), in fp32 under any autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            x = latents.float()
            if self.label_size:
                x = self.label_concat(x, label_vectors(labels, self.label_size))
            x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)
            for i in range(self.num_layers):
                x = self.get_submodule(f"dense{i}")(x)
        return x


class LabelConcat(nn.Module):
    """Append an embedding of the label vector to the latents."""

    def __init__(self, label_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(label_size, dim))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """(B, Z) and (B, S) to (B, 2 Z)."""
        return torch.cat([latents, labels @ self.weight], dim=1)


def label_vectors(labels: Tensor | None, size: int) -> Tensor:
    """Label vectors (B, S) in fp32 from classes (B,), or as they are.

    Raises:
        ValueError: there are none, or they have another size.
    """
    if labels is None or (labels.ndim == 2 and labels.shape[1] != size):
        raise ValueError(f"this network needs classes (B,) or label vectors (B, {size})")
    return labels.float() if labels.ndim == 2 else F.one_hot(labels, size).float()


def broadcast_styles(style: Tensor, num_layers: int) -> Tensor:
    """The same style (B, W) for every layer: (B, L, W)."""
    return style.unsqueeze(1).expand(-1, num_layers, -1)


def mix_styles(first: Tensor, second: Tensor, cutoff: int, num_layers: int) -> Tensor:
    """Style ``first`` (B, W) for the layers before ``cutoff`` and ``second`` after: (B, L, W)."""
    return torch.cat(
        [broadcast_styles(first, cutoff), broadcast_styles(second, num_layers - cutoff)], dim=1
    )


def truncate_styles(
    styles: Tensor, average: Tensor, truncation: float, num_layers: int | None = None
) -> Tensor:
    """Pull styles (B, L, W) towards the average (W,).

    Args:
        styles: one per layer.
        average: mean style.
        truncation: 1 leaves the styles alone, 0 makes them all average.
        num_layers: only the first so many layers; all where absent.
    """
    if truncation == 1.0:
        return styles
    pulled = torch.lerp(average.expand_as(styles), styles, truncation)
    if num_layers is None:
        return pulled
    return torch.cat([pulled[:, :num_layers], styles[:, num_layers:]], dim=1)
