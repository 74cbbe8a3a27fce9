"""A run knows what it is; a refused start leaves no trace; every verb asks the run."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from tiny_runs import begun, options_of, tiny_run, tiny_stylegan2
from torch import nn
from ugatit_runs import tiny_ugatit

from fqgan import config as verbs
from fqgan.__main__ import main
from fqgan.biggan.sampling import load_weights
from fqgan.config import VERBS, choose
from fqgan.runs import (
    KINDS,
    GanProgress,
    WeightOptions,
    best_goal,
    differences,
    load_into,
    open_run,
    run_of,
    save_folder,
    task_of,
    train,
    write_parameter_counts,
)
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.runtime.download import extract

COMPAT = Path(__file__).parent / "compat"
TINY = {"biggan": tiny_run, "ugatit": tiny_ugatit, "stylegan2": tiny_stylegan2}
SMOKE = {"biggan": "smoke", "ugatit": "ugatit-smoke", "stylegan2": "stylegan2-smoke"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """A run of two iterations of each kind, with a sheet and a score; nobody writes to it."""
    folder = tmp_path_factory.mktemp("runs")
    scored = {"evaluate_every": 2}
    train(tiny_run(folder / "biggan", max_steps=2, save_every=1, **scored))
    train(tiny_ugatit(folder / "ugatit", max_steps=2, save_every=1, **scored))
    train(tiny_stylegan2(folder / "stylegan2", save_kimg=0.004, evaluate_kimg=0.008))
    return {kind: folder / kind for kind in KINDS}


def contents(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with a digest of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(words: list[str], capsys) -> str:
    """The sentence with which ``fqgan`` refuses ``words``."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in error
    return error


def words_of(config) -> list[str]:
    preset = verbs.presets_of(config.kind)[SMOKE[config.kind]][1]
    return [SMOKE[config.kind], *differences(preset, config)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_and_its_weights_begin_with_their_kind(trained, kind):
    for name, expected in (("", kind), ("model", f"{kind}-weights"), ("best0", f"{kind}-weights")):
        plain = json.loads((trained[kind] / name / "config.json").read_text())
        assert list(plain)[:3] == ["kind", "format_version", "version"]
        assert plain["kind"] == expected
    run = open_run(trained[kind])
    assert run.kind == kind
    assert type(run.config) is task_of(kind).config
    assert run_of([f"--run-dir={trained[kind]}", "--seed", "1"], kind) == run
    assert run_of(["--seed", "1"]) is None


@pytest.mark.parametrize(("kind", "other"), [("biggan", "ugatit"), ("ugatit", "stylegan2")])
def test_a_run_of_another_kind_is_left_as_it_is(trained, kind, other, capsys):
    before = contents(trained[kind])
    said = refused(["train", SMOKE[other], "--run-dir", str(trained[kind])], capsys)
    assert f"holds a run of kind '{kind}', this command makes one of kind '{other}'" in said
    assert contents(trained[kind]) == before


CHANGES = [
    ("biggan", "--data.toy-images", "50"),
    ("biggan", "--initial-weights", "elsewhere"),
    ("stylegan2", "--initial-weights", "elsewhere"),
    ("ugatit", "--initial-weights", "elsewhere"),
    ("biggan", "--init", "glorot"),
    ("biggan", "--generator.channels", "4"),
    ("biggan", "--discriminator.channels", "4"),
    ("biggan", "--quantizer.codebook-size", "16"),
    ("biggan", "--quantizer.layers", "1"),
    ("biggan", "--precision", "bf16"),
    ("biggan", "--seed", "9"),
    ("ugatit", "--data.resolution", "32"),
    ("ugatit", "--generator.channels", "4"),
    ("ugatit", "--quantizer.codebook-size", "16"),
    ("ugatit", "--precision", "bf16"),
    ("stylegan2", "--data.toy-images", "50"),
    ("stylegan2", "--generator.channel-max", "8"),
    ("stylegan2", "--mapping.latent-dim", "8"),
    ("stylegan2", "--quantizer.codebook-size", "16"),
    ("stylegan2", "--precision", "bf16"),
]


@pytest.mark.parametrize(("kind", "option", "value"), CHANGES)
def test_a_continuation_with_other_options_is_refused_and_leaves_no_trace(
    trained, kind, option, value, capsys
):
    folder = trained[kind]
    before = contents(folder)
    words = words_of(TINY[kind](folder))
    said = refused(["train", *words, option, value], capsys)
    assert f"{option} is {value} here and " in said
    assert f"in the run in {folder}" in said
    assert "or another --run-dir" in said
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("kind", "change", "option", "more"),
    [
        ("biggan", {"data": {"split": "test"}}, "--data.split", {"max_steps": 2}),
        ("biggan", {"best_metric": "inception_score"}, "--best-metric", {"max_steps": 2}),
        ("ugatit", {"data": {"limit": 20}}, "--data.limit", {"max_steps": 2}),
        (
            "stylegan2",
            {"best_metric": "inception_score"},
            "--best-metric",
            {"schedule": {"total_kimg": 0.012}},
        ),
    ],
)
def test_a_run_that_was_begun_with_an_option_it_does_not_use_continues_without_it(
    kind, change, option, more, tmp_path, capsys
):
    def changed(config, change):
        groups = {
            name: replace(getattr(config, name), **value) if isinstance(value, dict) else value
            for name, value in change.items()
        }
        return replace(config, **groups)

    steps = {} if kind == "stylegan2" else {"max_steps": 1, "save_every": 1}
    config = TINY[kind](tmp_path / "run", **steps)
    train(changed(config, change))
    before = contents(tmp_path / "run")
    again = changed(config, more)
    value = str(next(iter(change["data"].values())) if "data" in change else "inception_score")
    said = refused(["train", *words_of(again), option, value], capsys)
    assert f"{option} is not used: " in said
    assert contents(tmp_path / "run") == before
    train(again)
    assert Checkpoint(tmp_path / "run").steps()[-1] == (12 if kind == "stylegan2" else 2)
    found = replace(open_run(tmp_path / "run").config, precision="auto")
    assert found == changed(changed(config, change), more)


