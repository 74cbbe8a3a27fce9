"""The networks that scores look through: Inception-v3, VGG-16, and TensorFlow 1's resizing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..runtime.transfer import upload
from ..runtime.weight_files import read_weight_file

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


def resize_like_tf1(images: Tensor, height: int, width: int) -> Tensor:
    """Resize (B, C, H, W) as ``tf.image.resize_bilinear`` of TF 1 without corner alignment.

    Output pixel ``i`` reads the input at ``i * H / height`` (not at pixel centres, and without
    smoothing when it shrinks). Returns (B, C, height, width).
    """
    return _along(_along(images, 2, height), 3, width)


def _along(images: Tensor, dim: int, size: int) -> Tensor:
    length = images.shape[dim]
    # float32, as in TF: at 299 pixels a float64 scale would choose other neighbours now and then.
    scale = torch.tensor(length, dtype=torch.float32) / torch.tensor(size, dtype=torch.float32)
    place = torch.arange(size, dtype=torch.float32) * scale
    low = place.floor().long().clamp(max=length - 1)
    high = (low + 1).clamp(max=length - 1)
    shape = [1] * images.dim()
    shape[dim] = size
    weight = upload((place - low).view(shape), images.device, images.dtype)
    near = images.index_select(dim, upload(low, images.device))
    far = images.index_select(dim, upload(high, images.device))
    return near + (far - near) * weight


URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
# Widths of the convolutions before each of the five poolings.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HIDDEN = 4096
CLASSES = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16(nn.Module):
    """The convolutions and, with ``dense``, the two hidden dense layers (without the classifier).

    Args:
        dense: build the dense layers too, which need images of 224 x 224 pixels.
        width: factor of all widths; only 1 fits the published weights.
    """

    def __init__(self, *, dense: bool = True, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, self.ends = 3, []
        for stage in STAGES:
            for channels in stage:
                outputs = max(1, int(channels * width))
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            self.ends.append(len(layers))
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.stage_widths = [max(1, int(stage[-1] * width)) for stage in STAGES]
        if dense:
            hidden = max(1, int(HIDDEN * width))
            self.classifier = nn.Sequential(
                nn.Linear(inputs * 49, hidden), nn.ReLU(), nn.Identity(), nn.Linear(hidden, hidden)
            )

    def stages(self, x: Tensor) -> list[Tensor]:
        """Rectified features (B, C, H / 2^s, W / 2^s) before each of the five poolings."""
        found = []
        for i, layer in enumerate(list(self.features)[: self.ends[-1]], start=1):
            x = layer(x)
            if i in self.ends:
                found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Rectified second dense layer (B, 4096) of normalized images (B, 3, 224, 224)."""
        return F.relu(self.classifier(self.features(x).flatten(1)))


def expect_torch_file(path: str | Path, url: str) -> None:
    """Say what to fetch where ``path`` is absent, or is a network pickle of NVlabs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is ``vgg16_zhang_perceptual.pkl``, ``inception_v3_features.pkl`` or the like,
            whose layout nobody has written down.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path} is missing; run fqgan prepare lpips, or fetch {url} and name it"
        )
    if Path(path).suffix == ".pkl":
        raise ValueError(
            f"{path} is a network of the StyleGAN authors for metrics, and the names of its "
            f"variables are not published; give its counterpart in PyTorch's format, {url}"
        )


def load_vgg16(path: str | Path = "", *, dense: bool = True) -> VGG16:
    """VGG-16 with torchvision's ImageNet weights from a local file.

    Args:
        path: of the file; empty takes the one in the cache.
        dense: see `VGG16`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds other weights, or is a network pickle.
    """
    path = path or cached_file(URL)
    expect_torch_file(path, URL)
    state = read_weight_file(path)
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no weights of VGG-16; fetch {URL}")
    kept = {
        key: value
        for key, value in state.items()
        if key.startswith("features.") or (dense and not key.startswith("classifier.6."))
    }
    with torch.device("meta"):  # 500 MB of random weights would be drawn for nothing
        network = VGG16(dense=dense)
    try:
        network.load_state_dict(kept, assign=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} holds no weights of VGG-16 ({reason}); fetch {URL}") from None
    return network.float().eval().requires_grad_(False)


def default_cache_dir() -> Path:
    """``$FQGAN_CACHE``, or ``~/.cache/fqgan``."""
    return Path(os.environ.get("FQGAN_CACHE") or Path.home() / ".cache" / "fqgan")


def cached_file(url: str) -> Path:
    """Where ``fqgan prepare lpips`` puts the file of ``url``."""
    return default_cache_dir() / "lpips" / url.rsplit("/", 1)[-1]
