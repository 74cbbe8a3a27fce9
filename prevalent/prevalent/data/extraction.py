"""View features from skybox images by a network of transformers in a local folder.

ResNet, ViT and CLIP are known. Deviation: the released ResNet features come from a Caffe network,
those of HAMT and DUET from timm and OpenAI's code; these come from the network in the folder, so
they fit models that are trained on them, not released ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from tqdm import tqdm

from ..runtime.distributed import choose_device
from ..simulator.geometry import Camera
from ..simulator.graph import Graphs
from ..simulator.rendering import load_skybox, views_from_skybox
from .features import FeatureRow, write_hdf5_rows, write_npy, write_tsv

Layer = Literal["pooled", "projected"]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BICUBIC = 3  # number of the resampling filter in a preprocessor_config.json
KNOWN = ("resnet", "vit", "clip", "clip_vision_model")
WRITERS: dict[str, Callable[[Path, Iterator[FeatureRow]], None]] = {
    ".npy": write_npy,
    ".hdf5": write_hdf5_rows,
    ".h5": write_hdf5_rows,
    ".tsv": write_tsv,
}


class Network(NamedTuple):
    """A network and the images it takes."""

    module: nn.Module
    read: Callable[[nn.Module, Tensor], Tensor]
    """Module and pixels (B, 3, H, W) -> features (B, D)."""
    options: Mapping[str, Any]
    """Its ``preprocessor_config.json``, empty without one."""


def extract_features(
    skyboxes: Path,
    graphs: Graphs,
    network: Path,
    output: Path,
    *,
    layer: Layer = "pooled",
    classes: bool = False,
    device: str = "auto",
    camera: Camera | None = None,
) -> None:
    """Write the (R, 36, D) features of every included viewpoint of ``graphs``.

    Args:
        skyboxes: holds ``SCAN/matterport_skybox_images/VIEWPOINT_skybox{0..5}_sami.jpg``.
        graphs: the scans.
        network: folder with ``config.json`` and weights; see `open_network`.
        output: ``.npy`` (its names stand beside it), ``.hdf5`` (a dataset a viewpoint), ``.tsv``.
        layer: of CLIP: ``pooled`` is the image encoder's own width, ``projected`` that of texts.
        classes: append the numbers of the classes (768 + 1,000 columns of a ViT).
        device: where the network runs.
        camera: of the views, 640 x 480 with 60 degrees if None.
    """
    if output.suffix not in WRITERS:
        raise ValueError(f"--output {output} must end in {', '.join(WRITERS)}")
    chosen = choose_device(device)
    opened = open_network(network, layer=layer, classes=classes)
    opened.module.to(chosen)
    output.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[output.suffix](output, _rows(skyboxes, graphs, opened, chosen, camera))


def open_network(folder: Path, *, layer: Layer = "pooled", classes: bool = False) -> Network:
    """The network of a folder that ``save_pretrained`` wrote, in eval mode.

    ``resnet`` gives its pooled features, ``vit`` the first token behind the last norm (768 numbers
    of a ViT-B), ``clip`` those of ``layer``.

    Raises:
        FileNotFoundError: the folder has no ``config.json``.
        ValueError: the network is of another kind, has no classes, or lacks weights.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"--network {folder} holds no config.json; save a ResNet, ViT or CLIP there with "
            "save_pretrained"
        )
    config = json.loads(path.read_text())
    kind = config.get("model_type")
    if kind not in KNOWN:
        raise ValueError(f"--network {folder} is a {kind!r}; give one of {', '.join(KNOWN)}")
    if layer == "projected" and not kind.startswith("clip"):
        raise ValueError(f"--layer projected is of CLIP; --network {folder} is a {kind!r}")
    headed = any("ForImageClassification" in name for name in config.get("architectures") or ())
    if classes and not headed:
        raise ValueError(f"--classes needs a network with classes; --network {folder} has none")
    module, read = _load(folder, kind, layer, classes)
    own = folder / "preprocessor_config.json"
    return Network(module.eval(), read, json.loads(own.read_text()) if own.is_file() else {})


