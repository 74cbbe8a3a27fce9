"""Network pickles: the recorded one computes what it should, and none runs code."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from factories import Recorded, relative_error
from stylegan_cases import tiny_config

from fqgan.released.migrate import SCRIPTS, translate
from fqgan.released.stylegan2 import (
    NetworkRecord,
    discriminator_settings,
    from_tf,
    generator_settings,
    joint_settings,
    key_of,
    load_snapshot,
    name_of,
    read_network_pickle,
    to_tf,
)
from fqgan.runtime.command import parse, parse_preset
from fqgan.stylegan2.commands import EvaluateConfig, SampleConfig
from fqgan.stylegan2.config import CONFIGURATIONS, PRESETS, QuantizerConfig, build_recipe
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.projection import ProjectConfig

TOLERANCE = 1e-4
ARGUMENTS = {
    "num_channels": 3, "resolution": 16, "label_size": 0, "fmap_base": 64, "fmap_max": 8,
    "latent_size": 6, "dlatent_size": 6, "mapping_fmaps": 6, "mapping_layers": 2,
    "resample_kernel": [1, 3, 3, 1],
}  # fmt: skip


class Network:
    """The authors' class as far as pickles know it."""

    def __init__(self, state):
        self.state = state

    def __getstate__(self):
        return self.state

    def __setstate__(self, state):
        raise AssertionError("the class of the file was used")


