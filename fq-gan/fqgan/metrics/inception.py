"""Inception v3 in the two forms that GAN scores use, with the state-dict names of their weights.

"fid" is the network of the TensorFlow graph of 2015-12-05 (Szegedy et al., CVPR 2016; Heusel et
al., NeurIPS 2017) as ported to PyTorch; "torchvision" is the one that BigGAN-PyTorch scores with.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Variant = Literal["fid", "torchvision"]
Pool = Literal["average", "average-inside", "max", "max-stride"]


class Step(NamedTuple):
    """One convolution of a branch."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


Branch = list[Step | tuple[Step, ...]]  # a tuple runs side by side and is concatenated


class InceptionOutput(NamedTuple):
    pool: Tensor  # (B, 2048) average of the last block
    logits: Tensor  # (B, 1008) without the bias for "fid", (B, 1000) for "torchvision"


class Convolution(nn.Module):
    """Convolution without bias, batch normalization, ReLU; padded to keep the size at stride 1."""

    def __init__(self, inputs: int, step: Step, *, padded: bool = True) -> None:
        super().__init__()
        keeps_size = padded and step.stride == 1
        padding = (step.kernel[0] // 2, step.kernel[1] // 2) if keeps_size else (0, 0)
        self.conv = nn.Conv2d(
            inputs, step.channels, step.kernel, step.stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(step.channels, eps=0.001)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(features)), inplace=True)


class Mixed(nn.Module):
    """An Inception block: branches side by side, the last of which pools.

    Args:
        inputs: channels of the input.
        branches: chains of convolutions.
        pool: how the last branch pools 3x3: "average-inside" leaves the padding out of the
            average, "max-stride" halves the size and has no convolution.
        pool_channels: of the convolution after the pooling.
    """

    def __init__(
        self, inputs: int, branches: list[Branch], pool: Pool, pool_channels: int = 0
    ) -> None:
        super().__init__()
        self._branches, self._pool = branches, pool
        self.channels = 0
        for branch in branches:
            width = inputs
            for steps in branch:
                parallel = (steps,) if isinstance(steps, Step) else steps
                for step in parallel:
                    self.add_module(step.name, Convolution(width, step))
                width = sum(step.channels for step in parallel)
            self.channels += width
        if pool_channels:
            self.branch_pool = Convolution(inputs, Step("branch_pool", pool_channels))
        self.channels += pool_channels or inputs

    def forward(self, features: Tensor) -> Tensor:
        outputs = []
        for branch in self._branches:
            output = features
            for steps in branch:
                parallel = (steps,) if isinstance(steps, Step) else steps
                parts = [self.get_submodule(step.name)(output) for step in parallel]
                output = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            outputs.append(output)
        return torch.cat([*outputs, self._pooled(features)], 1)

    def _pooled(self, features: Tensor) -> Tensor:
        if self._pool == "max-stride":
            return F.max_pool2d(features, 3, 2)
        if self._pool == "max":
            pooled = F.max_pool2d(features, 3, 1, 1)
        else:
            inside = self._pool == "average-inside"
            pooled = F.avg_pool2d(features, 3, 1, 1, count_include_pad=not inside)
        return self.branch_pool(pooled)


def _block_35(inputs: int, pool: Pool, pool_channels: int) -> Mixed:
    double = "branch3x3dbl_"
    branches: list[Branch] = [
        [Step("branch1x1", 64)],
        [Step("branch5x5_1", 48), Step("branch5x5_2", 64, (5, 5))],
        [Step(double + "1", 64), Step(double + "2", 96, (3, 3)), Step(double + "3", 96, (3, 3))],
    ]
    return Mixed(inputs, branches, pool, pool_channels)


def _block_17(width: int, pool: Pool) -> Mixed:
    row, column, double = (1, 7), (7, 1), "branch7x7dbl_"
    branches: list[Branch] = [
        [Step("branch1x1", 192)],
        [
            Step("branch7x7_1", width),
            Step("branch7x7_2", width, row),
            Step("branch7x7_3", 192, column),
        ],
        [
            Step(double + "1", width),
            Step(double + "2", width, column),
            Step(double + "3", width, row),
            Step(double + "4", width, column),
            Step(double + "5", 192, row),
        ],
    ]
    return Mixed(768, branches, pool, 192)


