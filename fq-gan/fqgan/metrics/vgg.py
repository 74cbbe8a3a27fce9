"""VGG-16 (Simonyan and Zisserman, ICLR 2015) with torchvision's names, without torchvision."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..safe_load import load_torch_file
from .cache import cached_file

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
    state = load_torch_file(path)
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