class Malicious:
    """Would make a folder when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def their_class(monkeypatch):
    """Pickles name the class as the authors' code does."""
    for name in ("dnnlib", "dnnlib.tflib", "dnnlib.tflib.network"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["dnnlib.tflib.network"].Network = Network
    monkeypatch.setattr(Network, "__module__", "dnnlib.tflib.network")


def network(name, function, variables, components=None, **changes):
    return Network(
        {
            "version": 4, "name": name, "static_kwargs": {**ARGUMENTS, **changes},
            "components": components or {}, "build_module_src": "raise SystemExit('it was run')",
            "build_func_name": function, "variables": list(variables.items()),
        }
    )  # fmt: skip


def split(variables, scope):
    """Own variables, and those below ``scope`` without it."""
    below = {k.removeprefix(scope): v for k, v in variables.items() if k.startswith(scope)}
    return {k: v for k, v in variables.items() if not k.startswith(scope)}, below


def small_networks(*, first_version=False):
    """(G, D, Gs) in the authors' layout, and the states they were made of."""
    functions = ("G_style", "D_basic") if first_version else ("G_main", "D_stylegan2")
    synthesis = "G_synthesis" if first_version else "G_synthesis_stylegan2"
    states, networks = {}, []
    for role in ("generator", "discriminator", "average"):
        function = functions[role == "discriminator"]
        config = NetworkRecord(role, function, ARGUMENTS, {}, {}).settings()
        build = build_discriminator if role == "discriminator" else build_generator
        states[role] = build(config).state_dict()
        variables = {name: value.numpy() for name, value in to_tf(states[role]).items()}
        parts = {}
        if role != "discriminator":
            variables["lod"] = np.float32(0.5)
            for part, name, builder in (
                ("synthesis", "G_synthesis", synthesis),
                ("mapping", "G_mapping", "G_mapping"),
            ):
                variables, below = split(variables, f"{name}/")
                parts[part] = network(name, builder, below)
        networks.append(network(role, function, variables, parts))
    return tuple(networks), states


@pytest.mark.parametrize("first_version", [False, True])
def test_a_snapshot_in_the_authors_layout_is_read(tmp_path, their_class, first_version):
    path = tmp_path / "network-snapshot-000000.pkl"
    networks, states = small_networks(first_version=first_version)
    path.write_bytes(pickle.dumps(networks))
    snapshot = load_snapshot(path)
    assert all(report.complete for report in snapshot.reports)
    assert [report.name for report in snapshot.reports] == list(states)
    assert snapshot.lod == 0.5
    for role, state in states.items():
        found = getattr(snapshot, role).state_dict()
        assert set(found) == set(state)
        for name, value in state.items():
            assert torch.equal(found[name], value), name


def test_a_single_network_is_read(tmp_path, their_class):
    path = tmp_path / "classifier.pkl"
    networks, _ = small_networks(first_version=True)
    path.write_bytes(pickle.dumps(networks[1]))
    snapshot = load_snapshot(path)
    assert snapshot.generator is None
    assert snapshot.discriminator is not None
    assert snapshot.config.growing


def classifier_variables(resolution, widest=4):
    """Names, shapes and order of `celebahq-classifier-00-male.pkl`, with fewer channels."""
    generator = np.random.default_rng(0)
    names = [("FromRGB_lod0", (1, 1, 3, widest))]
    for level in range(resolution.bit_length() - 1, 2, -1):
        names += [(f"{2**level}x{2**level}/{part}", (3, 3, widest, widest))
                  for part in ("Conv0", "Conv1_down")]  # fmt: skip
    names += [("4x4/Conv", (3, 3, widest, widest)), ("4x4/Dense0", (16 * widest, widest))]
    names += [("4x4/Dense1", (widest, 1))]
    variables = {"lod": np.float32(0)}
    for name, shape in names:
        variables[f"{name}/weight"] = generator.standard_normal(shape, dtype=np.float32)
        variables[f"{name}/bias"] = generator.standard_normal(shape[-1:], dtype=np.float32)
    return variables


def classified(variables, images):
    """The published classifier in a few lines: no blur, no deviation of the batch."""

    def layer(name, x, gain=2**0.5):
        weight = torch.from_numpy(variables[f"{name}/weight"])
        weight = weight * gain / np.sqrt(np.prod(weight.shape[:-1]))
        bias = torch.from_numpy(variables[f"{name}/bias"])
        if weight.ndim == 2:
            return x.flatten(1) @ weight + bias
        return torch.conv2d(x, weight.permute(3, 2, 0, 1), bias, padding=weight.shape[0] // 2)

    def act(x):
        return torch.nn.functional.leaky_relu(x, 0.2)

    x = act(layer("FromRGB_lod0", images))
    while x.shape[-1] > 4:
        scope = f"{x.shape[-1]}x{x.shape[-1]}"
        x = act(layer(f"{scope}/Conv0", x))
        x = act(torch.nn.functional.avg_pool2d(layer(f"{scope}/Conv1_down", x), 2))
    return layer("4x4/Dense1", act(layer("4x4/Dense0", act(layer("4x4/Conv", x)))), 1.0)[:, 0]


@pytest.mark.parametrize("function", ["D_basic", "D_paper"])
def test_an_attribute_classifier_computes_what_its_variables_say(tmp_path, their_class, function):
    path, variables = tmp_path / "celebahq-classifier-00-male.pkl", classifier_variables(32)
    settings = {"blur_filter": None, "mbstd_group_size": 0, "structure": "fixed", "fmap_max": 4}
    words = {**settings, "resolution": 32, "fused_scale": True}
    path.write_bytes(pickle.dumps(network("classifier", function, variables, **words)))
    snapshot = load_snapshot(path)
    (report,) = snapshot.reports
    assert report.complete
    assert {name.split(".")[0] for name in report.filled} == {f"from_rgb_lod{i}" for i in (1, 2, 3)}
    images = torch.randn(3, 3, 32, 32)
    found = snapshot.discriminator(images).logits
    torch.testing.assert_close(found, classified(variables, images), rtol=1e-4, atol=1e-5)


def test_a_network_that_has_yet_to_grow_needs_all_its_layers(tmp_path, their_class):
    path, variables = tmp_path / "D.pkl", classifier_variables(16) | {"lod": np.float32(0.5)}
    words = {"blur_filter": [], "mbstd_group_size": 0, "fmap_max": 4}
    path.write_bytes(pickle.dumps(network("D", "D_basic", variables, **words)))
    (report,) = load_snapshot(path).reports
    assert "from_rgb_lod1.weight" in report.missing


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_pickle_never_runs(tmp_path, their_class, protocol):
    path, canary = tmp_path / "network.pkl", tmp_path / "canary"
    trap = Malicious(canary)
    for content in (
        trap,
        network("G", "G_main", {"lod": trap}),
        network("G", "G_main", {}, {"synthesis": trap}),
        network("G", trap, {}),
        (network("G", "G_main", {}, architecture=trap), 1),
        [network("G", "G_main", {}), {"key": [trap]}],
    ):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(ValueError, match=r"network\.pkl was not loaded"):
            read_network_pickle(path)
        assert not canary.exists()


def test_a_missing_and_a_foreign_variable_are_reported(tmp_path, their_class):
    path = tmp_path / "D.pkl"
    built = build_discriminator(NetworkRecord("D", "D_stylegan2", ARGUMENTS, {}, {}).settings())
    variables = {name: v.numpy() for name, v in to_tf(built.state_dict()).items()}
    del variables["Output/bias"]
    variables["4x4/Conv/extra"] = np.zeros(3, np.float32)
    path.write_bytes(pickle.dumps(network("D", "D_stylegan2", variables)))
    (report,) = load_snapshot(path).reports
    assert report.missing == ("output.bias",)
    assert report.unexpected == ("blocks.4.conv.extra",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "holds no networks"),
        ((), "holds no networks"),
        (("G_main", "D"), "holds no networks"),
    ],
)
def test_other_pickles_are_refused(tmp_path, content, message):
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_network_pickle(path)


