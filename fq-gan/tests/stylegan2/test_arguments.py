"""The authors' keyword arguments as settings."""

import pytest

from fqgan.released.stylegan2 import discriminator_settings, generator_settings, joint_settings


def test_names_and_defaults_of_stylegan2():
    config = generator_settings("G_main", {"resolution": 256})
    assert config.generator.architecture == "skip"
    assert config.generator.channel_base == 16384
    assert (config.mapping.num_layers, config.mapping.lr_multiplier) == (8, 0.01)
    config = discriminator_settings("D_stylegan2", {"resolution": 256, "mbstd_group_size": 0}, {})
    assert config.discriminator.architecture == "resnet"
    assert config.discriminator.group_size == 0
    assert config.quantizer.layers == ()


def test_the_first_version_has_a_width_of_its_own():
    config = generator_settings("G_style", {"resolution": 64})
    assert (config.generator.architecture, config.generator.channel_base) == ("stylegan1", 8192)
    assert config.discriminator.architecture == "stylegan1"
    arguments = {"resolution": 64, "synthesis_func": "G_synthesis_stylegan_revised"}
    assert generator_settings("G_main", arguments).generator.architecture == "growing"
    assert discriminator_settings("D_stylegan", {"resolution": 64}, {}).growing
    blurred = discriminator_settings("D_basic", {"resolution": 64}, {})
    sharp = discriminator_settings("D_basic", {"resolution": 64, "blur_filter": None}, {})
    assert (blurred.discriminator.fir, sharp.discriminator.fir) == ((1, 2, 1), ())
    assert discriminator_settings("D_paper", {"resolution": 64}, {}).discriminator.fir == ()
    with pytest.raises(ValueError, match=r"blurs with \(1, 1\)"):
        discriminator_settings("D_basic", {"resolution": 64, "blur_filter": [1, 1]}, {})


def test_dictionaries_become_layers():
    words = {"num_embeddings": 128, "decay": 0.9, "commitment_cost": 0.5}
    found = discriminator_settings("D_stylegan2_quant", {"resolution": 64}, {5: words, 4: words})
    quantizer = found.quantizer
    assert (quantizer.layers, quantizer.codebook_size) == ((4, 5), 0)
    assert (quantizer.decay, quantizer.commitment_weight) == (0.9, 0.5)
    other = {5: words | {"num_embeddings": 32}}
    found = discriminator_settings("D_stylegan2_quant", {"resolution": 64}, other)
    assert found.quantizer.codebook_size == 32
    with pytest.raises(ValueError, match="several sizes"):
        discriminator_settings("D_stylegan2_quant", {"resolution": 64}, {4: words, **other})


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("G_other", {"resolution": 64}, "G_other builds no generator"),
        ("G_main", {}, "resolution of a network is not in its arguments"),
        ("G_main", {"resolution": 2**30}, "larger than any that was published"),
        ("G_main", {"resolution": 64, "nonlinearity": "relu"}, "only nonlinearity='lrelu'"),
        ("G_main", {"resolution": 64, "synthesis_func": "mine"}, "synthesis_func 'mine'"),
    ],
)
def test_what_cannot_be_built_is_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        generator_settings(function, arguments)


def test_networks_that_do_not_belong_together_are_refused():
    made = generator_settings("G_main", {"resolution": 64})
    with pytest.raises(ValueError, match="differ in resolution"):
        joint_settings(made, discriminator_settings("D_stylegan2", {"resolution": 32}, {}))
    with pytest.raises(ValueError, match="only one of generator and discriminator grows"):
        joint_settings(made, discriminator_settings("D_basic", {"resolution": 64}, {}))
    with pytest.raises(ValueError, match="D_other builds no discriminator"):
        discriminator_settings("D_other", {"resolution": 64}, {})