def _load(
    folder: Path, kind: str, layer: Layer, classes: bool
) -> tuple[nn.Module, Callable[[Any, Tensor], Tensor]]:
    import transformers

    options: dict[str, Any] = {}
    read: Callable[[Any, Tensor], Tensor]
    if kind.startswith("clip"):
        name = "CLIPVisionModelWithProjection" if layer == "projected" else "CLIPVisionModel"
        field = "image_embeds" if layer == "projected" else "pooler_output"

        def read(module: Any, pixels: Tensor) -> Tensor:
            return getattr(module(pixels), field)

    elif kind == "vit" and classes:
        name = "ViTForImageClassification"

        def read(module: Any, pixels: Tensor) -> Tensor:
            tokens = module.vit(pixels).last_hidden_state[:, 0]
            return torch.cat([tokens, module.classifier(tokens)], dim=1)

    elif kind == "vit":
        name, options = "ViTModel", {"add_pooling_layer": False}

        def read(module: Any, pixels: Tensor) -> Tensor:
            return module(pixels).last_hidden_state[:, 0]

    elif classes:
        name = "ResNetForImageClassification"

        def read(module: Any, pixels: Tensor) -> Tensor:
            pooled = module.resnet(pixels).pooler_output
            return torch.cat([pooled.flatten(1), module.classifier(pooled)], dim=1)

    else:
        name = "ResNetModel"

        def read(module: Any, pixels: Tensor) -> Tensor:
            return module(pixels).pooler_output.flatten(1)

    module, report = getattr(transformers, name).from_pretrained(
        folder, local_files_only=True, output_loading_info=True, **options
    )
    if report["missing_keys"]:
        raise ValueError(
            f"--network {folder} lacks {len(report['missing_keys'])} weights, such as "
            f"{min(report['missing_keys'])}; fetch it again"
        )
    return module, read


def to_pixels(views: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Pixels (B, 3, h, w) that a network takes of ``views`` (B, H, W, 3) uint8.

    ``options`` is its ``preprocessor_config.json``: ``image_mean`` and ``image_std``, ``size``, and
    with ``do_center_crop`` the ``crop_size`` that is cut out of the shorter edge's size. Without a
    crop the whole view is stretched to the size, 224 x 224 if none is given.
    """
    mean = views.new_tensor(options.get("image_mean", IMAGENET_MEAN), dtype=torch.float32)
    std = views.new_tensor(options.get("image_std", IMAGENET_STD), dtype=torch.float32)
    pixels = views.permute(0, 3, 1, 2).float() / 255
    size, crop = options.get("size", 224), options.get("crop_size")
    mode = "bicubic" if options.get("resample") == BICUBIC else "bilinear"
    cut = _height_and_width(crop if options.get("do_center_crop") and crop else size)
    target = cut
    if options.get("do_center_crop"):
        edge = size.get("shortest_edge", cut[0]) if isinstance(size, dict) else size
        height, width = pixels.shape[-2:]
        scale = edge / min(height, width)
        target = (max(cut[0], round(height * scale)), max(cut[1], round(width * scale)))
    pixels = interpolate(pixels, target, mode=mode, antialias=True).clamp(0, 1)
    top, left = (target[0] - cut[0]) // 2, (target[1] - cut[1]) // 2
    pixels = pixels[..., top : top + cut[0], left : left + cut[1]]
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def _height_and_width(size: Any) -> tuple[int, int]:
    sides: dict[str, Any] = size if isinstance(size, dict) else {"shortest_edge": size}
    edge = sides.get("shortest_edge", 224)
    return int(sides.get("height", edge)), int(sides.get("width", edge))


@torch.inference_mode()
def _rows(
    skyboxes: Path, graphs: Graphs, network: Network, device: torch.device, camera: Camera | None
) -> Iterator[FeatureRow]:
    for node in tqdm(np.flatnonzero(graphs.included), unit="panorama", disable=None):
        scan, viewpoint = graphs.scan_of(int(node)), graphs.viewpoints[node]
        faces = load_skybox(skyboxes / scan / "matterport_skybox_images", viewpoint)
        views = torch.from_numpy(views_from_skybox(faces, camera, graphs.rotations[node]))
        pixels = to_pixels(views.to(device), network.options)  # (36, 3, h, w)
        features = network.read(network.module, pixels)  # (36, D)
        yield FeatureRow(f"{scan}_{viewpoint}", features.float().cpu().numpy())
