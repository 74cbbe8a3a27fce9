"""The authors' flags in our settings."""

from __future__ import annotations

import json

import pytest

from fqgan.biggan import build_discriminator, build_generator
from fqgan.released.biggan import config_from_flags, step_config_from_flags

# Trainable numbers of the launch scripts' networks, (G, D); I128 only with its missing flags.
SIZES = {"C10": (4_304_387, 4_207_361), "C100": (4_580_867, 4_230_401),
         "I64": (31_969_540, 20_571_842)}  # fmt: skip


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/misc.json")
def test_the_launch_scripts_give_networks_of_their_sizes(case):
    scripts = json.loads(case.read_text())["launch_scripts"]
    for name, script in scripts.items():
        flags = dict(script["config"], G_init="none", D_init="none")
        flags["G_init"] = "N02"  # orthogonal matrices of this size take long
        key = flags["dataset"].removesuffix("_hdf5")
        if flags["hier"] and not flags["G_shared"]:
            with pytest.raises(ValueError, match="shared-dim"):
                config_from_flags(flags)
            continue
        config = config_from_flags(flags)
        options = step_config_from_flags(flags)
        assert options.batch_size == flags["batch_size"], name
        assert config.quantizer.codebook_size == 2 ** flags["dict_size"]
        if key in SIZES:
            sizes = count(build_generator(config)), count(build_discriminator(config))
            assert sizes == SIZES[key], name


def test_classes_and_resolution_follow_from_the_name_of_the_data_set():
    shapes = {"C10": (32, 10), "C100": (32, 100), "I64_hdf5": (64, 1000), "I128": (128, 1000),
              "I64ext_hdf5": (64, 20), "I128ext": (128, 10)}  # fmt: skip
    for name, shape in shapes.items():
        config = config_from_flags({"dataset": name, "G_attn": "0", "D_attn": "0"})
        assert (config.resolution, config.num_classes) == shape
    with pytest.raises(ValueError, match="resolution and n_classes"):
        config_from_flags({"dataset": "mine"})


def test_flags_of_upstream_biggan_mean_no_quantization():
    config = config_from_flags({"dataset": "C10"})
    assert config.quantizer.layers == ()


def test_a_shared_embedding_without_a_size_has_that_of_z():
    flags = {"dataset": "I64", "G_shared": True, "dim_z": 120, "hier": True, "G_attn": "64_32"}
    own = config_from_flags(flags).generator
    assert own.shared_dim == 120
    assert own.attention == (64, 32)


@pytest.mark.parametrize(
    ("flags", "norm"),
    [({}, "bn"), ({"mybn": True}, "mybn"), ({"cross_replica": True}, "sync-bn"),
     ({"norm_style": "nonorm"}, "none"), ({"norm_style": "gn_16grp"}, "gn")],
)  # fmt: skip
def test_norm_flags_choose_the_norm(flags, norm):
    assert config_from_flags({"dataset": "C10", **flags}).generator.norm == norm


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(ValueError, match="G_init"):
        config_from_flags({"dataset": "C10", "G_init": "zeros"})
