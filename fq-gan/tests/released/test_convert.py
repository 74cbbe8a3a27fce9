"""The command that converts published weights."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import Recorded, tfhub_arrays, tiny_config

from fqgan.biggan.config import QuantizerConfig
from fqgan.biggan.networks import build_generator
from fqgan.biggan.sampling import load_weights
from fqgan.released import convert
from fqgan.released.biggan import tfhub_config
from fqgan.released.stylegan2 import load_snapshot
from fqgan.stylegan2 import sampling as stylegan2_weights
from fqgan.ugatit.translation import load_weights as load_translators

FLAGS = {"resolution": 32, "n_classes": 3, "G_ch": 4, "D_ch": 4, "dim_z": 8, "G_attn": "0",
         "D_attn": "0"}  # fmt: skip


@pytest.mark.golden
@pytest.mark.cases("biggan/train/*_ckpt/exp*/state_dict*.pth")
def test_a_recorded_set_becomes_a_folder_that_samples_the_same_images(case, tmp_path, capsys):
    suffix = case.stem.removeprefix("state_dict").removeprefix("_")
    convert.main(["biggan", str(case.parent), str(tmp_path / "out"), "--suffix", suffix])
    assert capsys.readouterr().out.count("0 missing, 0 unexpected, 0 of another shape") == 3
    weights = load_weights(tmp_path / "out")
    recorded = Recorded(case.parents[1] / "ema_sample.npz")
    with torch.no_grad():
        images = weights.generator(recorded["z"], recorded["y"])
    assert (images - recorded["out_eval"]).abs().max() < 1e-4
    assert weights.step > 0


def test_a_set_that_does_not_fit_its_settings_is_refused_with_the_first_name(tmp_path):
    config = tiny_config(quantizer=QuantizerConfig(layers=()))
    state = build_generator(config).state_dict()
    state.pop("linear.bias")
    torch.save(state, tmp_path / "G.pth")
    torch.save({"itr": 1, "config": FLAGS}, tmp_path / "state_dict.pth")
    with pytest.raises(ValueError, match=r"1 missing.*linear\.bias"):
        convert.main(["biggan", str(tmp_path), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_dump_of_tf_hub_is_converted(tmp_path, monkeypatch):
    config = tfhub_config(128)
    small = replace(config.generator, channels=8, shared_dim=6, latent_dim=12)
    config = replace(config, generator=small, num_classes=5)
    monkeypatch.setattr(convert, "tfhub_config", lambda resolution: config)
    network = build_generator(config).eval()
    np.savez(tmp_path / "dump.npz", **tfhub_arrays(network, count=2.0))
    out = tmp_path / "out"
    convert.main(["tfhub", str(tmp_path / "dump.npz"), str(out), "--resolution", "128"])
    z, y = torch.randn(1, 12), torch.tensor([2])
    loaded = load_weights(out).generator
    torch.testing.assert_close(loaded(z, y), network(z, y), atol=1e-5, rtol=1e-4)
    assert "filled" in (out / "report.txt").read_text()
    assert json.loads((out / "config.json").read_text())["bn_eps"] == 1e-4


@pytest.mark.parametrize("name", ["dump.npz", "dump.h5"])
@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 no more"], ids=["", "text", "cut"])
def test_a_dump_that_is_none_is_named_without_advice_to_load_pickles(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is no whole dump of variables") as raised:
        convert.main(["tfhub", str(tmp_path / name), str(tmp_path / "out")])
    assert "allow_pickle" not in str(raised.value)


def test_a_folder_of_other_files_is_not_replaced_by_weights(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_text("mine")
    for kind in convert.KINDS:
        with pytest.raises(ValueError, match=r"photos holds other files, such as a\.jpg"):
            convert.main([kind, str(tmp_path), str(folder)])
    assert (folder / "a.jpg").read_text() == "mine"


@pytest.mark.golden
@pytest.mark.cases("stylegan/network-snapshot-*.pkl")
def test_a_recorded_stylegan_pickle_becomes_a_folder_that_samples_the_same_images(
    case, tmp_path, capsys
):
    convert.main(["stylegan2", str(case), str(tmp_path / "out")])
    assert capsys.readouterr().out.count("0 missing, 0 unexpected, 0 of another shape") == 3
    weights = stylegan2_weights.load_weights(tmp_path / "out")
    latents = torch.randn(2, weights.config.mapping.latent_dim)
    with torch.no_grad():
        expected = load_snapshot(case).average(latents, noise="fixed")
        assert torch.equal(weights.generator(latents, noise="fixed"), expected)
    assert len((tmp_path / "out" / "report.txt").read_text().splitlines()) > 100


def test_a_stylegan_pickle_that_holds_code_is_refused(tmp_path):
    path = tmp_path / "network-final.pkl"
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"network-final\.pkl was not loaded.*builtins\.print"):
        convert.main(["stylegan2", str(path), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.golden
@pytest.mark.cases("ugatit/ckpt_*/*/*.index")
def test_a_tensorflow_checkpoint_becomes_a_folder_that_translates_the_same(case, tmp_path, capsys):
    out = tmp_path / "out"
    convert.main(["ugatit", str(case.parent), str(out), "--moments"])
    assert capsys.readouterr().out.count("0 missing, 0 unexpected, 0 of another shape") == 4
    weights = load_translators(out)
    recorded = Recorded(
        case.parents[2] / f"ugatit_small_{case.parents[1].name.removeprefix('ckpt_')}.npz"
    )
    with torch.no_grad():
        images = weights.a_to_b(recorded["domain_A"].movedim(-1, 1)).images
    assert (images - recorded["ckpt_out/x_ab"].movedim(-1, 1)).abs().max() < 1e-3
    assert (out / "moments.safetensors").exists()
    assert "  loaded      first.weight" in (out / "report.txt").read_text()


def test_a_folder_without_a_tensorflow_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint was found in"):
        convert.main(["ugatit", str(tmp_path), str(tmp_path / "out")])
