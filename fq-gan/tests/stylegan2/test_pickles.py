"""Network pickles: the recorded one computes what it should, and none runs code."""

import os
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from factories import Recorded, relative_error

from fqgan.released.stylegan2 import NetworkRecord, load_snapshot, read_network_pickle, to_tf
from fqgan.stylegan2.legacy import build_discriminator, build_generator

TOLERANCE = 1e-4
TRUNCATED_LAYERS = 4  # of the recorded image
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
                    truncation_layers=TRUNCATED_LAYERS,
                    noise="fixed",
                )
                assert relative_error(images, recorded[name]) < TOLERANCE
        scores = snapshot.discriminator(recorded["images"], quantize=False).logits[:, None]
    assert relative_error(scores, recorded["D_scores"]) < TOLERANCE