def test_the_folder_of_a_begun_run_is_told_where_its_name_depends_on_an_unused_option(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    begun_with = ["smoke", "--data.split", "test", "--dry-run"]
    assert "goes on with" not in refused(["train", *begun_with], capsys)
    smoke = verbs.presets_of("biggan")["smoke"][1]
    config = replace(smoke, data=replace(smoke.data, split="test"))
    (config.folder / "checkpoints" / "1").mkdir(parents=True)
    said = refused(["train", *begun_with], capsys)
    assert f"; the run in {config.folder} goes on with --run-dir {config.folder}" in said


def test_fewer_iterations_than_the_run_has_are_said_to_be_fewer(trained, capsys):
    before = contents(trained["biggan"])
    words = words_of(tiny_run(trained["biggan"], max_steps=1))
    assert "--max-steps ends the run at step 1" in refused(["train", *words], capsys)
    words = words_of(tiny_stylegan2(trained["stylegan2"]))
    said = refused(["train", *words, "--schedule.total-kimg", "0.004"], capsys)
    assert "--schedule.total-kimg ends the run at image 4" in said
    assert contents(trained["biggan"]) == before


def test_a_start_that_is_refused_leaves_no_folder(tmp_path, capsys):
    run = tiny_run(tmp_path / "deep" / "run", evaluate_every=1)
    words = options_of(run)
    lacking = ["--scoring.features", "inception-torch", "--scoring.weights", "absent.pth"]
    assert "absent.pth is missing" in refused(["train", *words, *lacking], capsys)
    said = refused(["train", *words, "--initial-weights", str(tmp_path / "no")], capsys)
    assert "no does not exist; give a run, or a folder of weights" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_and_missing_options_are_named(tmp_path, kind):
    folder = begun(tmp_path, TINY[kind](tmp_path))
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**plain, "colour": "blue"}))
    with pytest.raises(ValueError, match=r"config\.json: unknown colour"):
        open_run(folder)
    del plain["seed"]
    (folder / "config.json").write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=r"config\.json: missing seed"):
        open_run(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_takes_the_runs_of_its_kinds_and_names_them(trained, kind, tmp_path, capsys):
    takes = {"translate": ["ugatit"], "project": ["stylegan2"]}
    for verb, kinds in takes.items():
        if kind not in kinds:
            words = ["--input", "a.png"] if verb == "translate" else ["--seeds", "1"]
            said = refused([verb, "--run-dir", str(trained[kind]), *words], capsys)
            assert f"is a run of kind '{kind}'; this command takes {kinds[0]}" in said
            said = refused([verb, "--weights", str(trained[kind]), *words], capsys)
            assert f"is of kind '{kind}-weights'; this command takes {kinds[0]}-weights" in said
    for verb in ("sample", "evaluate"):
        said = refused([verb, "--run-dir", str(trained[kind] / "model")], capsys)
        assert "is a folder of weights and no run; give it as --weights" in said
    assert choose(["--run-dir", str(trained[kind])]) == (kind, ["--run-dir", str(trained[kind])])
    assert choose([f"--weights={trained[kind] / 'model'}"])[0] == kind
    assert choose([kind, "--help"]) == (kind, ["--help"])


def test_without_a_folder_the_commands_of_biggan_answer(tmp_path):
    for words in (["--samples", "a.npz"], ["--run-dir", str(tmp_path / "absent")], []):
        assert choose(words)[0] == "biggan"
    begun(tmp_path, tiny_run(tmp_path))
    plain = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**plain, "kind": "r2r"}))
    with pytest.raises(ValueError, match="of kind 'r2r'; known are biggan, ugatit, stylegan2"):
        choose(["--run-dir", str(tmp_path)])
    assert set(VERBS) == set(KINDS)


