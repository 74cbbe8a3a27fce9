"""The architecture of the two Inception networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fqgan.metrics.features import inception_file
from fqgan.metrics.latent_space import load_lpips
from fqgan.metrics.networks import (
    VGG16,
    Convolution,
    InceptionV3,
    Mixed,
    Step,
    cached_file,
    default_cache_dir,
    load_vgg16,
    resize_like_tf1,
)

WITHOUT_AUXILIARY_HEAD = 23_834_568
"""With 1000 classes: torchvision publishes 27,161,264, of which 3,326,696 are that head's."""


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {variant: InceptionV3(variant).eval() for variant in ("fid", "torchvision")}


def test_the_number_of_parameters_is_the_published_one(networks):
    count = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
    assert count["torchvision"] == WITHOUT_AUXILIARY_HEAD
    assert count["fid"] == WITHOUT_AUXILIARY_HEAD + 8 * 2049


def test_keys_and_shapes_are_those_of_the_published_files(networks):
    state = networks["fid"].state_dict()
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_3.conv.weight": (160, 160, 1, 7),
        "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch_pool.bn.bias": (192,),
        "fc.weight": (1008, 2048),
    }
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape, name
    # 94 convolutions with a weight and five tensors of normalization each, and the classifier.
    assert len(state) == 94 * 6 + 2


def test_outputs_have_the_published_sizes(networks):
    with torch.no_grad():
        for variant, classes in (("fid", 1008), ("torchvision", 1000)):
            output = networks[variant](torch.randn(1, 3, 299, 299))
            assert output.pool.shape == (1, 2048)
            assert output.logits.shape == (1, classes)


def test_only_the_tensorflow_logits_leave_the_bias_out(networks):
    images = torch.randn(1, 3, 299, 299)
    with torch.no_grad():
        for variant, net in networks.items():
            pool, logits = net(images)
            wanted = pool @ net.fc.weight.T + (0 if variant == "fid" else net.fc.bias)
            torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["average", "average-inside", "max"])
def test_pooling_branches_treat_the_border_as_named(pool):
    torch.manual_seed(1)
    block = Mixed(4, [[Step("branch1x1", 2)]], pool, 3).eval()
    x = torch.randn(2, 4, 5, 5)
    if pool == "max":
        pooled = F.max_pool2d(x, 3, 1, 1)
    else:
        ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)  # 4/9 in corners
        pooled = F.avg_pool2d(x, 3, 1, 1) / (ones if pool == "average-inside" else 1)
    expected = torch.cat([block.branch1x1(x), block.branch_pool(pooled)], 1)
    torch.testing.assert_close(block(x), expected)


def test_the_variants_pool_as_published(networks):
    fid, torch_net = networks["fid"], networks["torchvision"]
    assert fid.Mixed_7c._pool == "max"
    assert fid.Mixed_7b._pool == fid.Mixed_5b._pool == "average-inside"
    assert torch_net.Mixed_7c._pool == torch_net.Mixed_6e._pool == "average"


def test_convolutions_keep_the_size_only_at_stride_1():
    x = torch.randn(1, 3, 9, 9)
    assert Convolution(3, Step("", 2, (1, 7)))(x).shape == (1, 2, 9, 9)
    assert Convolution(3, Step("", 2, (3, 3), 2))(x).shape == (1, 2, 4, 4)


TOLERANCE = 1e-5
"""Of levels scaled to [-1, 1]."""


def test_a_hand_worked_row():
    row = torch.tensor([0.0, 3.0, 9.0]).view(1, 1, 1, 3)
    # 3 -> 6: places 0, .5, 1, 1.5, 2, 2.5; the last has no right neighbour.
    expected = torch.tensor([0.0, 1.5, 3.0, 6.0, 9.0, 9.0])
    assert torch.equal(resize_like_tf1(row, 1, 6).flatten(), expected)
    # 3 -> 2: places 0 and 1.5, no smoothing.
    assert torch.equal(resize_like_tf1(row, 1, 2).flatten(), torch.tensor([0.0, 6.0]))


