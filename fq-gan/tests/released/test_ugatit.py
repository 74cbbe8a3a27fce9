"""TensorFlow checkpoints of the authors' training."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from factories import Recorded, relative_error, write_tensor_bundle
from ugatit_cases import config_of, domains_of, image_pair, images_of, tiny_networks

from fqgan.released.migrate import UGATIT_FLAGS, differences, read_ugatit_flags, ugatit_train_config
from fqgan.released.ugatit import (
    ADAM,
    NETWORKS,
    Place,
    build_released,
    find_prefix,
    in_our_layout,
    is_implied,
    moments_by_name,
    moments_of,
    place_of,
    read_released,
    states_of,
)
from fqgan.ugatit.config import (
    PRESETS,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    UgatitConfig,
)
from fqgan.ugatit.layers import kernels
from fqgan.ugatit.networks import build_networks
from fqgan.ugatit.step import UgatitStep
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
    config = tiny_networks(
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


LISTS = pytest.mark.cases("ugatit/ugatit_variables_*.json")


def on_meta(config):
    with torch.device("meta"):
        return build_networks(config)


def config_of_list(recorded):
    return UgatitConfig(generator=GeneratorConfig(light="light" in recorded["model_name"].lower()))


@pytest.mark.golden
@LISTS
def test_names_shapes_and_roles_of_all_variables_agree(case):
    recorded = json.loads(case.read_text())
    config = config_of_list(recorded)
    networks = on_meta(config)
    parameters = {id(p) for p in networks.parameters()}
    expected = {
        Place(name, key): value
        for name in NETWORKS.values()
        for key, value in getattr(networks, name).state_dict(keep_vars=True).items()
        if not key.endswith("sv0")
    }
    slots = set()
    for variable, about in recorded["variables"].items():
        if slot := ADAM.fullmatch(variable):
            slots.add(place_of(slot.group(1), config))
            continue
        if is_implied(variable):
            continue
        place = place_of(variable, config)
        ours = expected.pop(place)
        theirs = in_our_layout(torch.empty(about["shape"], device="meta"), place.name)
        assert ours.shape == theirs.shape, variable
        learned = id(ours) in parameters
        # The dictionaries are flagged trainable there, and get no gradient.
        assert learned == about["trainable"] or ".quantizers." in place.name, variable
    assert not expected
    assert not slots or len(slots) == len(parameters)


@pytest.mark.golden
@LISTS
def test_the_regularized_kernels_are_the_recorded_ones(case):
    recorded = json.loads(case.read_text())
    config = config_of_list(recorded)
    networks = on_meta(config)
    names = {id(p): name for name, p in networks.named_parameters()}
    theirs = [name.removesuffix("/Regularizer/l2_regularizer:0") for name in
              recorded["reg_loss_names"]]  # fmt: skip
    places = {".".join(place_of(name, config)) for name in theirs}
    assert places == {names[id(kernel)] for kernel in kernels(networks)}
    assert len(theirs) == recorded["n_reg_losses"]


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_recorded_states_have_no_variable_without_a_place(case):
    recorded = Recorded(case)
    depth = tiny_networks().discriminator.depth
    variables = [name.removeprefix("init/") for name in recorded.names if name.startswith("init/")]
    for variable in variables:
        slot = ADAM.fullmatch(variable)
        name = slot.group(1) if slot else variable
        assert is_implied(name) or place_of(name, tiny_networks()), (name, depth)


def test_kernels_change_their_layout_and_nothing_else_does():
    kernel = torch.randn(3, 4, 5, 6)
    assert in_our_layout(kernel, "first.weight").shape == (6, 5, 3, 4)
    assert in_our_layout(torch.zeros(5, 6), "gain.weight").shape == (6, 5)
    assert in_our_layout(torch.zeros(5, 6), "global_branch.quantizers.1.embed").shape == (5, 6)
    assert in_our_layout(torch.zeros(5), "first_norm.weight").shape == (5,)


def test_the_last_convolution_is_found_in_both_branches():
    config = tiny_networks()  # 4 layers in the global branch, 2 in the local one
    for branch, number in (("global", 3), ("local", 1)):
        place = place_of(f"discriminator_B/{branch}/conv_last/kernel", config)
        assert place == Place("judge_b", f"{branch}_branch.convs.{number}.weight")


def test_variables_of_upstream_without_spectral_norm_have_a_place():
    config = tiny_networks(quantizer=QuantizerConfig(layers=()))
    place = place_of("discriminator_A/local/D_logit/conv2d/kernel", config)
    assert place == Place("judge_a", "local_branch.logit.weight")


def test_unknown_variables_and_half_a_pair_of_moments_are_named():
    one = np.zeros(1, np.float32)
    _, unknown = states_of({"generator_A/extra/kernel": one}, tiny_networks())
    assert unknown == {"generator_A/extra/kernel"}
    with pytest.raises(ValueError, match="lacks generator_A/CAM_logit/bias/Adam_1"):
        list(moments_of({"generator_A/CAM_logit/bias/Adam": one}, tiny_networks()))


def translated_flags(line):
    notes = []
    return ugatit_train_config(read_ugatit_flags(line.split()), notes), notes


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_recorded_command_lines_are_understood(case):
    recorded = np.load(case)
    words = json.loads(str(recorded["argv"]))
    flags = read_ugatit_flags(words)
    config = ugatit_train_config(flags, [])
    assert config.data.resolution == flags["img_size"]
    assert config.step.batch_size == flags["batch_size"]
    assert recorded["domain_A"].shape[1] == flags["img_size"]


def test_the_defaults_are_the_preset():
    config, _ = translated_flags("--phase train")
    preset = PRESETS["ugatit-selfie2anime"][1]
    assert differences(preset, config) == ["--data.path", "dataset/selfie2anime"]


def test_every_flag_arrives():
    config, notes = translated_flags(
        "--light True --dataset horse2zebra --epoch 7 --iteration 5 --batch_size 2 --print_freq 3 "
        "--decay_flag no --decay_epoch 4 --lr 0.5 --GP_ld 1 --adv_weight 2 --cycle_weight 3 "
        "--identity_weight 4 --cam_weight 5 --gan_type hinge --smoothing false --ch 8 --n_res 2 "
        "--n_dis 5 --n_critic 3 --sn false --img_size 64 --augment_flag false "
        "--commitment_cost 0.5 --quantization_layer 0129 --decay 0.9 --save_freq 2 --log_dir x"
    )
    assert (config.generator.light, config.generator.smoothing) == (True, False)
    assert config.domain_names == ("horse", "zebra")
    schedule, step = config.schedule, config.step
    assert (schedule.epochs, schedule.epoch_steps) == (7, 5)
    assert (schedule.decay, schedule.decay_epoch) == (False, 4)
    assert (step.batch_size, step.lr, step.loss, step.generator_every) == (2, 0.5, "hinge", 3)
    weights = (step.adversarial_weight, step.cycle_weight, step.identity_weight)
    assert (*weights, step.cam_weight, step.penalty_weight) == (2, 3, 4, 5, 1)
    assert (config.generator.channels, config.discriminator.channels) == (8, 8)
    assert (config.generator.num_blocks, config.discriminator.depth) == (2, 5)
    assert not config.discriminator.spectral_norm
    assert (config.data.resolution, config.data.augment, config.sample_every) == (64, False, 3)
    quantizer = config.quantizer
    assert (quantizer.layers, quantizer.commitment_weight, quantizer.decay) == ((1, 2), 0.5, 0.9)
    assert len(notes) == 4


def test_without_quantization_there_is_none():
    config, notes = translated_flags("--quant false")
    assert config.quantizer.layers == ()
    assert any("--quant false" in note for note in notes)
    assert UGATIT_FLAGS["quant"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--gan_type relativistic", "none of the authors'"),
        ("--img_ch 1", "3 channels"),
        ("--unknown 1", "would not accept this"),
        ("--n_dis 7 --img_size 64", "--discriminator.depth 7 halves"),
    ],
)
def test_flags_without_a_counterpart_are_named(line, said):
    with pytest.raises(ValueError, match=said):
        translated_flags(line)


def moments_for(networks):
    moments = {"generator_updates": torch.tensor(5.0), "discriminator_updates": torch.tensor(7.0)}
    for name, parameter in networks.named_parameters():
        moments[f"{name}.exp_avg"] = torch.randn_like(parameter)
        moments[f"{name}.exp_avg_sq"] = torch.rand_like(parameter)
    return moments


def test_every_parameter_gets_its_moments():
    networks = build_networks(tiny_networks())
    step = UgatitStep(networks, StepConfig(lr=3e-4), ScheduleConfig())
    moments = moments_for(networks)
    load_moments(moments, step)
    found = {}
    for optimizer in (step.generator_optimizer, *step.discriminator_optimizers):
        found |= optimizer.state
        assert optimizer.param_groups[0]["lr"] == 3e-4
    for name, parameter in networks.named_parameters():
        state = found[parameter]
        assert torch.equal(state["exp_avg"], moments[f"{name}.exp_avg"])
        assert torch.equal(state["exp_avg_sq"], moments[f"{name}.exp_avg_sq"])
        assert float(state["step"]) == (7.0 if name.startswith("judge") else 5.0)


def test_moments_of_another_network_are_refused():
    networks = build_networks(tiny_networks())
    step = UgatitStep(networks, StepConfig(), ScheduleConfig())
    moments = moments_for(networks)
    moments["judge_b.local_branch.logit.bias.exp_avg"] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"judge_b\.local_branch\.logit\.bias do not fit"):
        load_moments(moments, step)
