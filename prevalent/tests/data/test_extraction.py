"""Features of ResNet, ViT and CLIP from local folders are those of the networks themselves."""

import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from prevalent.data.extraction import extract_features, open_network, to_pixels
from prevalent.data.features import FeatureStore
from prevalent.prepare import main as prepare
from prevalent.simulator.geometry import Camera
from prevalent.simulator.rendering import views_from_skybox
from tests.factories import make_graphs, make_scan, write_connectivity

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 16, "image_size": 16, "patch_size": 8}
OPTIONS = {"size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(**SMALL, num_labels=5)).save_pretrained(folder / "vit")
    clip = CLIPVisionConfig(**SMALL, projection_dim=6)
    CLIPVisionModelWithProjection(clip).save_pretrained(folder / "clip")
    resnet = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=5
    )
    ResNetForImageClassification(resnet).save_pretrained(folder / "resnet")
    for path in folder.iterdir():
        (path / "preprocessor_config.json").write_text(json.dumps(OPTIONS))
    return folder


PIXELS = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_a_vit_gives_its_first_token_and_its_classes(networks):
    network = open_network(networks / "vit", classes=True)
    found = network.read(network.module, PIXELS)
    whole = ViTForImageClassification.from_pretrained(networks / "vit").eval()
    seen = whole(PIXELS, output_hidden_states=True)
    torch.testing.assert_close(found[:, 8:], seen.logits)
    plain = open_network(networks / "vit")
    torch.testing.assert_close(plain.read(plain.module, PIXELS), found[:, :8])
    last = whole.vit.layernorm(seen.hidden_states[-1])[:, 0]
    torch.testing.assert_close(found[:, :8], last)


@torch.inference_mode()
def test_clip_gives_its_own_width_or_that_of_texts(networks):
    whole = CLIPVisionModelWithProjection.from_pretrained(networks / "clip").eval()
    pooled, projected = (open_network(networks / "clip", layer=x) for x in ("pooled", "projected"))
    images = projected.read(projected.module, PIXELS)
    torch.testing.assert_close(images, whole(PIXELS).image_embeds)
    own = pooled.read(pooled.module, PIXELS)
    torch.testing.assert_close(whole.visual_projection(own), images)


@torch.inference_mode()
def test_a_resnet_appends_its_classes(networks):
    network = open_network(networks / "resnet", classes=True)
    whole = ResNetForImageClassification.from_pretrained(networks / "resnet").eval()
    found = network.read(network.module, PIXELS)
    torch.testing.assert_close(found[:, 8:], whole(PIXELS).logits)


def test_networks_that_do_not_fit_are_one_sentence(networks, tmp_path):
    ViTModel(ViTConfig(**SMALL)).save_pretrained(tmp_path / "headless")
    for folder, options, sentence in (
        (tmp_path / "headless", {"classes": True}, "--classes needs a network with classes"),
        (networks / "vit", {"layer": "projected"}, "--layer projected is of CLIP"),
        (tmp_path, {}, "holds no config.json; save a ResNet, ViT or CLIP"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            open_network(folder, **options)
    config = json.loads((tmp_path / "headless/config.json").read_text())
    for change, sentence in (
        ({"model_type": "bert"}, "is a 'bert'; give one of resnet, vit, clip"),
        ({"num_hidden_layers": 2}, r"lacks \d+ weights, such as"),
    ):
        (tmp_path / "headless/config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=sentence):
            open_network(tmp_path / "headless")


def test_views_are_stretched_or_cut_as_the_network_says():
    views = torch.zeros(1, 48, 64, 3, dtype=torch.uint8)
    views[:, :, :8] = 255  # a white edge at the left
    stretched = to_pixels(views, {"size": {"height": 16, "width": 16}})
    assert stretched.shape == (1, 3, 16, 16)
    assert stretched[0, 0, 8, 0] > stretched[0, 0, 8, 8]
    cut = to_pixels(views, {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": 16})
    assert cut.shape == (1, 3, 16, 16)
    torch.testing.assert_close(cut, cut[..., 8:9, 8:9].expand_as(cut))  # the edge is cut off
    black = to_pixels(views[:, :, 16:], OPTIONS)
    torch.testing.assert_close(black, torch.full_like(black, -1.0))


def test_prepare_writes_the_layout_of_other_code(networks, tmp_path, caplog, monkeypatch):
    small = Camera(32, 24)
    monkeypatch.setattr(
        "prevalent.data.extraction.views_from_skybox",
        lambda faces, camera, rotation: views_from_skybox(faces, small, rotation),
    )
    graphs = make_scan({"a": (0, 0, 0), "b": (0, 2, 0)}, [("a", "b")])
    write_connectivity(tmp_path / "connectivity", "house", graphs)
    folder = tmp_path / "sky" / "house" / "matterport_skybox_images"
    folder.mkdir(parents=True)
    for viewpoint, colour in (("a", (250, 0, 0)), ("b", (0, 0, 250))):
        for face in range(6):
            image = Image.new("RGB", (16, 16), colour)
            image.save(folder / f"{viewpoint}_skybox{face}_sami.jpg")
    words = ["--data-dir", str(tmp_path), "--skyboxes", str(tmp_path / "sky"), "--device", "cpu"]
    output = tmp_path / "vit.hdf5"
    network = ["--network", str(networks / "vit"), "--classes", "--output", str(output)]
    prepare(["features", *words, *network])
    with h5py.File(output) as file:
        assert set(file) == {"house_a", "house_b"}
        assert file["house_a"].shape == (36, 8 + 5)
    assert FeatureStore.open(output, columns="0:8", cache_dir=tmp_path).width == 8
    prepare(["features", *words, "--resnet", str(networks / "clip")])
    assert "--resnet is called --network now" in caplog.text
    store = FeatureStore.open(tmp_path / "features" / "clip-skyboxes.npy")
    assert store.array.shape == (2, 36, 8)
    assert np.isfinite(store.array).all()


def test_an_output_of_no_known_layout_is_refused_before_anything_is_read(networks, tmp_path):
    with pytest.raises(ValueError, match=r"--output .* must end in \.npy, \.hdf5"):
        extract_features(
            tmp_path, make_graphs(), networks / "vit", tmp_path / "f.zip", camera=Camera(8, 6)
        )
