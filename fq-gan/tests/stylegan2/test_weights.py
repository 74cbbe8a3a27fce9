"""Folders of weights."""

from __future__ import annotations

import pytest
import torch
from stylegan_cases import tiny_config

from fqgan.runs import save_weights
from fqgan.stylegan2 import build_discriminator, build_generator
from fqgan.stylegan2.sampling import load_discriminator, load_weights, start_from


def test_saved_networks_draw_the_same_images(tmp_path):
    config = tiny_config(label_size=2)
    generator, raw = build_generator(config), build_generator(config)
    save_weights(tmp_path / "model", config, generator, raw=raw, class_names=["a", "b"], step=7)
    latents, labels = torch.randn(2, generator.latent_dim), torch.tensor([0, 1])
    for network, use_average in ((generator, True), (raw, False)):
        weights = load_weights(tmp_path / "model", use_average=use_average)
        assert (weights.config, weights.class_names, weights.step) == (config, ["a", "b"], 7)
        ours = weights.generator(latents, labels, noise="fixed")
        assert torch.equal(ours, network.eval()(latents, labels, noise="fixed"))


def test_a_run_can_start_from_saved_networks(tmp_path):
    config = tiny_config()
    first = build_generator(config), build_discriminator(config)
    save_weights(tmp_path / "model", config, first[0], discriminator=first[1])
    second = build_generator(config), build_discriminator(config)
    start_from(tmp_path / "model", *second)
    for ours, theirs in zip(second, first, strict=True):
        state = theirs.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in ours.state_dict().items())


def test_absent_and_foreign_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights"):
        load_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="--initial-weights"):
        start_from(tmp_path, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    save_weights(tmp_path / "model", tiny_config(), torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(tmp_path / "model")


def test_the_discriminator_comes_back_with_its_dictionaries(tmp_path):
    config = tiny_config()
    generator, discriminator = build_generator(config), build_discriminator(config)
    save_weights(tmp_path / "model", config, generator, discriminator=discriminator)
    found, state = load_discriminator(tmp_path / "model"), discriminator.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    save_weights(tmp_path / "bare", config, generator)
    with pytest.raises(FileNotFoundError, match="holds no discriminator"):
        load_discriminator(tmp_path / "bare")