def _block_8(inputs: int, pool: Pool) -> Mixed:
    row, column, double = (1, 3), (3, 1), "branch3x3dbl_"
    branches: list[Branch] = [
        [Step("branch1x1", 320)],
        [
            Step("branch3x3_1", 384),
            (Step("branch3x3_2a", 384, row), Step("branch3x3_2b", 384, column)),
        ],
        [
            Step(double + "1", 448),
            Step(double + "2", 384, (3, 3)),
            (Step(double + "3a", 384, row), Step(double + "3b", 384, column)),
        ],
    ]
    return Mixed(inputs, branches, pool, 192)


def _shrink_to_17(inputs: int) -> Mixed:
    double = "branch3x3dbl_"
    branches: list[Branch] = [
        [Step("branch3x3", 384, (3, 3), 2)],
        [Step(double + "1", 64), Step(double + "2", 96, (3, 3)), Step(double + "3", 96, (3, 3), 2)],
    ]
    return Mixed(inputs, branches, "max-stride")


def _shrink_to_8(inputs: int) -> Mixed:
    long = "branch7x7x3_"
    branches: list[Branch] = [
        [Step("branch3x3_1", 192), Step("branch3x3_2", 320, (3, 3), 2)],
        [
            Step(long + "1", 192),
            Step(long + "2", 192, (1, 7)),
            Step(long + "3", 192, (7, 1)),
            Step(long + "4", 192, (3, 3), 2),
        ],
    ]
    return Mixed(inputs, branches, "max-stride")


class InceptionV3(nn.Module):
    """Inception v3 up to the 2048 pooled features and the logits.

    Args:
        variant: "fid" averages inside the image only, takes the maximum in the pooling branch of
            the last block (an oddity of the published graph) and has 1008 classes; "torchvision"
            pads averages with zeros and has 1000 classes.
    """

    def __init__(self, variant: Variant = "fid") -> None:
        super().__init__()
        self.variant = variant
        average: Pool = "average-inside" if variant == "fid" else "average"

        def plain(inputs: int, channels: int, kernel: int, stride: int = 1, *, padded: bool):
            return Convolution(inputs, Step("", channels, (kernel, kernel), stride), padded=padded)

        self.Conv2d_1a_3x3 = plain(3, 32, 3, 2, padded=False)
        self.Conv2d_2a_3x3 = plain(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = plain(32, 64, 3, padded=True)
        self.Conv2d_3b_1x1 = plain(64, 80, 1, padded=False)
        self.Conv2d_4a_3x3 = plain(80, 192, 3, padded=False)
        self.Mixed_5b = _block_35(192, average, 32)
        self.Mixed_5c = _block_35(256, average, 64)
        self.Mixed_5d = _block_35(288, average, 64)
        self.Mixed_6a = _shrink_to_17(288)
        self.Mixed_6b = _block_17(128, average)
        self.Mixed_6c = _block_17(160, average)
        self.Mixed_6d = _block_17(160, average)
        self.Mixed_6e = _block_17(192, average)
        self.Mixed_7a = _shrink_to_8(768)
        self.Mixed_7b = _block_8(1280, average)
        self.Mixed_7c = _block_8(2048, "max" if variant == "fid" else average)
        self.fc = nn.Linear(2048, 1008 if variant == "fid" else 1000)

    def forward(self, images: Tensor) -> InceptionOutput:
        """``images`` (B, 3, 299, 299), resized and normalized as the variant wants it."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))
        x = F.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, 2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        pool = x.mean(dim=(2, 3))
        # The TensorFlow score multiplies by the weights of the softmax layer and leaves out the
        # bias; torchvision's own forward keeps it.
        bias = None if self.variant == "fid" else self.fc.bias
        return InceptionOutput(pool, F.linear(pool, self.fc.weight, bias))