def test_networks_of_unknown_functions_are_refused(tmp_path, their_class):
    path = tmp_path / "network.pkl"
    for networks, message in (
        (network("G", "G_paper", {}), "G_paper builds no discriminator"),
        ((network("G", "G_main", {}),) * 3, "holds 3 networks"),
        (network("G", "G_main", {}, fmap_decay=0.5), "fmap_decay=0.5"),
    ):
        path.write_bytes(pickle.dumps(networks))
        with pytest.raises(ValueError, match=message):
            load_snapshot(path)
    path.write_bytes(pickle.dumps(Network({"version": 4})))
    with pytest.raises(ValueError, match="cannot be read"):
        read_network_pickle(path)


def truncated_layers(name):
    """Of a recorded image: as ``cut`` behind its name says, as with networks, or else 4."""
    found = re.search(r"_cut(\w+?)(?:_|$)", name)
    return 4 if found is None else None if found[1] == "None" else int(found[1])


@pytest.mark.golden
@pytest.mark.cases("stylegan/network-snapshot-*.pkl")
def test_a_recorded_snapshot_computes_what_was_recorded(case):
    expected = case.with_name("network-snapshot-expected.npz")
    if not expected.is_file():
        pytest.skip(f"{expected.name}, which has the values, is absent")
    recorded, snapshot = Recorded(expected), load_snapshot(case)
    assert all(report.complete for report in snapshot.reports)
    with torch.no_grad():
        for name in recorded.names:
            if name.startswith("Gs_out"):
                psi = float(name.split("psi")[1].split("_")[0])
                images = snapshot.average(
                    recorded["z"],
                    truncation=psi,
                    truncation_layers=truncated_layers(name),
                    noise="fixed",
                )
                assert relative_error(images, recorded[name]) < TOLERANCE
        scores = snapshot.discriminator(recorded["images"], quantize=False).logits[:, None]
    assert relative_error(scores, recorded["D_scores"]) < TOLERANCE


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


@pytest.mark.golden
@pytest.mark.cases("stylegan/full_size_variables.json")
def test_full_size_networks_have_the_recorded_variables(case):
    for name, networks in json.loads(case.read_text()).items():
        configuration, resolution = name.split("_")[:2]  # as config-e_128, then remarks
        assert configuration in CONFIGURATIONS
        for kind, variables in networks.items():
            digits = {n.split("/")[0] for n in variables if n.startswith("Discrete_mapping_")}
            layers = tuple(sorted(int(d.rsplit("_", 1)[1]) for d in digits))
            recipe = build_recipe(
                configuration, int(resolution), quantizer=QuantizerConfig(layers=layers)
            )
            build = build_generator if kind.startswith("G") else build_discriminator
            with torch.device("meta"):
                network = build(recipe.networks)
            ours = to_tf(network.state_dict())
            theirs = {variable: entry[0] for variable, entry in variables.items()}
            assert {k: list(v.shape) for k, v in ours.items()} == theirs, f"{name} {kind}"
            trainable = {v for v, entry in variables.items() if entry[1]}
            learned = {name_of(key) for key, _ in network.named_parameters()}
            assert learned == {v for v in trainable if v.split("/")[0] not in digits}


