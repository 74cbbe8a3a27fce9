"""VGG-16's structure, its stages and its file."""

import pytest
import torch
from torch import nn

from fqgan.metrics.features import inception_file
from fqgan.metrics.latent_space import load_lpips
from fqgan.metrics.networks import VGG16, load_vgg16


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
