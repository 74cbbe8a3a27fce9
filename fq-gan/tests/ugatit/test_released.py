"""TensorFlow checkpoints of the authors' training."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import torch
from factories import Recorded, relative_error, write_tensor_bundle
from ugatit_cases import config_of, domains_of, image_pair, images_of, tiny_ugatit

from fqgan.released.ugatit import (
    NETWORKS,
    build_released,
    find_prefix,
    moments_by_name,
    read_released,
)
from fqgan.ugatit import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    UgatitStep,
    build_networks,
)
from fqgan.ugatit.translation import load_moments

IMAGE_TOLERANCE = 1e-3  # relative
CHECKPOINTS = pytest.mark.cases("ugatit/ckpt_*/*/*.index")


def case_beside(index):
    """The recorded networks whose training wrote a checkpoint."""
    kind = index.parents[1].name.removeprefix("ckpt_")
    return Recorded(index.parents[2] / f"ugatit_small_{kind}.npz")


@pytest.mark.golden
@CHECKPOINTS
def test_a_recorded_checkpoint_loads_completely_and_translates_the_same(case):
    recorded = case_beside(case)
    released = read_released(case.parent)
    assert released.config == config_of(recorded)
    networks, reports = build_released(released)
    assert [report.name for report in reports] == list(NETWORKS.values())
    for report in reports:
        assert report.complete, report.text()
        assert all(name.endswith("sv0") for name in report.filled)
    a, b = domains_of(recorded)
    with torch.no_grad():
        for name, generator, images in (
            ("x_ab", networks.a_to_b, a), ("x_ba", networks.b_to_a, b),
        ):  # fmt: skip
            theirs = images_of(recorded, f"ckpt_out/{name}")
            assert relative_error(generator(images).images, theirs) < IMAGE_TOLERANCE


@pytest.mark.golden
@CHECKPOINTS
def test_training_continues_with_the_recorded_moments(case):
    recorded = case_beside(case)
    released = read_released(case, moments=True)
    networks, _ = build_released(released)
    step = UgatitStep(networks, released.step_config, ScheduleConfig())
    moments = moments_by_name(released)
    load_moments(moments, step)
    slots = sum(name.endswith("/Adam") for name in released.arrays)
    assert len(moments) == 2 * slots + 2
    first = next(iter(step.generator_optimizer.state.values()))
    steps = sum(re.fullmatch(r"step\d+/G_loss", name) is not None for name in recorded.names)
    assert float(first["step"]) == steps
    found = step(*domains_of(recorded), steps + 1)
    last = recorded[f"step{steps - 1}/G_loss"]
    total = found.generator + 10 * found.cycle + 10 * found.identity + 1000 * found.cam
    assert float(total) < float(last)  # it goes on falling


SCOPES = {
    "first": "conv/conv2d", "first_norm": "ins_norm", "cam.judge": "CAM_logit",
    "cam.mix": "conv_1x1/conv2d", "gain": "MLP/gamma/dense", "bias": "MLP/beta/dense",
    "last": "G_logit/conv2d",
}  # fmt: skip
RULES = (
    (r"down\.(\d)", r"conv_\1/conv2d"), (r"down_norms\.(\d)", r"ins_norm_\1"),
    (r"blocks\.(\d)\.conv(\d)", r"resblock_\1/res\2/conv_0/conv2d"),
    (r"blocks\.(\d)\.norm(\d)", r"resblock_\1/res\2/instance_norm"),
    (r"style\.(\d)", r"MLP/linear_\1/dense"),
    (r"adaptive_blocks\.(\d)\.conv(\d)", r"adaptive_resblock\1/res\2/conv_0/conv2d"),
    (r"adaptive_blocks\.(\d)\.norm(\d)", r"adaptive_resblock\1/res\2/instance_layer_norm"),
    (r"up\.(\d)", r"up_conv_\1/conv2d"), (r"up_norms\.(\d)", r"layer_ins_norm_\1"),
)  # fmt: skip


def upstream_arrays(networks, *, judges=True):
    """Variables as plain U-GAT-IT saves them, written from our state's side."""
    arrays = {}
    for scope, name in NETWORKS.items():
        network = getattr(networks, name)
        if name.startswith("judge"):
            if judges:
                arrays |= judge_arrays(scope, network)
            continue
        for key, value in network.state_dict().items():
            module, _, end = key.rpartition(".")
            inner = SCOPES.get(module)
            for pattern, there in RULES:
                if inner is None and (found := re.fullmatch(pattern, module)):
                    inner = found.expand(there)
            norm = "norm" in module
            end = {"weight": "gamma" if norm else "kernel", "bias": "beta" if norm else "bias"}.get(
                end, end
            )
            arrays[f"{scope}/{inner}/{end}"] = their_layout(value)
    return arrays


