"""JSON is strict wherever a project writes it, and one function writes it."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

import fqgan.runtime.files
from fqgan.runtime.files import json_text, require_target, why, write_json
from fqgan.runtime.logs import Logs, read_metrics
from fqgan.runtime.run_folder import as_plain, config_text, from_plain

INF, NAN = float("inf"), float("nan")
WRITER = Path(fqgan.runtime.files.__file__)
CODE = WRITER.parents[1]
FOLDERS = [folder for name in ("benchmarks", "evidence") if (folder := CODE.parent / name).exists()]
FILES = sorted(path for folder in (CODE, *FOLDERS) for path in folder.rglob("*.py"))


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_does_not_have_are_null(tmp_path):
    value = {"ppl": INF, "rows": [(NAN, 1.5)], "path": Path("a/b"), "none": None}
    assert strict(json_text(value)) == {
        "ppl": None,
        "rows": [[None, 1.5]],
        "path": "a/b",
        "none": None,
    }
    write_json(tmp_path / "one.json", value)
    assert strict((tmp_path / "one.json").read_text())["ppl"] is None


def test_what_has_no_form_in_json_is_refused():
    with pytest.raises(TypeError, match="object"):
        json_text({"a": object()})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_json_is_written_by_one_function(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump"):
            kept = any(ast.unparse(word) == "allow_nan=False" for word in node.keywords)
            assert kept or path == WRITER, f"line {node.lineno}: use runtime/files.py"


def test_a_row_of_metrics_is_strict_json_and_comes_back_without_what_is_not_finite(tmp_path):
    for first in (0, 1):  # the second start keeps the row
        with Logs(tmp_path, total_steps=2, first_step=first, rows=first) as logs:
            logs.log(first + 1, loss=1.0, gradient_norm=INF, kl=NAN)
        rows = [strict(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1] == {"step": first + 1, "loss": 1.0, "gradient_norm": None, "kl": None}
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}]
    assert len(rows) == 2


def test_infinity_in_an_older_metrics_file_is_read_and_mended(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN, "norm": Infinity, "kl": 2}\n')
    assert read_metrics(tmp_path) == [{"step": 1, "kl": 2}]
    with Logs(tmp_path, total_steps=2, first_step=1):
        pass
    assert strict((tmp_path / "metrics.jsonl").read_text())["loss"] is None


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"is a folder; name a file to write"):
        write_json(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Options:
    norm: float = INF
    pair: tuple[float, float] = (0.0, -INF)
    count: int = 2
    inner: Inner = Inner()


def test_infinite_options_are_written_as_one_gives_them():
    plain = strict(config_text("toy", Options()))
    assert (plain["norm"], plain["pair"]) == ("inf", [0.0, "-inf"])
    assert from_plain(Options, as_plain(Options()), "config.json") == Options()


def test_a_value_of_another_type_in_a_group_is_named_with_the_group():
    plain = as_plain(Options()) | {"inner": {"rate": "fast"}}
    with pytest.raises(ValueError, match=r"config\.json: inner\.rate must be of type float"):
        from_plain(Options, plain, "config.json")


@pytest.mark.parametrize("value", ["8", None, True, 1.5, [1]])
def test_a_value_of_another_type_is_named(value):
    plain = as_plain(Options()) | {"count": value}
    with pytest.raises(ValueError, match=r"config\.json: count must be of type int, got"):
        from_plain(Options, plain, "config.json")


def test_a_file_in_a_folder_that_is_not_there_is_named_as_it_was_given(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/a\.json cannot be written: its folder"):
        write_json(tmp_path / "none" / "a.json", {})


def test_brackets_without_end_are_described_in_words():
    with pytest.raises(RecursionError) as raised:
        json.loads("[" * 99999)
    assert why(raised.value) == "it has too many brackets in each other"


def test_a_place_for_weights_holds_nothing_that_would_be_lost(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("mine")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    for place, said in (
        ("file", "file is a file where a folder is needed"),
        ("file/below", "file is a file where a folder is needed"),
        ("run", "run holds a run, which weights would damage"),
        ("photos", r"photos holds other files, such as a\.jpg, which would be lost"),
    ):
        with pytest.raises(ValueError, match=said):
            require_target(tmp_path / place, ("config.json", "*.safetensors"))
    for place in ("weights", "new", "new/below"):
        assert require_target(tmp_path / place, ("config.json",)) == tmp_path / place
    assert not (tmp_path / "new").exists()
