"""Options of the quantizer, the same for all families; each has its own layers and defaults."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import at_least
from .quantizer import FeatureQuantizer, ForwardMode, Numerics, Statistics


@dataclass(frozen=True)
class QuantizerOptions:
    """Feature quantization in the discriminator."""

    layers: tuple[int, ...] = ()
    """Layers that are quantized; none at all is the plain network."""
    codebook_size: int = 0
    """Number of codes per layer; 0: the authors' for each layer."""
    commitment_weight: float = 0.25
    """Factor of the commitment loss."""
    decay: float = 0.8
    """Decay of the moving averages that make the dictionary, per forward pass."""
    forward: ForwardMode = "commit_only"
    """What goes on through the network: the features (released code) or the codes (paper)."""
    warmup_calls: int = 0
    """Forward passes of D before straight_through begins (those of D's and of G's steps count)."""
    statistics: Statistics = "all"
    """Ranks whose features move the dictionary; rank0, local: as the authors' BigGAN, StyleGAN."""
    revive_below: float = 0.0
    """Replace codes whose average count is smaller; 0: never."""

    def __post_init__(self) -> None:
        at_least(
            self, "quantizer", codebook_size=0, commitment_weight=0, warmup_calls=0, revive_below=0
        )
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"--quantizer.decay must be in [0, 1), got {self.decay}")
        if len(set(self.layers)) != len(self.layers) or any(layer < 0 for layer in self.layers):
            raise ValueError(
                f"--quantizer.layers must be different numbers of layers, got {self.layers}"
            )

    def build(
        self, channels: int, codebook_size: int, numerics: Numerics = "biggan"
    ) -> FeatureQuantizer:
        """The quantizer of one layer with features (B, ``channels``, H, W)."""
        return FeatureQuantizer(
            channels,
            codebook_size,
            commitment_weight=self.commitment_weight,
            decay=self.decay,
            numerics=numerics,
            forward_mode=self.forward,
            warmup_calls=self.warmup_calls,
            statistics=self.statistics,
            revive_below=self.revive_below,
        )
