"""Synthesis against recorded images, and its three designs."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error
from stylegan_cases import RecordedNetworks, tiny_config

from fqgan.stylegan2 import GeneratorConfig
from fqgan.stylegan2.networks import SynthesisNetwork


@pytest.mark.golden
@pytest.mark.cases("stylegan/networks_losses*.npz")
def test_images_of_given_styles_agree_with_recorded_ones(case):
    recorded = Recorded(case)
    network = RecordedNetworks(recorded, "G/", "out/synthesis").generator().synthesis
    ours = network(recorded["out/mapping"], "fixed")
    assert relative_error(ours, recorded["out/synthesis_fixed_noise"]) < 1e-4


@pytest.mark.parametrize("architecture", ["skip", "orig", "resnet"])
def test_every_design_makes_images_and_reaches_every_style(architecture):
    config = tiny_config(generator=GeneratorConfig(architecture, channel_base=64, channel_max=8))
    network = SynthesisNetwork(config)
    styles = torch.randn(2, config.num_layers, 5, requires_grad=True)
    images = network(styles)
    assert images.shape == (2, 3, 16, 16)
    images.square().sum().backward()
    used = styles.grad.abs().sum(dim=(0, 2)) > 0
    assert used.all()


def test_noise_can_be_given_left_out_or_wrong():
    config = tiny_config()
    network = SynthesisNetwork(config)
    styles = torch.randn(2, config.num_layers, 5)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    fixed = network(styles, "fixed")
    assert torch.equal(network(styles, network.noise_buffers()), fixed)
    assert not torch.equal(network(styles, "none"), fixed)
    assert network.noise_sizes == (4, 8, 8, 16, 16)
    with pytest.raises(ValueError, match="5 maps"):
        network(styles, network.noise_buffers()[:2])


def test_channels_last_gives_the_same_images():
    config = tiny_config()
    network = SynthesisNetwork(config)
    styles = torch.randn(2, config.num_layers, 5)
    plain = network(styles, "fixed")
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(styles, "fixed"), plain, rtol=1e-4, atol=1e-5)
