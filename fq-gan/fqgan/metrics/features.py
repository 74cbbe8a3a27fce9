"""Feature extractors: images in, (features, logits) out; each says whether it is comparable.

Published figures come from the Inception weights of 2015-12-05 with the resizing of TensorFlow 1
("inception"), of clean-fid ("inception-clean") or of pytorch-fid ("inception-pytorch-fid"), or from
"inception-torch" (BigGAN-PyTorch's own protocol); their values differ by several percent. "dinov2"
and "clip" are read from a folder in the format of Hugging Face. "squeezenet" and "random" need no
download and compare only our own runs with each other.
"""

from __future__ import annotations

import hashlib
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from ..runtime.download import download, verify
from ..runtime.files import why
from ..runtime.precision import ieee_fp32
from .networks import (
    MEAN,
    STD,
    URL as VGG_URL,
    VGG16,
    InceptionV3,
    Variant,
    cached_file,
    default_cache_dir,
    expect_torch_file,
    load_vgg16,
    resize_like_tf1,
)

FeatureName = Literal[
    "inception", "inception-clean", "inception-pytorch-fid", "inception-torch", "vgg16",
    "squeezenet", "dinov2", "clip", "random",
]  # fmt: skip

NOT_COMPARABLE = "not comparable with published figures"


class Source(NamedTuple):
    """Where published weights come from."""

    url: str
    sha256: tuple[str, ...]  # leading digits; any of them


SOURCES: dict[Variant, Source] = {
    "fid": Source(
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        ("6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",),
    ),
    "torchvision": Source(
        "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
        ("0cc3c7bd", "1a9a5a14"),
    ),
}


class Features(NamedTuple):
    pool: Tensor  # (B, D) float32
    logits: Tensor | None  # (B, L) float32; None where the network classifies nothing


class FeatureExtractor(nn.Module, ABC):
    """A frozen network with a name.

    Attributes:
        name: a `FeatureName`.
        dim: D.
        comparable: whether scores on these features may stand beside published ones.
        protocol: a line for tables that names the network, and says so where not comparable.
        key: digest of network, weights and resizer; caches of statistics are keyed by it.
        classifies: whether there are class probabilities, which the Inception score needs.
        keeps_surplus: whether the protocol scores the images of the last batch beyond the number
            asked for, as BigGAN-PyTorch does.
    """

    name: FeatureName
    dim: int
    comparable: bool
    protocol: str
    key: str
    classifies = False
    keeps_surplus = False

    def forward(self, images: Tensor) -> Features:
        """Features of float ``images`` (B, 3, H, W) in [-1, 1]; fp32 under any autocast."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False), ieee_fp32():
            return self.extract(images.float())

    @abstractmethod
    def extract(self, images: Tensor) -> Features:
        """Features of float32 ``images`` (B, 3, H, W) in [-1, 1], without gradients."""


class FIDInception(FeatureExtractor):
    """2048 features and 1008 logits of the FID network, resized as TensorFlow 1 does."""

    name: FeatureName = "inception"
    classifies = True
    dim = 2048
    comparable = True
    protocol = "TF-Inception 2015-12-05 weights, TF1 bilinear resize to 299"

    resizer = "tf1"

    def __init__(self, network: InceptionV3, weights_key: str) -> None:
        super().__init__()
        self.network = network
        self.key = f"inception-{self.resizer}-{weights_key}"

    def extract(self, images: Tensor) -> Features:
        levels = (images + 1) * 127.5
        resized = resize_like_tf1(levels, 299, 299)
        return Features(*self.network((resized - 128) / 128))


class CleanInception(FIDInception):
    """The same network with the resizing of clean-fid (Parmar et al., CVPR 2022)."""

    name = "inception-clean"
    protocol = "TF-Inception 2015-12-05 weights, clean-fid's antialiased bicubic resize to 299"
    resizer = "clean"

    def extract(self, images: Tensor) -> Features:
        levels = resize_like_pillow((images + 1) * 127.5, 299)
        return Features(*self.network((levels - 128) / 128))


class PytorchFidInception(FIDInception):
    """The same network with the resizing of pytorch-fid (Seitzer, 2020)."""

    name = "inception-pytorch-fid"
    protocol = "TF-Inception 2015-12-05 weights, pytorch-fid's bilinear resize to 299"
    resizer = "pytorch-fid"

    def extract(self, images: Tensor) -> Features:
        resized = F.interpolate(images, (299, 299), mode="bilinear", align_corners=False)
        return Features(*self.network(resized))


def resize_like_pillow(levels: Tensor, size: int) -> Tensor:
    """Levels (B, C, H, W) as Pillow's BICUBIC filter resizes images of floats, within 0..255."""
    resized = F.interpolate(levels, (size, size), mode="bicubic", antialias=True)
    return resized.clamp(0, 255)


