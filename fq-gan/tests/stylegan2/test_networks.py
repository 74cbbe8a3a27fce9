"""The generator against recorded outputs, and its styles in training."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error
from stylegan_cases import RecordedNetworks, tiny_config, worst_gradient

from fqgan.released.stylegan2 import to_tf
from fqgan.stylegan2.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
)
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.networks import (
    MappingNetwork,
    SynthesisNetwork,
    broadcast_styles,
    label_vectors,
    mix_styles,
    truncate_styles,
)

TOLERANCE = 1e-4
CASES = "stylegan/networks_losses*.npz"


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_images_and_truncation_agree_with_recorded_ones(case, device):
    recorded = Recorded(case, device)
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


@pytest.mark.golden
@pytest.mark.cases("stylegan/networks_losses*.npz")
def test_styles_agree_with_recorded_ones(case):
    recorded = Recorded(case)
    network = RecordedNetworks(recorded, "G/", "out/mapping").generator()
    ours = network.styles(recorded["z"])
    assert relative_error(ours, recorded["out/mapping"]) < 1e-5


def test_only_the_direction_of_a_latent_matters():
    network = MappingNetwork(MappingConfig(6, 4, 4, 3))
    z = torch.randn(2, 6)
    torch.testing.assert_close(network(z), network(7.0 * z), rtol=1e-4, atol=1e-6)


def test_mixing_changes_layers_from_the_cutoff_on():
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert mix_styles(a, b, 2, 5)[0, :, 0].tolist() == [0, 0, 1, 1, 1]


def test_truncation_pulls_the_first_layers_towards_the_average():
    styles, average = broadcast_styles(torch.full((1, 2), 3.0), 4), torch.ones(2)
    assert torch.equal(truncate_styles(styles, average, 1.0), styles)
    assert truncate_styles(styles, average, 0.5)[0, :, 0].tolist() == [2, 2, 2, 2]
    assert truncate_styles(styles, average, 0.0, 2)[0, :, 0].tolist() == [1, 1, 3, 3]


def test_label_vectors_of_another_size_are_named():
    with pytest.raises(ValueError, match=r"\(B, 4\)"):
        label_vectors(torch.zeros(2, 3), 4)


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


GRADIENT_TOLERANCE = 2e-3


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_scores_agree_with_recorded_ones(case, device):
    recorded = Recorded(case, device)
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


@pytest.mark.parametrize("architecture", ["skip", "growing", "stylegan1"])
def test_every_architecture_is_built(architecture):
    judge = "resnet" if architecture == "skip" else architecture
    config = tiny_config(
        (),
        generator=GeneratorConfig(architecture, channel_base=64, channel_max=8),
        discriminator=DiscriminatorConfig(judge, channel_base=64, channel_max=8),
    )
    assert build_generator(config).num_layers == 6
    assert sum(p.numel() for p in build_discriminator(config).parameters()) > 0
