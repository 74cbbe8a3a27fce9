"""Structure of the generator."""

from __future__ import annotations

import pytest
import torch
from factories import tiny_config

from fqgan.biggan import BigganConfig, GeneratorConfig, build_generator


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("architecture", ["biggan", "biggan-deep"])
def test_every_resolution_has_images_of_its_size(resolution, architecture):
    own = GeneratorConfig(channels=4, latent_dim=16, hierarchical=True, shared_dim=4, depth=1)
    config = BigganConfig(
        resolution=resolution, architecture=architecture, init="none", generator=own
    )
    network = build_generator(config).eval()
    with torch.no_grad():
        images = network(torch.randn(1, network.latent_dim), torch.tensor([1]))
    assert images.shape == (1, 3, resolution, resolution)


def test_hierarchical_z_is_rounded_to_equal_chunks():
    own = GeneratorConfig(latent_dim=128, hierarchical=True, shared_dim=8, channels=8)
    assert build_generator(tiny_config(resolution=64, generator=own)).latent_dim == 125
    small = GeneratorConfig(latent_dim=3, hierarchical=True, shared_dim=8)
    with pytest.raises(ValueError, match="at least 5"):
        build_generator(tiny_config(resolution=64, generator=small))


def test_labels_and_their_vectors_give_the_same_image():
    own = GeneratorConfig(channels=4, latent_dim=8, hierarchical=True, shared_dim=6)
    network = build_generator(tiny_config(generator=own)).eval()
    z, y = torch.randn(2, 8), torch.tensor([0, 2])
    torch.testing.assert_close(network(z, y), network(z, network.embed(y)))


def test_images_do_not_depend_on_their_neighbours_in_eval_mode():
    network = build_generator(tiny_config()).eval()
    z, y = torch.randn(3, 8), torch.tensor([0, 1, 2])
    torch.testing.assert_close(network(z, y)[1:2], network(z[1:2], y[1:2]), atol=1e-5, rtol=1e-4)


def test_autocast_gives_images_near_those_of_fp32():
    network = build_generator(tiny_config(init="ortho")).eval()
    z, y = torch.randn(2, 8), torch.tensor([0, 1])
    exact = network(z, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(z, y)
    assert (exact - rough.float()).abs().mean() < 0.02