class TorchInception(FeatureExtractor):
    """BigGAN-PyTorch's protocol: torchvision's ImageNet weights, corners aligned (Sec. 2.13)."""

    name = "inception-torch"
    classifies = True
    dim = 2048
    comparable = True
    protocol = "BigGAN-PyTorch protocol (torchvision Inception, not TF-Inception)"
    keeps_surplus = True
    mean: Tensor
    std: Tensor

    def __init__(self, network: InceptionV3, weights_key: str) -> None:
        super().__init__()
        self.network = network
        self.key = f"inception-torch-{weights_key}"
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def extract(self, images: Tensor) -> Features:
        normalized = ((images + 1) / 2 - self.mean) / self.std
        if normalized.shape[2:] != (299, 299):
            normalized = F.interpolate(normalized, (299, 299), mode="bilinear", align_corners=True)
        return Features(*self.network(normalized))


INCEPTIONS: dict[str, type[FIDInception] | type[TorchInception]] = {
    one.name: one for one in (FIDInception, CleanInception, PytorchFidInception, TorchInception)
}


class VGG16Features(FeatureExtractor):
    """4096 features of VGG-16's second dense layer, for precision and recall (pr50k3)."""

    name = "vgg16"
    dim = 4096
    comparable = False
    protocol = f"VGG-16 of torchvision, bilinear resize to 224, {NOT_COMPARABLE}"
    mean: Tensor
    std: Tensor

    def __init__(self, network: VGG16, weights_key: str) -> None:
        super().__init__()
        self.network = network
        self.key = f"vgg16-{weights_key}"
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def extract(self, images: Tensor) -> Features:
        shrinks = max(images.shape[2:]) > 224
        x = F.interpolate(images, (224, 224), mode="bilinear", antialias=shrinks)
        return Features(self.network(((x + 1) / 2 - self.mean) / self.std), None)


class SqueezeNetFeatures(FeatureExtractor):
    """512 features (averaged fire9) and 1000 logits of an ImageNet-trained SqueezeNet 1.0.

    The features are divided by 16, which brings them to the size of Inception's: the cubic kernel
    of KID would else see little but the largest of them.

    Args:
        arrays: ``conv1``, ``fireN.conv1x1_1`` (squeeze), ``fireN.conv1x1_2`` and
            ``fireN.conv3x3_2`` (expand), ``conv_final``; each with ``.weight`` and ``.bias``.
        weights_key: digest of the file.
    """

    name = "squeezenet"
    classifies = True
    dim = 512
    comparable = False
    protocol = f"SqueezeNet 1.0 features, {NOT_COMPARABLE}"
    mean: Tensor

    def __init__(self, arrays: dict[str, np.ndarray], weights_key: str) -> None:
        super().__init__()
        self.key = f"squeezenet-16-{weights_key}"
        for name, array in arrays.items():
            self.register_buffer(name.replace(".", "_"), torch.from_numpy(array.copy()))
        self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1))

    def extract(self, images: Tensor) -> Features:
        levels = (images.flip(1) + 1) * 127.5  # RGB to BGR, 0..255
        size = (227, 227)
        shrinks = max(images.shape[2:]) > size[0]
        x = F.interpolate(levels, size, mode="bilinear", align_corners=False, antialias=shrinks)
        x = F.max_pool2d(self._conv("conv1", x - self.mean, stride=2), 3, 2, ceil_mode=True)
        for number in range(2, 10):
            squeezed = self._conv(f"fire{number}.conv1x1_1", x)
            wide = self._conv(f"fire{number}.conv3x3_2", squeezed, padding=1)
            x = torch.cat([self._conv(f"fire{number}.conv1x1_2", squeezed), wide], 1)
            if number in (4, 8):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        final = self._conv("conv_final", x, padding=1)
        return Features(x.mean(dim=(2, 3)) / 16, final.mean(dim=(2, 3)))

    def _conv(self, name: str, x: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
        key = name.replace(".", "_")
        weight, bias = self.get_buffer(f"{key}_weight"), self.get_buffer(f"{key}_bias")
        return F.conv2d(x, weight, bias, stride=stride, padding=padding).relu_()


class RandomFeatures(FeatureExtractor):
    """448 features of a small convolution network with fixed random weights.

    The weights come from the raw bits of PCG64, which NumPy guarantees never to change.
    """

    name = "random"
    widths = (64, 128, 256)
    dim = sum(widths)
    comparable = False
    protocol = f"fixed random convolutions, {NOT_COMPARABLE}"
    key = "random-convolutions-1"

    def __init__(self) -> None:
        super().__init__()
        bits = np.random.PCG64(20200713)
        inputs = 3
        for number, width in enumerate(self.widths):
            count = width * inputs * 9
            uniform = (bits.random_raw(count) >> np.uint64(40)).astype(np.float64) / 2**23 - 1
            weight = uniform * np.sqrt(6 / (inputs * 9))  # keeps the variance through ReLU
            shaped = torch.from_numpy(weight.reshape(width, inputs, 3, 3)).float()
            self.register_buffer(f"weight{number}", shaped)
            inputs = width

    def extract(self, images: Tensor) -> Features:
        shrinks = max(images.shape[2:]) > 32
        x = F.interpolate(images, (32, 32), mode="bilinear", antialias=shrinks)
        means = []
        for number in range(len(self.widths)):
            x = F.conv2d(x, self.get_buffer(f"weight{number}"), stride=2, padding=1).relu_()
            means.append(x.mean(dim=(2, 3)))
        return Features(torch.cat(means, 1), None)


class TransformerFeatures(FeatureExtractor):
    """Image transformers in Hugging Face's format: DINOv2's class token, CLIP's image embedding.

    As in Stein et al., NeurIPS 2023: resized as `resize_like_pillow` does, not normalized.

    Args:
        name: "dinov2" or "clip".
        folder: ``config.json`` and ``model.safetensors``; nothing is fetched, nothing executed.
    """

    comparable = False
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: Literal["dinov2", "clip"],
        folder: str | Path,
        options: tuple[str, str] = ("--features", "--weights"),
    ) -> None:
        super().__init__()
        self.name = name
        self.network, self.dim, self.size = _load_transformer(name, str(folder), options)
        mean, std = TRANSFORMER_COLOURS[name]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        weights = sorted(Path(folder).glob("*.safetensors"))
        self.key = f"{name}-{'-'.join(_digest(path) for path in weights)}"
        self.protocol = f"{name} of {Path(folder).name}, bicubic resize to {self.size}"

    def extract(self, images: Tensor) -> Features:
        levels = resize_like_pillow((images + 1) * 127.5, self.size)
        pixels = (levels / 255 - self.mean) / self.std
        output = self.network(pixel_values=pixels)
        if self.name == "clip":
            return Features(output.image_embeds, None)
        return Features(output.last_hidden_state[:, 0], None)


