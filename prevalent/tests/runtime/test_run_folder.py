"""A refused start leaves a run's folder as it was; a run knows its kind and its options."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from prevalent.runtime.checkpoint import Checkpoint, finished_steps
from prevalent.runtime.options import ADDED
from prevalent.runtime.run_folder import (
    RunFolder,
    describe_unfinished,
    read_header,
    read_run,
    settle_unused,
)


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Options:
    run_dir: Path = Path("runs/x")
    data: Path | None = None
    lr: float = 0.1
    inner: Inner = Inner()


def contents(folder):
    """Every file below ``folder`` with its bytes, and every folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def make_run(folder, config=None, kind="toy", step=3):
    with RunFolder(folder, kind, config or Options()) as opened:
        opened.commit()
        if step:
            Checkpoint(folder, model=torch.nn.Linear(2, 2)).save(step)


def refused(folder):
    with RunFolder(folder, "toy", replace(Options(), lr=9)) as opened:
        opened.place("words").mkdir()
        (opened.place("words") / "a").write_text("a")
        raise KeyError


def test_the_configuration_comes_back_with_its_kind(tmp_path):
    config = Options(run_dir=tmp_path / "run", data=tmp_path / "d", inner=Inner((4, 5, 6)))
    make_run(tmp_path / "run", config)
    run = read_run(tmp_path / "run", {"toy": Options})
    assert (run.kind, run.config, run.folder) == ("toy", config, tmp_path / "run")
    header = list(json.loads((tmp_path / "run" / "config.json").read_text()))[:3]
    assert header == ["kind", "format_version", "version"]


def test_a_refused_first_start_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    with pytest.raises(KeyError):
        refused(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [0, 3])
def test_a_refused_continuation_leaves_every_byte(tmp_path, step):
    make_run(tmp_path / "run", step=step)
    before = contents(tmp_path)
    with pytest.raises(KeyError):
        refused(tmp_path / "run")
    assert contents(tmp_path) == before


def test_a_run_of_another_kind_is_refused(tmp_path):
    make_run(tmp_path / "run", step=0)
    before = contents(tmp_path)
    with (
        pytest.raises(
            ValueError, match="holds a run of kind 'toy', this command makes one of kind"
        ),
        RunFolder(tmp_path / "run", "other", Options()),
    ):
        pass
    assert contents(tmp_path) == before


def test_a_fixed_option_is_refused_with_both_values_and_the_cure(tmp_path):
    make_run(tmp_path / "run")
    changed = replace(Options(), lr=0.3, inner=Inner((7,)))
    before = contents(tmp_path)
    with (
        pytest.raises(
            ValueError, match=r"--inner.sizes is 7 here and 1 2 in the run .* step 3; give"
        ),
        RunFolder(tmp_path / "run", "toy", changed, fixed=("inner",)),
    ):
        pass
    assert contents(tmp_path) == before
    with RunFolder(tmp_path / "run", "toy", replace(Options(), lr=0.3), fixed=("inner",)):
        pass


def test_a_run_keeps_what_it_recorded_of_options_that_it_does_not_use(tmp_path):
    changed, unused = replace(Options(), lr=0.3, inner=Inner((7,))), {"--inner.": "it is off"}
    assert settle_unused(changed, tmp_path / "run", unused) == changed
    make_run(tmp_path / "run")
    settled = settle_unused(changed, tmp_path / "run", unused)
    assert settled == replace(Options(), lr=0.3)
    with RunFolder(tmp_path / "run", "toy", settled, fixed=("inner",)) as opened:
        opened.commit()
    (tmp_path / "run" / "config.json").write_text('{"kind": "other"}')
    assert settle_unused(changed, tmp_path / "run", unused) == changed


def test_a_start_without_a_checkpoint_may_change_everything_but_the_kind(tmp_path):
    make_run(tmp_path / "run", step=0)
    changed = replace(Options(), inner=Inner((7,)))
    with RunFolder(tmp_path / "run", "toy", changed, fixed=("inner",)) as opened:
        opened.commit()
    assert read_run(tmp_path / "run", {"toy": Options}).config == changed


def test_what_a_start_placed_is_found_again_only_if_it_came_to_a_checkpoint(tmp_path):
    folder = tmp_path / "run"
    with RunFolder(folder, "toy", Options()) as opened:
        opened.place("words").write_text("first")
        opened.commit()
        assert opened.place("words") == folder / "words"
    with RunFolder(folder, "toy", Options()) as opened:
        assert not opened.has("words")
        opened.place("words").write_text("second")
        opened.commit()
    assert (folder / "words").read_text() == "second"
    Checkpoint(folder, model=torch.nn.Linear(2, 2)).save(1)
    with RunFolder(folder, "toy", Options()) as opened:
        assert opened.has("words")
        assert opened.place("words").read_text() == "second"


def test_a_second_writer_is_refused_and_takes_nothing_from_the_first(tmp_path):
    with RunFolder(tmp_path / "run", "toy", Options()) as first:
        first.place("words").write_text("first")
        with (
            pytest.raises(ValueError, match="another run is writing to"),
            RunFolder(tmp_path / "run", "toy", Options()),
        ):
            pass
        first.commit()
        with (
            pytest.raises(ValueError, match="another run is writing to"),
            RunFolder(tmp_path / "run", "toy", Options()),
        ):
            pass
        assert (tmp_path / "run" / "words").read_text() == "first"