def judge_arrays(scope, network):
    arrays = {}
    for branch in ("local", "global"):
        part = getattr(network, f"{branch}_branch")
        layers = [(f"conv_{i}", conv) for i, conv in enumerate(part.convs)]
        layers[-1] = ("conv_last", layers[-1][1])
        layers += [("CAM_logit", part.cam.judge), ("D_logit", part.logit)]
        for name, layer in layers:
            values = {"kernel": layer.weight, "bias": layer.bias, "u": layer.u0}
            arrays |= {f"{scope}/{branch}/{name}/{k}": their_layout(v) for k, v in values.items()}
        for end, value in (("kernel", part.cam.mix.weight), ("bias", part.cam.mix.bias)):
            arrays[f"{scope}/{branch}/conv_1x1/conv2d/{end}"] = their_layout(value)
    return arrays


def their_layout(value):
    array = value.detach().numpy()
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2 and array.shape[0] != 1:
        array = array.T
    return np.ascontiguousarray(array)


@pytest.fixture
def upstream(tmp_path):
    """A checkpoint of plain light U-GAT-IT, and its networks."""
    config = tiny_ugatit(
        image_size=64,
        generator=GeneratorConfig(2, 1, light=True),
        discriminator=DiscriminatorConfig(2, 4),
        quantizer=QuantizerConfig(layers=()),
    )
    networks = build_networks(config)
    folder = tmp_path / "UGATIT_light_selfie2anime_lsgan_1resblock_4dis_2_1_5_10_1000_sn_smoothing"
    folder.mkdir()
    arrays = upstream_arrays(networks)
    for name in arrays:
        if name.endswith("CAM_logit/kernel"):
            arrays[name] = arrays[name].reshape(-1, 1)
    write_tensor_bundle(folder / "UGATIT_light.model-31", arrays)
    return folder, networks, arrays


def test_plain_light_networks_are_recognized(upstream):
    folder, networks, _ = upstream
    released = read_released(folder, image_size=64)
    assert released.config == networks.config
    assert released.step == 30
    assert released.domain_names == ("selfie", "anime")
    assert released.step_config.generator_every == 2
    assert released.step_config.cycle_weight == 5.0
    found, reports = build_released(released)
    assert all(report.complete for report in reports), reports[0].text()
    images = image_pair(networks.config)[0]
    with torch.no_grad():
        assert torch.equal(found.a_to_b(images).images, networks.a_to_b(images).images)
        ours, theirs = found.eval().judge_a(images), networks.eval().judge_a(images)
    torch.testing.assert_close(ours.global_logits, theirs.global_logits)


def test_generators_alone_and_folders_of_any_name_are_read(upstream, tmp_path):
    _, _, arrays = upstream
    alone = {name: value for name, value in arrays.items() if name.startswith("generator")}
    write_tensor_bundle(tmp_path / "model-5", alone)
    released = read_released(tmp_path / "model-5.index", image_size=64)
    assert not released.has_discriminators
    _, reports = build_released(released)
    assert {report.name for report in reports} == {"a_to_b", "b_to_a"}
    assert all(report.complete for report in reports)
    with pytest.raises(ValueError, match="has no moments of Adam"):
        moments_by_name(released)


def test_the_checkpoint_that_the_folder_names_is_taken(tmp_path):
    for number in (5, 11):
        (tmp_path / f"UGATIT.model-{number}.index").touch()
    assert find_prefix(tmp_path).name == "UGATIT.model-11"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/UGATIT.model-5"\n')
    assert find_prefix(tmp_path).name == "UGATIT.model-5"
    with pytest.raises(FileNotFoundError, match="no checkpoint was found in"):
        find_prefix(tmp_path / ".." / tmp_path.name / "..")


def test_truncated_and_foreign_checkpoints_are_refused_in_one_sentence(upstream, tmp_path):
    folder, _, arrays = upstream
    data = next(folder.glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is damaged; fetch or copy the checkpoint again"):
        read_released(folder)
    index = next(folder.glob("*.index"))
    index.write_bytes(index.read_bytes()[:-7])
    with pytest.raises(ValueError, match="is not the index of a TensorFlow checkpoint"):
        read_released(folder)
    shutil.rmtree(folder)
    write_tensor_bundle(tmp_path / "other-1", {"dense/kernel": np.zeros(2, np.float32)})
    with pytest.raises(ValueError, match="it has no generator_B"):
        read_released(tmp_path / "other-1")
    partial = {k: v for k, v in arrays.items() if not k.endswith("linear_0/dense/kernel")}
    write_tensor_bundle(tmp_path / "partial-1", partial)
    with pytest.raises(ValueError, match=r"is incomplete: the variable .*linear_0"):
        read_released(tmp_path / "partial-1")


def test_a_variable_of_another_width_is_reported(upstream, tmp_path):
    _, _, arrays = upstream
    arrays["generator_A/up_conv_0/conv2d/bias"] = np.zeros(99, np.float32)
    arrays["generator_A/extra/kernel"] = np.zeros(2, np.float32)
    write_tensor_bundle(tmp_path / "model-1", arrays)
    _, reports = build_released(read_released(tmp_path / "model-1", image_size=64))
    report = {report.name: report for report in reports}["b_to_a"]
    assert report.mismatched == ("up.0.bias: [99] in the file, [4] in the network",)
    assert report.unexpected == ("generator_A/extra/kernel",)
