"""Extractors: fixed, named, and honest about what they compare with."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from fqgan.metrics import features
from fqgan.metrics.features import (
    FIDInception,
    Source,
    SqueezeNetFeatures,
    TorchInception,
    VGG16Features,
    build_extractor,
    load_inception,
)
from fqgan.metrics.networks import VGG16, InceptionV3
from fqgan.runtime.files import digest


def squeezenet_arrays(seed=0):
    """Random weights in the layout of SqueezeNet 1.0."""
    random = np.random.default_rng(seed)
    squeeze = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
    shapes, width = {"conv1": (96, 3, 7, 7)}, 96
    for number, middle in squeeze.items():
        shapes[f"fire{number}.conv1x1_1"] = (middle, width, 1, 1)
        shapes[f"fire{number}.conv1x1_2"] = (4 * middle, middle, 1, 1)
        shapes[f"fire{number}.conv3x3_2"] = (4 * middle, middle, 3, 3)
        width = 8 * middle
    shapes["conv_final"] = (1000, width, 1, 1)
    arrays = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        arrays[f"{name}.weight"] = (random.standard_normal(shape) * scale).astype(np.float32)
        arrays[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return arrays


def test_random_features_never_change():
    extractor = build_extractor("random")
    first = extractor.get_buffer("weight0")
    # Worked by hand from the first raw draws of PCG64.
    raw = np.random.PCG64(20200713).random_raw(2)
    expected = [((int(r) >> 40) / 2**23 - 1) * np.sqrt(6 / 27) for r in raw]
    assert first.flatten()[:2].tolist() == pytest.approx(expected, rel=1e-6)
    assert float(first.double().sum()) == pytest.approx(-12.0947, abs=1e-3)
    again = build_extractor("random")
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    assert torch.equal(extractor(images).pool, again(images).pool)
    assert extractor(images).pool.shape == (3, extractor.dim)


@pytest.mark.parametrize("size", [8, 32, 64])
def test_offline_features_take_any_size_and_no_gradient(size, tmp_path):
    np.savez(tmp_path / "weights.npz", **squeezenet_arrays())
    for name, weights in (("random", ""), ("squeezenet", str(tmp_path))):
        extractor = build_extractor(name, weights=weights)
        images = (torch.rand(2, 3, size, size) * 2 - 1).requires_grad_()
        pool, logits = extractor(images)
        assert pool.shape == (2, extractor.dim)
        assert not pool.requires_grad
        assert not extractor.comparable
        assert "not comparable" in extractor.protocol
        assert (logits is None) == (name == "random")


def test_features_do_not_depend_on_the_batch_or_on_autocast():
    extractor = build_extractor("random")
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    whole = extractor(images).pool
    torch.testing.assert_close(extractor(images[1:2]).pool, whole[1:2], rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extractor(images).pool, whole)


def test_squeezenet_wants_blue_first_and_its_own_mean():
    arrays = squeezenet_arrays()
    extractor = SqueezeNetFeatures(arrays, "key").eval()
    images = torch.rand(1, 3, 227, 227) * 2 - 1
    bgr = (images[:, [2, 1, 0]] + 1) * 127.5 - torch.tensor([104.0, 117, 123]).view(1, 3, 1, 1)
    conv1 = F.conv2d(bgr, torch.from_numpy(arrays["conv1.weight"]), stride=2).relu()
    seen = []
    original = extractor._conv
    extractor._conv = lambda *args, **named: seen.append(original(*args, **named)) or seen[-1]
    extractor(images)
    torch.testing.assert_close(seen[0], conv1, rtol=1e-4, atol=1e-3)
    assert seen[0].shape[2:] == (111, 111)
    assert seen[-1].shape[1:] == (1000, 15, 15)


@pytest.mark.skipif(
    not list(Path(os.environ.get("FQGAN_DATA", "none")).glob("weights/squeezenet/*.npz")),
    reason="FQGAN_DATA/weights/squeezenet is not there",
)
def test_real_squeezenet_weights_are_read():
    folder = Path(os.environ["FQGAN_DATA"]) / "weights" / "squeezenet"
    pool, logits = build_extractor("squeezenet", weights=str(folder))(torch.zeros(1, 3, 32, 32))
    assert pool.shape == (1, 512)
    assert logits.isfinite().all()


class Recorder(torch.nn.Module):
    """Stands in for Inception and keeps what it was given."""

    def forward(self, images):
        self.images = images
        return images.mean((2, 3)), images.amax((2, 3))


def test_both_inception_protocols_prepare_images_in_their_own_way():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    tf, pytorch = Recorder(), Recorder()
    FIDInception(tf, "")(images)
    TorchInception(pytorch, "")(images)
    assert tf.images.shape == pytorch.images.shape == (2, 3, 299, 299)
    # TensorFlow: 0..255 to (x - 128) / 128; the first pixel is where it was.
    torch.testing.assert_close(tf.images[..., 0, 0], ((images[..., 0, 0] + 1) * 127.5 - 128) / 128)
    # torchvision: ImageNet's mean and deviation; the corners stay where they were.
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    corner = ((images[..., -1, -1] + 1) / 2 - mean) / std
    torch.testing.assert_close(pytorch.images[..., -1, -1], corner)
    assert TorchInception.keeps_surplus
    assert TorchInception.protocol != FIDInception.protocol


def test_inception_weights_are_checked_and_read(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = InceptionV3("fid")
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    said = r"--weights .*weights\.pth has sha256 .* expected 6726825d.* fetch https"
    with pytest.raises(ValueError, match=said):
        build_extractor("inception", weights=str(path))
    with pytest.raises(FileNotFoundError, match="is a folder; fetch https"):
        build_extractor("inception", weights=str(tmp_path))
    source = Source("https://example.invalid/weights.pth", (digest(path)[:8],))
    monkeypatch.setitem(features.SOURCES, "fid", source)
    extractor = build_extractor("inception", cache_dir=tmp_path)
    assert torch.equal(extractor.network.fc.weight, network.fc.weight)
    assert digest(path)[:16] in extractor.key
    with pytest.raises(FileNotFoundError, match="fqgan prepare inception"):
        build_extractor("inception", cache_dir=tmp_path / "empty")


@pytest.fixture(scope="module")
def inception_files(tmp_path_factory) -> dict[str, Path]:
    """Both networks with random weights, as files."""
    root = tmp_path_factory.mktemp("inception")
    torch.manual_seed(0)
    for variant in ("fid", "torchvision"):
        torch.save(InceptionV3(variant).state_dict(), root / f"{variant}.pth")
    return {variant: root / f"{variant}.pth" for variant in ("fid", "torchvision")}


# Where pixel r of 299 lies among n; absent: Pillow's bicubic filter.
PLACES = {
    "inception": lambda r, n: r * n / 299,
    "inception-clean": None,
    "inception-pytorch-fid": lambda r, n: (r + 0.5) * n / 299 - 0.5,
    "inception-torch": lambda r, n: r * (n - 1) / 298,
}


@pytest.mark.parametrize("name", PLACES)
def test_every_inception_is_read_from_a_local_file_and_resizes_as_it_says(
    name, inception_files, monkeypatch
):
    variant = "torchvision" if name == "inception-torch" else "fid"
    path = inception_files[variant]
    monkeypatch.setitem(features.SOURCES, variant, Source("https://x.invalid", (digest(path)[:8],)))
    extractor = build_extractor(name, weights=str(path))
    seen = []
    extractor.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.rand(2, 3, 20, 30) * 2 - 1
    pool, logits = extractor(images)
    assert pool.shape == (2, 2048) == (2, extractor.dim)
    assert logits.shape == (2, 1000 if variant == "torchvision" else 1008)
    assert extractor.comparable
    assert digest(path)[:16] in extractor.key
    resized = images[1, 0].numpy()
    if PLACES[name]:
        at = [PLACES[name](np.arange(299), size) for size in resized.shape]
        resized = np.stack([np.interp(at[1], np.arange(30), row) for row in resized])
        resized = np.stack([np.interp(at[0], np.arange(20), column) for column in resized.T], 1)
    else:
        picture = Image.fromarray((resized + 1) * 127.5, mode="F")
        resized = np.asarray(picture.resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
        resized = resized / 127.5 - 1
    if variant == "torchvision":
        expected = ((resized + 1) / 2 - 0.485) / 0.229
    elif name == "inception-pytorch-fid":
        expected = resized  # between -1 and 1
    else:
        expected = ((resized + 1) * 127.5 - 128) / 128
    np.testing.assert_allclose(seen[0][1, 0], expected, atol=1e-4)


def test_an_auxiliary_classifier_is_left_out_and_other_weights_are_refused(tmp_path):
    state = InceptionV3("torchvision").state_dict()
    torch.save(state | {"AuxLogits.fc.weight": torch.zeros(1)}, tmp_path / "aux.pth")
    assert load_inception("torchvision", tmp_path / "aux.pth").fc.out_features == 1000
    with pytest.raises(ValueError, match="Inception"):
        load_inception("fid", tmp_path / "aux.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other weights than Inception's"):
        load_inception("fid", tmp_path / "other.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(ValueError, match="holds no Inception weights"):
        load_inception("fid", tmp_path / "junk.pth")


def test_vgg_features_are_those_of_normalized_images_of_224_pixels():
    network = VGG16(width=0.02).eval()
    extractor = VGG16Features(network, "key").eval()
    images = torch.rand(2, 3, 224, 224) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = network(((images + 1) / 2 - mean[:, None, None]) / std[:, None, None])
    pool, logits = extractor(images)
    torch.testing.assert_close(pool, expected)
    assert logits is None
    assert extractor(images[..., ::4, ::4]).pool.shape == pool.shape
    with pytest.raises(FileNotFoundError, match=r"nowhere/vgg16.* run fqgan prepare lpips"):
        build_extractor("vgg16", weights="nowhere/vgg16.pth")


def test_missing_squeezenet_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="needs --weights"):
        build_extractor("squeezenet")
    np.savez(tmp_path / "x.npz", other=np.zeros(2))
    with pytest.raises((ValueError, AttributeError)):
        build_extractor("squeezenet", weights=str(tmp_path))(torch.zeros(1, 3, 8, 8))
