"""Features are made from skybox images by a network of a local folder."""

import numpy as np
import pytest
from PIL import Image
from transformers import ResNetConfig, ResNetModel

from prevalent.data.extraction import extract_features
from prevalent.data.features import FeatureStore
from prevalent.simulator.geometry import Camera
from tests.factories import make_graphs, make_scan

PLACES = {"a": (0, 0, 0), "b": (0, 2, 0)}


@pytest.fixture
def network(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    return tmp_path / "resnet"


def write_skybox(folder, viewpoint, colour):
    folder.mkdir(parents=True, exist_ok=True)
    for face in range(6):
        image = Image.new("RGB", (16, 16), tuple(colour))
        image.save(folder / f"{viewpoint}_skybox{face}_sami.jpg")


def test_every_included_viewpoint_gets_36_rows(tmp_path, network):
    graphs = make_graphs(house=make_scan(PLACES, [("a", "b")]))
    folder = tmp_path / "sky" / "house" / "matterport_skybox_images"
    write_skybox(folder, "a", (250, 0, 0))
    write_skybox(folder, "b", (0, 0, 250))
    output = tmp_path / "features" / "sky.npy"
    extract_features(tmp_path / "sky", graphs, network, output, device="cpu", camera=Camera(32, 24))
    store = FeatureStore.open(output)
    assert store.array.shape == (2, 36, 8)
    red, blue = store.view("house_a"), store.view("house_b")
    # a room of one colour looks the same in every direction, another colour different
    np.testing.assert_allclose(red, red[:1].repeat(36, axis=0), atol=1e-3)
    assert np.abs(red - blue).max() > 1e-3


def test_a_missing_image_is_named_and_nothing_is_written(tmp_path, network):
    output = tmp_path / "sky.npy"
    with pytest.raises((FileNotFoundError, ValueError), match="a_skybox0"):
        extract_features(tmp_path, make_graphs(), network, output, device="cpu")
    assert not output.exists()
