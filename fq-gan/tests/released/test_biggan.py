"""Sets of files as the authors save them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import Recorded, real_batch, tfhub_arrays, tiny_config, write_tensor_bundle

from fqgan.biggan.config import GeneratorConfig, QuantizerConfig
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.biggan.step import GanStep
from fqgan.released.biggan import (
    build_released,
    config_from_flags,
    load_adam,
    read_released_set,
    read_tfhub_arrays,
    restore,
    state_from_tfhub,
    step_config_from_flags,
    tfhub_config,
)
from fqgan.released.loading import load_with_report

SAMPLE_TOLERANCE = 1e-4  # absolute, images are in [-1, 1]


def suffixes(folder):
    """The copies that a folder has, by its discriminators: '', copy0, best0, ..."""
    return [path.stem.removeprefix("D").removeprefix("_") for path in folder.glob("D*.pth")
            if "optim" not in path.stem]  # fmt: skip


@pytest.mark.golden
@pytest.mark.cases("biggan/train/*_ckpt/exp*")
def test_recorded_sets_load_completely_and_sample_the_same_images(case):
    sample = case.parent / "ema_sample.npz"
    assert suffixes(case)
    for suffix in suffixes(case):
        released = read_released_set(case, suffix)
        networks, reports = build_released(released)
        for report in reports:
            assert report.complete, report.text()
            assert not report.filled
        assert set(networks) == {"generator", "average", "discriminator"}
        recorded = Recorded(sample)
        with torch.no_grad():
            images = networks["average"].eval()(recorded["z"], recorded["y"])
        assert (images - recorded["out_eval"]).abs().max() < SAMPLE_TOLERANCE


@pytest.mark.golden
@pytest.mark.cases("biggan/train/*_ckpt/exp*")
def test_training_continues_from_a_recorded_set(case):
    for suffix in suffixes(case):
        released = read_released_set(case, suffix)
        if released.discriminator_optimizer is None:
            pytest.skip("the recorded set has no optimizers")
        step = GanStep(
            build_generator(released.config),
            build_discriminator(released.config),
            released.step_config,
        )
        assert all(report.complete for report in restore(released, step))
        optimizer = step.discriminator_optimizer
        first = next(iter(optimizer.state.values()))
        assert float(first["step"]) > 0
        assert optimizer.param_groups[0]["fused"]
        batch = real_batch(released.config, released.step_config.images_per_step)
        losses = step(*batch, released.progress["itr"] + 1)
        assert all(torch.isfinite(value) for value in losses)
        assert float(first["step"]) > released.step_config.num_d_steps


def test_moments_saved_under_the_keys_of_old_versions_are_put_in_order():
    network = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    moments = {
        140: {"step": 4, "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)},
        139: {"step": 4, "exp_avg": torch.ones(3, 2), "exp_avg_sq": torch.ones(3, 2)},
    }
    load_adam(optimizer, {"state": moments, "param_groups": [{"params": [139, 140]}]}, "G_optim")
    assert float(optimizer.state[network.weight]["step"]) == 4
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="do not belong together"):
        load_adam(optimizer, {"state": {}, "param_groups": [{"params": [1]}]}, "G_optim")


def test_a_set_saved_through_dataparallel_is_read(tmp_path):
    config = tiny_config(quantizer=QuantizerConfig(layers=()))
    network = torch.nn.DataParallel(build_generator(config))
    torch.save(network.state_dict(), tmp_path / "G.pth")
    flags = {"resolution": 32, "n_classes": 3, "G_ch": 4, "dim_z": 8, "G_attn": "0", "D_attn": "0"}
    _, reports = build_released(read_released_set(tmp_path, flags=flags))
    assert [report.complete for report in reports] == [True]


def test_an_empty_folder_and_missing_settings_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"G\.pth"):
        read_released_set(tmp_path)
    torch.save({}, tmp_path / "G.pth")
    with pytest.raises(ValueError, match=r"state_dict\.pth"):
        read_released_set(tmp_path)


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


def small_config(resolution):
    """The published structure at a small width."""
    config = tfhub_config(resolution)
    own = replace(config.generator, channels=8, shared_dim=6, latent_dim=3 * 8)
    return replace(config, generator=own, num_classes=5)


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_the_way_there_and_back_gives_every_tensor(resolution):
    config = small_config(resolution)
    torch.manual_seed(0)
    network, other = build_generator(config), build_generator(config)
    arrays = tfhub_arrays(network, count=3.0)
    state, filled = state_from_tfhub(arrays, config)
    report = load_with_report(other, state, "generator", filled=tuple(filled))
    assert report.complete, report.text()
    assert all(name.endswith("sv0") for name in report.filled)
    ours = other.state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours[name], value, msg=name)


def test_published_settings_have_the_published_sizes():
    sizes = {128: (120, 20), 256: (140, 20), 512: (128, 16)}
    for resolution, (latent_dim, chunk) in sizes.items():
        config = tfhub_config(resolution)
        with torch.device("meta"):
            network = build_generator(replace(config, init="none"))
        assert (network.latent_dim, network.chunk) == (latent_dim, chunk)
    with pytest.raises(ValueError, match="128, 256 and 512"):
        tfhub_config(64)


@pytest.mark.parametrize("kind", ["npz", "bundle", "module"])
def test_variables_are_read_from_dumps_and_checkpoints(tmp_path, kind):
    arrays = {"Generator/conv_2d/w/ema_b999900": np.ones((3, 3, 2, 3), dtype=np.float32)}
    path = tmp_path / "dump"
    if kind == "npz":
        path = tmp_path / "dump.npz"
        np.savez(path, **{f"module/{name}:0": array for name, array in arrays.items()})
    elif kind == "bundle":
        write_tensor_bundle(path, arrays)
    else:
        (path / "variables").mkdir(parents=True)
        write_tensor_bundle(path / "variables" / "variables", arrays)
    loaded = read_tfhub_arrays(path)
    assert list(loaded) == list(arrays)


def test_a_missing_variable_is_named():
    with pytest.raises(ValueError, match="linear/w"):
        state_from_tfhub({"something": np.zeros(1)}, small_config(128))


def test_the_settings_are_those_of_a_generator():
    assert tfhub_config(256).generator == GeneratorConfig(
        channels=96, latent_dim=140, hierarchical=True, shared_dim=128, attention=(128,)
    )
