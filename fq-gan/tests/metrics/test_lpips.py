"""The perceptual distance against its formula, and its files."""

import pytest
import torch

from fqgan.metrics.latent_space import LPIPS, load_lpips, random_lpips
from fqgan.metrics.networks import VGG16


def test_the_distance_is_the_published_formula():
    distance = random_lpips(width=0.1)
    a, b = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    total = torch.zeros(2)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    stages = [
        distance.network.stages((x - shift[:, None, None]) / scale[:, None, None]) for x in (a, b)
    ]
    for i, (first, second) in enumerate(zip(*stages, strict=True)):
        difference = torch.nn.functional.normalize(first) - torch.nn.functional.normalize(second)
        head = distance.get_buffer(f"head{i}")
        total += (difference.square() * head[:, None, None]).sum(1).mean(dim=(1, 2))
    torch.testing.assert_close(distance(a, b), total, rtol=2e-3, atol=1e-6)


def test_an_image_has_no_distance_to_itself_and_a_gradient_to_others():
    distance, images = random_lpips(), torch.rand(2, 3, 32, 32)
    assert torch.equal(distance(images, images), torch.zeros(2))
    moved = images.clone().requires_grad_()
    distance(moved + 0.1, images).sum().backward()
    assert moved.grad.abs().sum() > 0


def test_random_weights_depend_on_the_seed_alone():
    images = torch.rand(2, 1, 3, 16, 16)
    torch.manual_seed(5)
    first = random_lpips(1)(*images)
    torch.rand(3)
    assert torch.equal(random_lpips(1)(*images), first)
    assert not torch.equal(random_lpips(2)(*images), first)


def test_local_files_are_read_and_others_refused(tmp_path):
    network = VGG16(dense=False)
    vgg, heads = tmp_path / "vgg16.pth", tmp_path / "heads.pth"
    torch.save(network.state_dict(), vgg)
    with pytest.raises(FileNotFoundError, match=r"PerceptualSimilarity.*vgg\.pth"):
        load_lpips(vgg, heads)
    weights = [torch.rand(1, width, 1, 1) for width in network.stage_widths]
    torch.save({f"lin{i}.model.1.weight": w for i, w in enumerate(weights)}, heads)
    images = torch.rand(2, 1, 3, 16, 16)
    torch.testing.assert_close(load_lpips(vgg, heads)(*images), LPIPS(network, weights)(*images))
    torch.save({"lin0.model.1.weight": weights[0]}, heads)
    with pytest.raises(ValueError, match="does not hold the heads"):
        load_lpips(vgg, heads)
    torch.save({f"lin{i}.model.1.weight": weights[0] for i in range(5)}, heads)
    with pytest.raises(ValueError, match="heads for"):
        load_lpips(vgg, heads)
