"""Files of the authors' programs load with a report of every tensor: none missing, none over."""

from dataclasses import replace

import numpy as np
import pytest
from factories import tfhub_arrays, write_tensor_bundle

from fqgan.biggan.networks import build_generator
from fqgan.released import convert
from fqgan.released.biggan import build_released, read_released_set, tfhub_config
from fqgan.released.stylegan2 import load_snapshot
from fqgan.released.ugatit import build_released as build_ugatit, read_released


def assert_complete(reports):
    assert reports
    for report in reports:
        assert report.complete, report.text()


@pytest.mark.golden
@pytest.mark.cases("biggan/train/*_ckpt/exp*")
def test_a_six_file_set_of_biggan_pytorch_loads_completely(case):
    copies = [path.stem.removeprefix("state_dict") for path in case.glob("state_dict*.pth")]
    assert copies
    for suffix in copies:
        released = read_released_set(case, suffix.removeprefix("_"))
        networks, reports = build_released(released)
        assert_complete(reports)
        assert {"generator", "discriminator"} <= set(networks)


@pytest.mark.golden
@pytest.mark.cases("stylegan/network-snapshot-*.pkl")
def test_a_pickle_of_the_stylegan2_code_loads_completely(case):
    assert_complete(load_snapshot(case).reports)


@pytest.mark.golden
@pytest.mark.cases("ugatit/ckpt_*/*/*.index")
def test_a_tensorflow_checkpoint_of_u_gat_it_loads_completely(case):
    _, reports = build_ugatit(read_released(case.parent))
    assert_complete(reports)


@pytest.mark.parametrize("kind", ["dump", "checkpoint"])
def test_a_generator_of_tf_hub_loads_completely(tmp_path, monkeypatch, kind):
    config = tfhub_config(128)
    small = replace(config.generator, channels=8, shared_dim=6, latent_dim=12)
    config = replace(config, generator=small, num_classes=5)
    monkeypatch.setattr(convert, "tfhub_config", lambda resolution: config)
    arrays = tfhub_arrays(build_generator(config).eval(), count=2.0)
    path = tmp_path / "dump.npz"
    if kind == "dump":
        np.savez(path, **arrays)
    else:
        path = tmp_path / "module"
        (path / "variables").mkdir(parents=True)
        write_tensor_bundle(path / "variables" / "variables", arrays)
    convert.main(["tfhub", str(path), str(tmp_path / "out"), "--resolution", "128"])
    report = (tmp_path / "out" / "report.txt").read_text()
    assert "0 missing" in report
    assert "0 unexpected" in report
