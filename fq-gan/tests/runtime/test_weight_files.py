"""Foreign weight files are read or refused in a sentence, and a report names what does not fit."""

import argparse

import pytest
import torch
from safetensors.torch import save_file

from fqgan.runtime.weight_files import compare_tensors, read_weight_file


class Canary:
    """Would leave a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("old", [False, True])
def test_both_containers_and_safetensors_are_read(tmp_path, old):
    state = {"weight": torch.randn(2, 3)}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        assert torch.equal(read_weight_file(tmp_path / name)["weight"], state["weight"])


@pytest.mark.parametrize("old", [False, True])
def test_code_is_refused_and_not_run(tmp_path, old):
    path = tmp_path / "a.pt"
    torch.save({"weight": Canary(tmp_path / "ran")}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match=r"a\.pt is refused: it holds more than tensors"):
        read_weight_file(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_allowed_is_built(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is refused"):
        read_weight_file(tmp_path / "a.pt")
    assert read_weight_file(tmp_path / "a.pt", [argparse.Namespace])["args"].lr == 1


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_file_cut_short_is_named_with_its_cure(tmp_path, suffix, keep):
    path = tmp_path / f"a{suffix}"
    state = {"weight": torch.randn(50, 50)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"is no whole weight file .*; fetch or copy it again"):
        read_weight_file(path)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80", b"PK\x03\x04", b"\x00" * 64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bytes_that_are_no_weights_are_named(tmp_path, content, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\{suffix} is (refused|no whole weight file)"):
        read_weight_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path, problem in ((tmp_path, "is a folder"), (tmp_path / "x.pt", "does not exist")):
        with pytest.raises(FileNotFoundError, match=problem):
            read_weight_file(path)


def test_the_report_names_everything_that_does_not_fit():
    model = torch.nn.Linear(3, 2)
    state = {"weight": torch.zeros(2, 4), "scale": torch.zeros(1)}
    report = compare_tensors(model, state)
    assert report.missing == ["bias"]
    assert report.unexpected == ["scale"]
    assert report.wrong_shape == ["weight: (2, 4) instead of (2, 3)"]
    with pytest.raises(ValueError, match=r"f\.pt does not fit .* the first wrong shape is weight"):
        report.require_complete("f.pt")
    whole = compare_tensors(model, model.state_dict())
    assert whole.complete
    assert whole.summary().startswith("2 tensors fit, 0 missing")
    with pytest.raises(ValueError, match="the weights hold 'bias', a int and no tensor"):
        compare_tensors(model, {"bias": 3})