def test_a_run_that_has_not_come_to_its_end_is_used_and_said_to_be_unfinished(tmp_path, caplog):
    train(tiny_run(tmp_path, max_steps=2, save_every=1))
    reached = json.loads((tmp_path / "reached.json").read_text())
    (tmp_path / "reached.json").write_text(json.dumps({**reached, "total_steps": 5}))
    source = WeightOptions(run_dir=str(tmp_path)).source("biggan")
    assert source == (tmp_path, tmp_path / "model", None)
    assert "is unfinished: step 2 of 5" in caplog.text
    earlier = WeightOptions(run_dir=str(tmp_path), step=1).source("biggan")
    weights = [load_weights(one.folder, step=one.step) for one in (source, earlier)]
    assert [one.step for one in weights] == [2, 1]
    first, second = (one.generator.linear.weight for one in weights)
    assert not torch.equal(first, second)
    with pytest.raises(FileNotFoundError, match=r"--step 7: .* checkpoints of the steps 1, 2"):
        load_weights(source.folder, step=7)
    for options in ({"best": True, "step": 1}, {"run_dir": "a", "weights": "b"}):
        with pytest.raises(ValueError, match="only one of"):
            WeightOptions(**options)
    with pytest.raises(ValueError, match="give --run-dir"):
        WeightOptions(weights="a", best=True)
    with pytest.raises(ValueError, match="no weights are given"):
        WeightOptions().source("biggan")


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_a_checkpoint_are_those_that_were_exported_then(trained, kind, capsys):
    last = Checkpoint(trained[kind]).steps()[-1]
    out = str(trained[kind].parent / "drawn" / kind)
    words = {
        "biggan": ["sample", "--npz", "2"],
        "stylegan2": ["sample", "--npz", "2"],
        "ugatit": ["evaluate"],
    }[kind]
    results = []
    for step in ([], ["--step", str(last)]):
        where = [] if kind == "ugatit" else ["--out", out]
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--run-dir", str(trained[kind]), *where, *step])
        assert stopped.value.code == 0
        results.append(capsys.readouterr().out)
        if kind != "ugatit":
            results[-1] = (Path(out) / "samples.npz").read_bytes()
    assert results[0] == results[1]


def test_a_run_stands_for_its_weights_where_weights_are_asked_for(trained, tmp_path):
    assert WeightOptions(weights=str(trained["biggan"])).source("biggan") == (
        trained["biggan"],
        trained["biggan"] / "model",
        None,
    )
    for kind in KINDS:
        train(TINY[kind](tmp_path / kind, initial_weights=str(trained[kind])))
        assert open_run(tmp_path / kind).kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_read_is_not_recorded(trained, kind, tmp_path, capsys):
    words = ["train", *words_of(TINY[kind](tmp_path / "new"))]
    said = refused([*words, "--data.path", "photos"], capsys)
    assert "--data.path photos is not read with --data.source toy" in said
    assert not (tmp_path / "new").exists()
    source = {"ugatit": "folders"}.get(kind, "folder")
    said = refused([*words, "--data.source", source, "--data.path", ""], capsys)
    assert f"--data.path is empty: say where the images of {source} are" in said


@pytest.mark.parametrize("kind", KINDS)
def test_weights_to_fine_tune_are_named_where_they_do_not_fit(trained, kind, tmp_path, capsys):
    other = {"biggan": "stylegan2", "stylegan2": "ugatit", "ugatit": "biggan"}[kind]
    file = next((trained[kind] / "model").glob("*.safetensors"))
    words = ["train", *words_of(TINY[kind](tmp_path / "new")), "--initial-weights"]
    for given, problem in (
        (trained[other], f"is of kind '{other}', and this preset trains '{kind}'"),
        (trained[other] / "model", f"is of kind '{other}', and this preset trains '{kind}'"),
        (file, "is a file; give a run, or a folder of weights"),
        (tmp_path / "none", "does not exist; give a run, or a folder of weights"),
    ):
        assert f"--initial-weights {given} {problem}" in refused([*words, str(given)], capsys)
    assert not (tmp_path / "new").exists()


