"""Generators of TensorFlow Hub, from variables in TensorFlow's layout."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import tfhub_arrays, write_tensor_bundle

from fqgan.biggan import GeneratorConfig, build_generator
from fqgan.released.biggan import read_tfhub_arrays, state_from_tfhub, tfhub_config
from fqgan.released.loading import load_with_report


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