def test_an_image_of_the_size_asked_for_is_unchanged():
    images = torch.rand(2, 3, 7, 5)
    assert torch.equal(resize_like_tf1(images, 7, 5), images)


@pytest.mark.golden
def test_resized_images_agree_with_recorded_ones(golden):
    path = golden / "ugatit" / "ugatit_image_pipeline.npz"
    if not path.exists():
        pytest.skip("no recorded image pipeline")
    with np.load(path) as case:
        image = torch.from_numpy(case["rgb"]).permute(2, 0, 1)[None].float()
        names = [name for name in case.files if name.startswith("train_noaug_")]
        assert names
        for name in names:
            expected = case[name]
            ours = resize_like_tf1(image, *expected.shape[:2])[0].permute(1, 2, 0) / 127.5 - 1
            assert np.abs(ours.numpy() - expected).max() < TOLERANCE, name


def test_names_and_shapes_are_torchvisions():
    with torch.device("meta"):
        state = VGG16().state_dict()
    shapes = {name: list(value.shape) for name, value in state.items()}
    assert shapes["features.0.weight"] == [64, 3, 3, 3]
    assert shapes["features.28.weight"] == [512, 512, 3, 3]
    assert shapes["classifier.0.weight"] == [4096, 25088]
    assert shapes["classifier.3.bias"] == [4096]
    assert sum(value.numel() for value in state.values()) == 138_357_544 - 4097 * 1000


def test_stages_are_what_stands_before_the_poolings():
    network = VGG16(dense=False, width=0.05)
    images = torch.randn(2, 3, 32, 32)
    stages = network.stages(images)
    assert [x.shape[2] for x in stages] == [32, 16, 8, 4, 2]
    assert [x.shape[1] for x in stages] == network.stage_widths
    expected = nn.Sequential(*list(network.features)[:9])(images)
    torch.testing.assert_close(stages[1], expected)


def test_a_file_is_read_and_the_classifier_left_out(tmp_path):
    path, network = tmp_path / "vgg16.pth", VGG16(dense=False)
    extra = {"classifier.6.weight": torch.zeros(3, 4), "classifier.0.bias": torch.zeros(2)}
    torch.save(network.state_dict() | extra, path)
    loaded = load_vgg16(path, dense=False)
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(loaded.stages(images)[-1], network.stages(images)[-1])
    assert not any(p.requires_grad for p in loaded.parameters())


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    with pytest.raises(FileNotFoundError, match="vgg16-397923af"):
        load_vgg16(path)
    torch.save([1], path)
    with pytest.raises(ValueError, match=r"other\.pth holds no weights of VGG-16"):
        load_vgg16(path)
    torch.save({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.pth holds no weights of VGG-16"):
        load_vgg16(path, dense=False)


def test_the_authors_network_pickles_are_named_with_what_to_fetch_instead(tmp_path):
    vgg, path = tmp_path / "vgg16.pth", tmp_path / "vgg16_zhang_perceptual.pkl"
    torch.save(VGG16(dense=False).state_dict(), vgg)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"not published.*vgg16-397923af\.pth"):
        load_vgg16(path)
    with pytest.raises(ValueError, match=r"not published.*v0\.1/vgg\.pth"):
        load_lpips(vgg, path)
    with pytest.raises(ValueError, match=r"not published.*pt_inception-2015-12-05"):
        inception_file("fid", str(path))


def test_the_environment_moves_the_cache(monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", "/somewhere")
    assert default_cache_dir() == Path("/somewhere")
    assert cached_file("https://host/folder/vgg.pth") == Path("/somewhere/lpips/vgg.pth")
    monkeypatch.delenv("FQGAN_CACHE")
    assert default_cache_dir() == Path.home() / ".cache" / "fqgan"