def test_patience_ends_a_run_whose_scores_get_no_better(tmp_path, monkeypatch):
    fids = iter([3.0, 2.0, 4.0, 2.5, 1.0])
    monkeypatch.setattr("fqgan.scoring.Scorer.__call__", lambda self, sample: {"fid": next(fids)})
    train(tiny_run(tmp_path, max_steps=10, evaluate_every=1, patience=2, keep_best=3))
    assert Checkpoint(tmp_path).steps()[-1] == 4
    steps = [json.loads(path.read_text())["step"] for path in tmp_path.glob("best*/config.json")]
    assert sorted(steps) == [1, 2]


def test_better_is_lower_for_fid_and_higher_for_the_inception_score():
    assert best_goal({"fid": 2.0}, "fid") == {"best": -2.0}
    assert best_goal({"inception_score": 2.0}, "inception_score") == {"best": 2.0}
    assert best_goal({}, "fid") == {}
    progress = GanProgress()
    assert progress.folder_of("last") == "model"
    assert [progress.folder_of("best", 2) for _ in range(3)] == ["best0", "best1", "best0"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_version_0_1_is_recognised(tmp_path, kind):
    extract(COMPAT / f"{kind}.tar.xz", tmp_path)
    run = open_run(tmp_path / kind)
    assert (run.kind, run.config.patience) == (kind, 0)
    assert choose(["--weights", str(tmp_path / kind / "model")])[0] == kind


@pytest.mark.parametrize(("metric", "best"), [("fid", -2.0), ("inception_score", 2.0)])
def test_the_best_score_of_version_0_1_goes_on_to_count(metric, best):
    progress = GanProgress(metric)
    progress.load_state_dict({"step": 3, "best": 2.0, "best_saved": 1})
    assert (progress.step, progress.best, progress.best_saved) == (3, {"best": best}, 1)
    progress.load_state_dict({"step": 3, "best": 0.0, "best_saved": 0})
    assert progress.best == {}
    progress.load_state_dict(progress.state_dict())
    assert progress.step == 3


@dataclass(frozen=True)
class Sizes:
    kind: ClassVar[str] = "biggan"
    inputs: int = 2


def test_a_folder_of_weights_has_the_networks_and_the_settings(tmp_path):
    network = nn.Linear(2, 3)
    folder = save_folder(tmp_path / "model", {"a": network, "b": None}, Sizes(), step=4)
    assert sorted(path.name for path in folder.iterdir()) == ["a.safetensors", "config.json"]
    plain = json.loads((folder / "config.json").read_text())
    assert (plain["kind"], plain["inputs"], plain["step"]) == ("biggan-weights", 2, 4)
    other = nn.Linear(2, 3)
    load_into(other, folder / "a.safetensors")
    torch.testing.assert_close(other.weight, network.weight, rtol=0, atol=0)
    save_folder(folder, {"b": network}, Sizes())
    assert sorted(path.name for path in folder.iterdir()) == ["b.safetensors", "config.json"]


def test_weights_of_another_network_and_damaged_ones_are_refused(tmp_path):
    folder = save_folder(tmp_path / "model", {"a": nn.Linear(2, 3)}, Sizes())
    with pytest.raises(ValueError, match="does not fit"):
        load_into(nn.Linear(3, 3), folder / "a.safetensors")
    (folder / "a.safetensors").write_bytes(b"abc")
    with pytest.raises(ValueError, match="is no whole weight file"):
        load_into(nn.Linear(2, 3), folder / "a.safetensors")


def test_the_sizes_of_networks_are_noted(tmp_path):
    write_parameter_counts(tmp_path, generator=nn.Linear(3, 2))
    assert json.loads((tmp_path / "parameters.json").read_text()) == {"generator": 8}


def test_fine_tuning_to_one_class_starts_what_depends_on_the_classes_anew(tmp_path):
    train(tiny_run(tmp_path / "ten", max_steps=1))
    photos = tmp_path / "photos"
    train_on_one = tiny_run(tmp_path / "one", max_steps=1, initial_weights=str(tmp_path / "ten"))
    from PIL import Image

    for number in range(4):
        photos.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (number * 60, 9, 9)).save(photos / f"{number}.png")
    data = replace(train_on_one.data, source="images", path=str(photos))
    train(replace(train_on_one, data=data))
    assert load_weights(tmp_path / "one" / "model").config.num_classes == 1