@pytest.mark.golden
@pytest.mark.cases("stylegan/networks_losses*.npz")
def test_every_recorded_variable_has_a_key_or_follows_from_others(case):
    recorded = Recorded(case)
    for kind, names in recorded.json("names").items():
        if f"{kind}/{next(iter(names))}" not in recorded.names:
            continue  # a smaller file has some of the networks
        variables = {name: recorded[f"{kind}/{name}"] for name in names}
        back = to_tf(from_tf(variables))
        for name, value in variables.items():
            assert torch.equal(back[name], value) or "ema_" in name, name


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_states_survive_the_way_to_their_names_and_back(build):
    state = build(tiny_config((3, 4), label_size=2)).state_dict()
    back = from_tf(to_tf(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
    assert all(key_of(name_of(key)) == key for key in state)


def test_names_are_those_of_the_authors():
    assert key_of("G_synthesis/8x8/Conv0_up/mod_weight") == (
        "synthesis.blocks.8.conv0_up.modulation.weight"
    )
    assert key_of("Discrete_mapping_4/Discrete_mapping_4_1/ema_dw/biased") == (
        "quantizers.4.embed_avg"
    )
    assert key_of("lod") is None


README = (
    "python run_training.py --num-gpus=8 --data-dir=datasets --config=config-e --dataset={data} "
    "--mirror-augment=true --total-kimg 25000 --gamma=100 --D_type=1 --discrete_layer 45 "
    "--commitment_cost 0.25 --decay 0.8"
)


def trained(command):
    ((words, notes),) = translate(command.split())
    assert words[0] == "train"
    return parse_preset({words[1]: PRESETS[words[1]]}, words[1:], "test"), words, notes


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_recipe_of_the_readme_is_its_preset(size):
    config, words, notes = trained(README.format(data=f"ffhq{size}"))
    assert words[1:] == [f"stylegan2-ffhq{size}", "--data.path", f"datasets/ffhq{size}"]
    assert config.quantizer == PRESETS[words[1]][1].quantizer
    assert notes == ["start it with torchrun --nproc-per-node 8 -m fqgan train ..."]


def test_what_differs_is_given_as_options():
    config, words, notes = trained(
        README.format(data="ffhq").replace("45", "4,5,10").replace("=100", "=10")
        + " --metrics=none --result-dir=out --decay=0.9"
    )
    assert words[1] == "stylegan2-ffhq1024"
    assert config.quantizer.layers == (4, 5, 10)
    assert config.quantizer.decay == 0.9
    assert config.step.r1_weight == 10
    assert config.evaluate_kimg == 0
    assert config.run_dir == "out"
    assert any("ffhq is taken to have 1024 pixels" in note for note in notes)


def test_plain_networks_and_configurations_without_quantizer():
    config, words, _ = trained(README.format(data="ffhq").replace("D_type=1", "D_type=0"))
    assert words[1] == "stylegan2-ffhq1024-baseline"
    command = "run_training.py --data-dir d --dataset ffhq --config config-a --mirror-augment=true"
    config, words, notes = trained(command)
    assert words[1] == "stylegan2-config-a"
    assert not config.quantizer.layers
    assert any("has no feature quantization" in note for note in notes)


@pytest.mark.parametrize(
    ("command", "kind", "expected"),
    [
        (
            "run_generator.py generate-images --network=a/net.pkl --seeds=6600-6603,7",
            SampleConfig,
            {"seeds": ("6600-6603,7",), "truncation": 0.5},
        ),
        (
            "run_generator.py style-mixing-example --network=net.pkl --row-seeds=85,100 "
            "--col-seeds=55 --truncation-psi=1.0",
            SampleConfig,
            {"rows": ("85,100",), "columns": ("55",), "mixing_layers": ("0-6",), "truncation": 1},
        ),
        (
            "run_projector.py project-generated-images --network=net.pkl --seeds=0,1,5",
            ProjectConfig,
            {"seeds": ("0,1,5",), "num_snapshots": 5, "truncation": 1.0},
        ),
        (
            "run_projector.py project-real-images --network=net.pkl --dataset=car --data-dir=d",
            ProjectConfig,
            {"num_images": 3},
        ),
        (
            "run_metrics.py --network=net.pkl --metrics=fid50k,ppl_wend --dataset=ffhq "
            "--data-dir=d --mirror-augment=true",
            EvaluateConfig,
            {"metrics": ("fid50k", "ppl_wend")},
        ),
    ],
)
def test_the_tools_have_commands_that_parse(command, kind, expected):
    convert, (words, _) = translate(["python", *command.split()])
    assert convert.command[:2] == ["convert", "stylegan2"]
    config = parse(kind, words[1:], "test")
    assert config.weights == convert.command[3] == "converted/net"
    assert {name: getattr(config, name) for name in expected} == expected


def test_what_their_parser_refuses_is_refused():
    with pytest.raises(ValueError, match=r"would not accept this.*--config"):
        translate(["run_training.py", "--data-dir", "d", "--dataset", "ffhq"])
    words = "--data-dir d --dataset x --config config-e --mirror-augment=perhaps"
    with pytest.raises(ValueError, match="true or false expected"):
        translate(["run_training.py", *words.split()])
    assert len(SCRIPTS) == 4