def test_changed_free_options_are_named(tmp_path, caplog):
    make_run(tmp_path / "run")
    with RunFolder(tmp_path / "run", "toy", replace(Options(), lr=0.2, inner=Inner((9,)))) as one:
        one.commit()
    assert "--lr is now 0.2, was 0.1" in caplog.text
    assert "--inner.sizes is now 9, was 1 2" in caplog.text


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"learn_rate": 1}, "unknown learn_rate"), ({"lr": "left out"}, "missing lr")],
)
def test_unknown_and_missing_options_are_named(tmp_path, change, problem):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    plain = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: one for key, one in plain.items() if one != "left out"}))
    with pytest.raises(ValueError, match=f"{problem}; it was written by another version"):
        read_run(tmp_path / "run", {"toy": Options}, upgrade=lambda plain: plain)


@dataclass(frozen=True)
class Later(Options):
    colour: str = field(default="none", metadata=ADDED)


def test_an_option_that_came_later_has_its_default(tmp_path):
    make_run(tmp_path / "run")
    same = {"upgrade": lambda plain: plain}
    assert read_run(tmp_path / "run", {"toy": Later}, **same).config.colour == "none"
    with RunFolder(tmp_path / "run", "toy", replace(Later(), colour="red"), fixed=("colour",)):
        pass


def test_a_run_of_a_kind_that_a_command_does_not_take_is_named(tmp_path):
    make_run(tmp_path / "run")
    kinds = {"toy": Options, "other": Options}
    with pytest.raises(ValueError, match="a run of kind 'toy'; this command takes other"):
        read_run(tmp_path / "run", kinds, wanted=("other",))


def test_an_older_configuration_is_brought_up_to_date(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"lr": 0.5}))

    def upgrade(plain):
        return {"kind": "toy", "run_dir": "r", "data": None, "inner": {"sizes": [1]}, **plain}

    assert read_run(tmp_path, {"toy": Options}, upgrade).config.lr == 0.5
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"it is no run of ours; give {tmp_path}$"):
        read_header(tmp_path / "model")
    with pytest.raises(ValueError, match="does not say what kind of run"):
        read_run(tmp_path, {"toy": Options})


def test_a_configuration_of_a_later_version_is_refused(tmp_path):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(ValueError, match="has format 99"):
        read_run(tmp_path / "run", {"toy": Options})


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"it has no config\.json"):
        read_run(tmp_path, {"toy": Options})
    with pytest.raises(FileNotFoundError, match="it does not exist"):
        read_run(tmp_path / "none", {"toy": Options})


@pytest.mark.parametrize("content", [b"", b'{"lr": 0.', b"[1, 2]", b"\xff\xfe{}"])
def test_a_damaged_configuration_is_named_with_its_cure(tmp_path, content):
    make_run(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_bytes(content)
    before = contents(tmp_path)
    sentence = r"config\.json is no configuration .*; put the original back"
    with pytest.raises(ValueError, match=sentence):
        read_run(tmp_path / "run", {"toy": Options})
    with pytest.raises(ValueError, match=sentence), RunFolder(tmp_path / "run", "toy", Options()):
        pass
    assert contents(tmp_path) == before


def test_checkpoints_without_a_configuration_are_not_guessed_at(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    with (
        pytest.raises(ValueError, match="nothing says what run they belong to"),
        RunFolder(tmp_path / "run", "toy", Options()),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format_version": "2"}, "its format_version is '2'"),
        ({"format_version": None}, "its format_version is None"),
        ({"format_version": 99}, "has format 99"),
        ({"version": None}, "does not say which version wrote it"),
        ({"inner": 5}, "5 stands where a group of options belongs"),
        ({"inner": None}, "null stands where a group of options belongs"),
        ({"learn_rate": 1}, "unknown learn_rate"),
    ],
)
def test_what_cannot_be_read_is_not_continued_either(tmp_path, change, problem):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=problem):
        read_run(tmp_path / "run", {"toy": Options})
    with pytest.raises(ValueError, match=problem), RunFolder(tmp_path / "run", "toy", Options()):
        pass
    assert contents(tmp_path) == before


def test_a_file_is_no_place_for_a_run(tmp_path):
    (tmp_path / "file").write_text("a")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with (
            pytest.raises(ValueError, match="is a file; choose a folder for the run"),
            RunFolder(place, "toy", Options()),
        ):
            pass
    with pytest.raises(FileNotFoundError, match="it is a file"):
        read_run(tmp_path / "file", {"toy": Options})


@pytest.mark.parametrize("name", ["checkpoints", "model"])
def test_a_part_of_a_run_is_no_place_for_another(tmp_path, name):
    make_run(tmp_path / "run")
    (tmp_path / "run" / name).mkdir(exist_ok=True)
    with (
        pytest.raises(ValueError, match=rf"{name} is a part of the run in .*run; choose another"),
        RunFolder(tmp_path / "run" / name, "toy", Options()),
    ):
        pass


def test_stray_folders_and_a_damaged_note_stop_nobody(tmp_path):
    make_run(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "12abc").mkdir()
    assert finished_steps(tmp_path / "run") == [3]
    for note in ("{}", '{"step": "a"', '{"step": "a", "total_steps": 3}'):
        (tmp_path / "run" / "reached.json").write_text(note)
        assert "is damaged, so it is not known" in describe_unfinished(tmp_path / "run")
