"""Learned perceptual distance of images, LPIPS on VGG-16 (Zhang et al., CVPR 2018)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..safe_load import load_torch_file
from .cache import cached_file
from .vgg import (
    MEAN,
    SHA256,
    STAGES,
    STD,
    URL,
    VGG16,
    expect_torch_file,
    load_vgg16,
)

HEADS_URL = (
    "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/vgg.pth"
)
FILES = {
    URL: SHA256,
    HEADS_URL: "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}
"""What LPIPS consists of: address -> sha256."""


class LPIPS(nn.Module):
    """Distance of two images: weighted squared differences of normalized features of five stages.

    Args:
        network: VGG-16.
        heads: five vectors, weights of the channels, one for each stage.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: VGG16, heads: list[Tensor]) -> None:
        super().__init__()
        self.network = network
        for i, head in enumerate(heads):
            self.register_buffer(f"head{i}", head.reshape(-1).float())
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Per stage (B, C, H', W') of ``images`` (B, 3, H, W) in [-1, 1], of length 1 along C."""
        with torch.autocast(images.device.type, enabled=False):
            normalized = ((images.float() + 1) / 2 - self.mean) / self.std
            return [
                x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
                for x in self.network.stages(normalized)
            ]

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distances (B,) of two results of `features`."""
        total = first[0].new_zeros(len(first[0]))
        for i, (a, b) in enumerate(zip(first, second, strict=True)):
            difference = (a - b).square().mean(dim=(2, 3))  # (B, C)
            total = total + difference @ self.get_buffer(f"head{i}")
        return total

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,) of images (B, 3, H, W) in [-1, 1]; can be differentiated."""
        return self.compare(self.features(first), self.features(second))


def load_lpips(vgg: str | Path = "", heads: str | Path = "") -> LPIPS:
    """LPIPS v0.1 from local files; those that are not named are taken from the cache.

    Args:
        vgg: VGG-16 of torchvision.
        heads: ``vgg.pth`` of the LPIPS repository: ``linN.model.1.weight`` (1, C, 1, 1).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one holds something else.
    """
    network, heads = load_vgg16(vgg, dense=False), heads or cached_file(HEADS_URL)
    expect_torch_file(heads, HEADS_URL)
    state = load_torch_file(heads)
    try:
        weights = [state[f"lin{i}.model.1.weight"] for i in range(len(STAGES))]
    except (KeyError, TypeError):
        raise ValueError(
            f"{heads} does not hold the heads of LPIPS on VGG-16; fetch {HEADS_URL}"
        ) from None
    sizes = [weight.numel() for weight in weights]
    if sizes != network.stage_widths:
        raise ValueError(f"{heads} has heads for {sizes} channels, not {network.stage_widths}")
    return LPIPS(network, weights)


def random_lpips(seed: int = 0, width: float = 0.25) -> LPIPS:
    """The same distance with fixed random weights: offline, comparable with itself only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VGG16(dense=False, width=width)
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        heads = [torch.rand(channels) / channels for channels in network.stage_widths]
    return LPIPS(network, heads)
