"""View features from skybox images by a ResNet-152 of transformers, from a local folder.

Deviation: the released features come from a Caffe ResNet-152 (ImageNet or Places365); these come
from the network in the folder, so they fit models that are trained on them, not released ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..runtime.distributed import choose_device
from ..simulator.geometry import Camera
from ..simulator.graph import Graphs
from ..simulator.rendering import load_skybox, views_from_skybox
from .features import FeatureRow, write_npy

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def extract_features(
    skyboxes: Path,
    graphs: Graphs,
    resnet: Path,
    output: Path,
    *,
    device: str = "auto",
    camera: Camera | None = None,
) -> None:
    """Write the (R, 36, D) pooled features of every included viewpoint of ``graphs``.

    Args:
        skyboxes: holds ``SCAN/matterport_skybox_images/VIEWPOINT_skybox{0..5}_sami.jpg``.
        graphs: the scans.
        resnet: folder with ``config.json`` and weights of a ResNet.
        output: ``.npy`` file; its names stand beside it.
        device: where the network runs.
        camera: of the views, 640 x 480 with 60 degrees if None.
    """
    if not (resnet / "config.json").is_file():
        raise FileNotFoundError(
            f"--resnet {resnet} holds no config.json; save a ResNet-152 there with save_pretrained"
        )
    from transformers import ResNetModel

    chosen = choose_device(device)
    network: torch.nn.Module = ResNetModel.from_pretrained(resnet, local_files_only=True)
    network = network.eval().to(chosen)
    mean, std = _normalisation(resnet)
    output.parent.mkdir(parents=True, exist_ok=True)
    normalise = (mean.to(chosen), std.to(chosen))
    write_npy(output, _rows(skyboxes, graphs, network, normalise, camera))


def _normalisation(resnet: Path) -> tuple[Tensor, Tensor]:
    path = resnet / "preprocessor_config.json"
    options = json.loads(path.read_text()) if path.is_file() else {}
    mean = torch.tensor(options.get("image_mean", IMAGENET_MEAN)).view(1, 3, 1, 1)
    std = torch.tensor(options.get("image_std", IMAGENET_STD)).view(1, 3, 1, 1)
    return mean, std


@torch.inference_mode()
def _rows(
    skyboxes: Path,
    graphs: Graphs,
    network: torch.nn.Module,
    normalise: tuple[Tensor, Tensor],
    camera: Camera | None,
) -> Iterator[FeatureRow]:
    mean, std = normalise
    for node in tqdm(np.flatnonzero(graphs.included), unit="panorama", disable=None):
        scan, viewpoint = graphs.scan_of(int(node)), graphs.viewpoints[node]
        faces = load_skybox(skyboxes / scan / "matterport_skybox_images", viewpoint)
        views = torch.from_numpy(views_from_skybox(faces, camera, graphs.rotations[node])).to(
            mean.device
        )  # (36, H, W, 3) uint8
        pixels = (views.permute(0, 3, 1, 2).float() / 255 - mean) / std
        pixels = torch.nn.functional.interpolate(
            pixels, (224, 224), mode="bilinear", antialias=True
        )
        pooled = network(pixels).pooler_output.flatten(1)  # (36, D)
        yield FeatureRow(f"{scan}_{viewpoint}", pooled.float().cpu().numpy())
