"""A run's folder has one writer and knows its configuration."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from optimus.runtime.rundir import open_run, read_config


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Options:
    run_dir: Path = Path("runs/x")
    data: Path | None = None
    lr: float = 0.1
    inner: Inner = Inner()


def test_the_configuration_comes_back(tmp_path):
    config = Options(run_dir=tmp_path, data=tmp_path / "d", inner=Inner((4, 5, 6)))
    with open_run(tmp_path, config):
        assert read_config(Options, tmp_path) == config


def test_a_second_writer_is_refused(tmp_path):
    with (
        open_run(tmp_path, Options()),
        pytest.raises(ValueError, match="another run is writing to"),
        open_run(tmp_path, Options()),
    ):
        pass


def test_the_folder_is_free_again_after_a_failure(tmp_path):
    with pytest.raises(KeyError), open_run(tmp_path, Options()):
        raise KeyError
    with open_run(tmp_path, Options()):
        pass


def test_changed_options_are_named(tmp_path, caplog):
    with open_run(tmp_path, Options()):
        pass
    with open_run(tmp_path, replace(Options(), lr=0.2, inner=Inner((9,)))):
        pass
    assert "--lr is now 0.2, was 0.1" in caplog.text
    assert "--inner.sizes is now [9], was [1, 2]" in caplog.text


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not the folder of a run"):
        read_config(Options, tmp_path)


@pytest.mark.parametrize("content", [b"", b'{"lr": 0.', b"[1, 2]", b"\xff\xfe{}"])
def test_a_damaged_configuration_is_named_with_its_cure(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is no configuration .*; put the original"):
        read_config(Options, tmp_path)
    with pytest.raises(ValueError, match="delete it and"), open_run(tmp_path, Options()):
        pass
    path.unlink()
    with open_run(tmp_path, Options()):
        assert read_config(Options, tmp_path) == Options()
