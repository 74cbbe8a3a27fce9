"""U-GAT-IT's local and global discriminators, with feature quantization in the global one."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import UgatitConfig
from .layers import LEAK, ClassActivation, ReflectConv2d, SpectralReflectConv2d, initialize


class Judged(NamedTuple):
    """What a discriminator says about a batch; all logits are high for real images."""

    local_logits: Tensor  # (B, 1, h, w) of overlapping patches
    global_logits: Tensor  # (B, 1, h', w') of larger patches
    local_cam: Tensor  # (B, 2) of the attention head
    global_cam: Tensor  # (B, 2)
    quantization_loss: Tensor  # (B,) summed over the quantized layers, weighted; 0 without any
    codebook_perplexity: Tensor  # () of the deepest quantized layer; 1 without any

    @property
    def all_logits(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four parts that the adversarial loss adds up."""
        return self.local_logits, self.global_logits, self.local_cam, self.global_cam

    def halves(self) -> tuple[Judged, Judged]:
        """The first half of the batch and the second."""
        parts = [value.chunk(2) for value in self[:-1]]
        first, second = (
            Judged(*(part[i] for part in parts), codebook_perplexity=self.codebook_perplexity)  # type: ignore[misc]
            for i in range(2)
        )
        return first, second


class Branch(nn.Module):
    """One of the two: strided convolutions, attention head, patch logits.

    Args:
        config: of all networks.
        depth: convolutions in front of the attention head, the last one without stride.
        layers: numbers of the convolutions whose output is quantized.
    """

    def __init__(self, config: UgatitConfig, depth: int, layers: tuple[int, ...] = ()) -> None:
        super().__init__()
        own = config.discriminator
        conv = SpectralReflectConv2d if own.spectral_norm else ReflectConv2d
        widths = [config.image_channels, *(own.channels * 2**i for i in range(depth))]
        self.convs = nn.ModuleList(
            conv(inputs, outputs, 4, 1 if i == depth - 1 else 2, 1)
            for i, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.quantizers = nn.ModuleDict(
            {
                str(i): config.quantizer.build(widths[i + 1], config.quantizer.codes_of(i), "tf")
                for i in sorted(layers)
            }
        )
        self.cam = ClassActivation(widths[-1], spectral=own.spectral_norm)
        self.logit = conv(widths[-1], 1, 4, 1, 1)

    def forward(
        self, images: Tensor, *, quantize: bool, parts: int
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        """Logits (B, 1, h, w), logits of the head (B, 2), losses (B,), codebook perplexity ()."""
        hidden, losses, perplexity = images, [], None
        for number, conv in enumerate(self.convs):
            hidden = F.leaky_relu_(conv(hidden), LEAK)
            if quantize and str(number) in self.quantizers:
                quantizer = self.quantizers[str(number)]
                found = [quantizer(part) for part in hidden.chunk(parts)]
                if quantizer.forward_mode == "straight_through":
                    hidden = torch.cat([one.features for one in found])
                losses.append(torch.cat([one.loss for one in found]))
                perplexity = found[-1].codebook_perplexity
        features, cam = self.cam(hidden)
        return self.logit(F.leaky_relu_(features, LEAK)).float(), cam, losses, perplexity


class Discriminator(nn.Module):
    """Tells images of one domain from translated ones."""

    def __init__(self, config: UgatitConfig) -> None:
        super().__init__()
        depth = config.discriminator.depth
        self.local_branch = Branch(config, depth - 2)
        self.global_branch = Branch(config, depth, config.quantizer.layers)
        initialize(self)

    def forward(self, images: Tensor, *, quantize: bool = True, parts: int = 1) -> Judged:
        """Judge ``images`` (B, C, H, W) in [-1, 1].

        Args:
            images: real ones, translated ones, or both.
            quantize: False leaves the quantizers out: no loss, dictionaries stay.
            parts: equal parts of the batch that the quantizers see one after the other; 2 for real
                and translated images in one pass, which the authors judge in two.
        """
        local, local_cam, _, _ = self.local_branch(images, quantize=False, parts=1)
        patches, cam, losses, perplexity = self.global_branch(
            images, quantize=quantize, parts=parts
        )
        loss = torch.stack(losses).sum(dim=0) if losses else cam.new_zeros(len(images))
        if perplexity is None:
            perplexity = cam.new_ones(())
        return Judged(local, patches, local_cam, cam, loss, perplexity)
