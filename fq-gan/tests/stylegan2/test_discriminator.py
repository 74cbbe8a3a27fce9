"""The discriminator and its dictionaries against recorded values, and its three designs."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error
from stylegan_cases import RecordedNetworks, tiny_config, worst_gradient

from fqgan.released.stylegan2 import to_tf
from fqgan.stylegan2 import DiscriminatorConfig, QuantizerConfig, build_discriminator

TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 2e-3
CASES = "stylegan/networks_losses*.npz"


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_scores_agree_with_recorded_ones(case):
    recorded = Recorded(case)
    networks = RecordedNetworks(recorded, "images", "out/D")
    for name, quantized in (("out/Dplain", False), ("out/D_scores", True)):
        if name in recorded.names:
            network = networks.discriminator(quantized=quantized)
            ours = network(recorded["images"], quantize=False).logits
            assert relative_error(ours, recorded[name].squeeze(1)) < TOLERANCE, name


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_dictionaries_follow_recorded_passes(case):
    recorded = Recorded(case)
    networks = RecordedNetworks(recorded, "D/", "vq/")
    network = networks.discriminator(quantized=True)
    passes = sorted({n.split("/")[1] for n in recorded.names if n.startswith("vq/")})
    assert passes
    for number in passes:
        judged = network(recorded["images"])
        theirs = recorded[f"vq/{number}/quant_loss"]
        assert relative_error(judged.quantization_loss, theirs) < TOLERANCE
        perplexity = recorded[f"vq/{number}/ppl"]
        torch.testing.assert_close(judged.codebook_perplexity, perplexity, rtol=1e-4, atol=0)
        after = to_tf(network.state_dict(), networks.config.quantizer.decay)
        for name, value in recorded.state(f"vq/{number}/after").items():
            assert relative_error(after[name], value) < TOLERANCE, name


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_gradients_of_the_quantization_loss_agree_with_recorded_ones(case):
    recorded = Recorded(case)
    network = RecordedNetworks(recorded, "D/", "grad/quant_loss").discriminator(quantized=True)
    images = recorded["images"].requires_grad_()
    network(images).quantization_loss.mean().backward()
    theirs = recorded["grad/quant_loss/images"]
    assert relative_error(images.grad, theirs) < GRADIENT_TOLERANCE
    own = recorded.state("grad/quant_loss/D")
    assert worst_gradient(network, own) < GRADIENT_TOLERANCE


@pytest.mark.parametrize("architecture", ["resnet", "orig", "skip"])
@pytest.mark.parametrize("layers", [(), (3,), (4, 3)])
def test_every_design_takes_quantizers_at_every_resolution(architecture, layers):
    config = tiny_config(
        layers,
        discriminator=DiscriminatorConfig(architecture, channel_base=64, channel_max=8),
    )
    network = build_discriminator(config)
    judged = network(torch.randn(4, 3, 16, 16))
    assert judged.logits.shape == judged.quantization_loss.shape == (4,)
    assert list(network.quantizers) == sorted(map(str, layers), reverse=True)
    assert bool(judged.quantization_loss.any()) == bool(layers)


@pytest.mark.parametrize("forward", ["commit_only", "straight_through"])
def test_scores_alone_leave_the_dictionaries_as_they_are(forward):
    quantizer = QuantizerConfig(layers=(3,), codebook_size=8, forward=forward)
    network = build_discriminator(tiny_config(quantizer=quantizer))
    images = torch.randn(4, 3, 16, 16)
    network(images)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    scores = network(images, quantize=False).logits
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.quantizers["3"].training
    # The same features go on as in a pass that quantizes.
    torch.testing.assert_close(network.eval()(images).logits, scores)


def test_classes_choose_their_own_score():
    network = build_discriminator(tiny_config(label_size=3))
    images = torch.randn(4, 3, 16, 16)
    by_class = [network(images, torch.full((4,), c), quantize=False).logits for c in range(3)]
    mixed = network(images, torch.tensor([0, 1, 2, 0]), quantize=False).logits
    expected = torch.stack([by_class[0][0], by_class[1][1], by_class[2][2], by_class[0][3]])
    torch.testing.assert_close(mixed, expected)


def test_wider_networks_can_be_quantized_where_the_authors_table_ends():
    config = tiny_config((4,), discriminator=DiscriminatorConfig(channel_base=512))
    network = build_discriminator(config)
    assert network.quantizers["4"].channels == 128
    assert network(torch.randn(2, 3, 16, 16)).quantization_loss.all()
