"""Folders of weights."""

from __future__ import annotations

import pytest
import torch
from ugatit_cases import image_pair, tiny_ugatit

from fqgan.runs import weights_of_run
from fqgan.ugatit import DiscriminatorConfig, GeneratorConfig, QuantizerConfig, build_networks
from fqgan.ugatit.translation import load_judges, load_weights, save_weights, start_from


@pytest.fixture
def saved(tmp_path):
    networks = build_networks(tiny_ugatit())
    folder = save_weights(tmp_path / "model", networks, domain_names=("selfie", "anime"), step=9)
    return folder, networks


def test_the_generators_come_back_as_they_were_saved(saved):
    folder, networks = saved
    weights = load_weights(folder)
    assert weights.config == tiny_ugatit()
    assert (weights.domain_names, weights.step) == (("selfie", "anime"), 9)
    a, b = image_pair(tiny_ugatit())
    with torch.no_grad():
        assert torch.equal(weights.a_to_b(a).images, networks.a_to_b(a).images)
        assert torch.equal(weights.b_to_a(b).images, networks.b_to_a(b).images)
    assert not weights.a_to_b.training


def test_discriminators_can_be_left_out(tmp_path):
    networks = build_networks(tiny_ugatit())
    folder = save_weights(tmp_path / "model", networks, discriminators=False)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["a_to_b.safetensors", "b_to_a.safetensors", "config.json"]
    other = build_networks(tiny_ugatit())
    judge = other.judge_a.state_dict()["local_branch.logit.weight"].clone()
    start_from(folder, other)
    assert torch.equal(other.a_to_b.last.weight, networks.a_to_b.last.weight)
    assert torch.equal(other.judge_a.local_branch.logit.weight, judge)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights were found in .*nowhere"):
        load_weights(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"--initial-weights .*nowhere"):
        start_from(tmp_path / "nowhere", build_networks(tiny_ugatit()))
    with pytest.raises(FileNotFoundError, match="no weights were found: --run-dir"):
        weights_of_run(tmp_path)


def test_a_run_has_its_weights_in_model(saved):
    folder, _ = saved
    assert weights_of_run(folder.parent) == folder


@pytest.mark.parametrize(
    "changes",
    [
        {"generator": GeneratorConfig(channels=3, num_blocks=1)},
        {"generator": GeneratorConfig(channels=2, num_blocks=2)},
        {"generator": GeneratorConfig(channels=2, num_blocks=1, light=True)},
        {"discriminator": DiscriminatorConfig(channels=3, depth=4)},
        {"quantizer": QuantizerConfig(layers=(1, 2), codebook_size=5)},
    ],
)
def test_weights_of_other_networks_are_refused_in_one_sentence(saved, changes):
    folder, _ = saved
    with pytest.raises(ValueError, match="belongs to another network") as caught:
        start_from(folder, build_networks(tiny_ugatit(**changes)))
    assert "--generator.channels 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_with_dictionaries_can_start_from_plain_networks(tmp_path):
    plain = build_networks(tiny_ugatit(quantizer=QuantizerConfig(layers=())))
    folder = save_weights(tmp_path / "model", plain)
    networks = build_networks(tiny_ugatit())
    start_from(folder, networks)
    ours, theirs = networks.judge_a.local_branch.logit.weight, plain.judge_a.local_branch.logit
    assert torch.equal(ours, theirs.weight)


def test_the_discriminators_come_back_with_their_dictionaries(saved, tmp_path):
    folder, networks = saved
    for found, judge in zip(load_judges(folder), networks.discriminators(), strict=True):
        state = judge.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    bare = save_weights(tmp_path / "bare", networks, discriminators=False)
    with pytest.raises(FileNotFoundError, match="holds no discriminator"):
        load_judges(bare)
