"""The generator against recorded outputs, and its styles in training."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error
from stylegan_cases import RecordedNetworks, tiny_config

from fqgan.stylegan2 import GeneratorConfig, build_generator

TOLERANCE = 1e-4
CASES = "stylegan/networks_losses*.npz"


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_images_and_truncation_agree_with_recorded_ones(case):
    recorded = Recorded(case)
    network = RecordedNetworks(recorded, "G/", "out/G_").generator()
    z = recorded["z"]
    names = [n for n in recorded.names if n.startswith("out/G_")]
    assert names
    for name in names:
        options = {}
        if "_psi" in name:
            psi, cutoff = name.split("_psi")[1].split("_cut")
            options["truncation"] = float(psi)
            options["truncation_layers"] = None if cutoff == "None" else int(cutoff)
        ours = network(z, noise="fixed", **options)
        assert relative_error(ours, recorded[name]) < TOLERANCE, name


def test_training_moves_the_average_style_and_use_does_not():
    network = build_generator(tiny_config())
    z = torch.randn(4, network.latent_dim)
    network(z)
    assert not network.style_average.any()
    network.training_styles(z)
    expected = 0.005 * network.mapping(z).mean(dim=0)
    torch.testing.assert_close(network.style_average, expected)


def test_mixing_takes_two_styles_and_keeps_the_first_layer():
    config = tiny_config(generator=GeneratorConfig(channel_base=64, style_mixing=1.0))
    network = build_generator(config)
    z = torch.randn(4, network.latent_dim)
    styles = network.training_styles(z)
    assert styles.shape == (4, network.num_layers, 5)
    first = network.mapping(z)
    same = [torch.equal(styles[:, i], first) for i in range(network.num_layers)]
    assert same[0]
    assert not same[-1]
    assert sorted(same, reverse=True) == same


def test_fixed_noise_makes_images_repeatable_and_random_noise_does_not():
    network = build_generator(tiny_config())
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    z = torch.randn(2, network.latent_dim)
    assert torch.equal(network(z, noise="fixed"), network(z, noise="fixed"))
    assert not torch.equal(network(z), network(z))


def test_one_image_does_not_depend_on_the_others_of_its_batch():
    network = build_generator(tiny_config())
    z = torch.randn(3, network.latent_dim)
    whole = network(z, noise="fixed")
    torch.testing.assert_close(whole[1:2], network(z[1:2], noise="fixed"), rtol=1e-4, atol=1e-5)


def test_classes_and_their_vectors_mean_the_same():
    network = build_generator(tiny_config(label_size=3))
    z, classes = torch.randn(2, network.latent_dim), torch.tensor([0, 2])
    vectors = torch.nn.functional.one_hot(classes, 3).float()
    assert torch.equal(network.styles(z, classes), network.styles(z, vectors))
    with pytest.raises(ValueError, match="label vectors"):
        network.styles(z)