TRANSFORMER_COLOURS = {
    "dinov2": (MEAN, STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and deviation of the colours that the networks were trained with."""


def _load_transformer(
    name: str, given: str, options: tuple[str, str]
) -> tuple[nn.Module, int, int]:
    """The network of a folder, the width of its features, the side of its images."""
    folder = Path(given)
    if (
        not given
        or not (folder / "config.json").is_file()
        or not list(folder.glob("*.safetensors"))
    ):
        raise FileNotFoundError(
            f"{options[0]} {name} needs a folder with config.json and model.safetensors, got "
            f"{given!r}; fetch one, such as facebook/dinov2-large or "
            f"openai/clip-vit-large-patch14, and name it with {options[1]}"
        )
    try:
        from transformers import AutoConfig, CLIPVisionModelWithProjection, Dinov2Model
        from transformers.utils import logging as messages
    except ImportError:
        raise ImportError(
            f"{options[0]} {name} needs the package transformers: pip install 'fq-gan[features]'"
        ) from None
    local: dict[str, Any] = {"local_files_only": True}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} describes no network that transformers knows "
            f"({why(error)}); fetch the folder again"
        ) from error
    wanted = {"dinov2": ("dinov2",), "clip": ("clip", "clip_vision_model")}[name]
    if config.model_type not in wanted:
        raise ValueError(
            f"{options[0]} {name}: {folder} holds a network of type {config.model_type}"
        )
    kind = CLIPVisionModelWithProjection if name == "clip" else Dinov2Model
    if config.model_type == "clip":  # both towers; that of the images is read
        projection = config.projection_dim
        config = config.vision_config
        config.projection_dim = projection
    local |= {"config": config, "use_safetensors": True, "output_loading_info": True}
    local["ignore_mismatched_sizes"] = True  # they are refused below, by name
    level, bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity(messages.CRITICAL)  # CLIP's other tower is no surprise
    messages.disable_progress_bar()
    try:
        network, report = cast(Any, kind).from_pretrained(folder, **local)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the weights in {folder} cannot be read ({why(error)}); fetch the folder again"
        ) from error
    finally:
        messages.set_verbosity(level)
        if bars:
            messages.enable_progress_bar()
    for problem in ("missing", "mismatched"):
        keys = report[f"{problem}_keys"]  # names, or names with both shapes
        names = sorted(key if isinstance(key, str) else key[0] for key in keys)
        if names:
            raise ValueError(
                f"the weights in {folder} do not fit its config.json: {len(names)} tensors are "
                f"{problem}, the first is {names[0]}"
            )
    if name == "clip":
        return network, config.projection_dim, config.image_size
    return network, config.hidden_size, 224


def build_extractor(
    name: FeatureName,
    *,
    weights: str = "",
    fetch: bool = False,
    cache_dir: str | Path | None = None,
    device: torch.device | str = "cpu",
    options: tuple[str, str] = ("--features", "--weights"),
) -> FeatureExtractor:
    """Make a frozen feature extractor.

    Args:
        name: which one.
        weights: the file of the Inception or VGG weights, the file or folder of SqueezeNet's
            ``.npz``, or the folder of a transformer; "random" needs none.
        fetch: download missing Inception weights into ``cache_dir``.
        cache_dir: where downloaded weights are kept and looked for (`default_cache_dir`).
        device: where it runs.
        options: of the command, for ``name`` and ``weights``; errors name them.

    Raises:
        FileNotFoundError: the weights are not there.
        ValueError: they are another file than the published one.
    """
    extractor: FeatureExtractor
    if name == "random":
        extractor = RandomFeatures()
    elif name == "vgg16":
        weights = weights or str(cached_file(VGG_URL))
        extractor = VGG16Features(load_vgg16(weights), _digest(Path(weights)))
    elif name == "squeezenet":
        extractor = _squeezenet(weights, options)
    elif name in ("dinov2", "clip"):
        extractor = TransformerFeatures(name, weights, options)
    else:
        variant: Variant = "torchvision" if name == "inception-torch" else "fid"
        path = inception_file(variant, weights, fetch=fetch, cache_dir=cache_dir, options=options)
        extractor = INCEPTIONS[name](load_inception(variant, path), _digest(path))
    return extractor.eval().requires_grad_(False).to(device)


def inception_file(
    variant: Variant,
    weights: str = "",
    *,
    fetch: bool = False,
    cache_dir: str | Path | None = None,
    options: tuple[str, str] = ("--features", "--weights"),
) -> Path:
    """The checked weights file: ``weights`` if given, else the one in ``cache_dir``."""
    source = SOURCES[variant]
    folder = Path(cache_dir) if cache_dir else default_cache_dir()
    path = Path(weights) if weights else folder / source.url.split("/")[-1]
    if not path.is_file():
        if weights or not fetch:
            raise FileNotFoundError(
                f"{path} {'is a folder' if path.is_dir() else 'is missing'}; fetch {source.url} "
                f"and name it with {options[1]}, run fqgan prepare inception, or choose "
                f"{options[0]} random"
            )
        download(source.url, path, sha256=source.sha256[0])
    expect_torch_file(path, source.url)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(source.sha256):
        if not weights:
            verify(path, sha256=source.sha256[0])
        raise ValueError(
            f"{options[1]} {path} has sha256 {found[:16]}..., expected "
            f"{source.sha256[0][:16]}...: it is damaged or another version; fetch {source.url}"
        )
    return path


def load_inception(variant: Variant, path: str | Path) -> InceptionV3:
    """Read a state dict of the ``variant``; an auxiliary classifier in it is left out."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged stream of bytes can lead to any of them
        raise ValueError(f"{path} holds no Inception weights ({why(error)})") from error
    try:
        state = {key: value for key, value in state.items() if not key.startswith("AuxLogits.")}
        network = InceptionV3(variant)
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} holds no Inception weights ({why(error)})") from error
    # Old files have no batch counters, and nothing reads these.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(
            f"{path} holds other weights than Inception's: missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}"
        )
    return network


def _squeezenet(weights: str, options: tuple[str, str]) -> SqueezeNetFeatures:
    place = Path(weights) if weights else Path()
    files = sorted(place.glob("*.npz")) if weights and place.is_dir() else [place]
    if len(files) != 1 or not files[0].is_file():
        raise FileNotFoundError(
            f"{options[0]} squeezenet needs {options[1]} FILE.npz or its folder, got {weights!r}"
        )
    try:
        with np.load(files[0], allow_pickle=False) as content:
            arrays = {name: content[name].astype(np.float32) for name in content.files}
        return SqueezeNetFeatures(arrays, _digest(files[0]))
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{files[0]} holds no SqueezeNet weights ({why(error)})") from error


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
