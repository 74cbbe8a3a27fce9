"""A run knows what it is: other kinds, sizes and corpora are refused and leave it as it was."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from optimus.__main__ import main
from optimus.api import SentenceVAE
from optimus.config import ModelOptions
from optimus.data.toy import labeled_sentences, toy_sentences, write_toy
from optimus.old_runs import ADDED, ADDED_DATA
from optimus.runs import KINDS, find_weights, open_run
from optimus.runtime.logs import read_metrics
from optimus.runtime.run_folder import HEADER

COMPAT = Path(__file__).parent / "compat"
TURNS = ["hello there .\thow are you ?", "hello there . [SEP] how are you ?\ti am fine ."] * 8
COMMANDS = {
    "language-model": "train smoke --data.folder CORPORA/toy",
    "dialog": "train-dialog smoke --data.folder CORPORA/dialog",
    "label-control": "train-label-control smoke --data.train CORPORA/l.tsv "
    "--data.test CORPORA/l.tsv",
    "classifier": "train-classifier smoke --data.task labeled --data.folder CORPORA/l.tsv "
    "--data.test CORPORA/l.tsv --fractions 1 --seeds 1",
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    write_toy(folder / "toy", sizes=(120, 20, 20))
    write_toy(folder / "other", seed=1, sizes=(120, 20, 20))
    (folder / "dialog").mkdir()
    for split in ("train", "valid", "test"):
        (folder / "dialog" / f"{split}.txt").write_text("".join(f"{turn}\n" for turn in TURNS))
    rows = [f"{label}\t{text}\n" for label, text in labeled_sentences(40, 0, "number")]
    (folder / "l.tsv").write_text("".join(rows))
    (folder / "other.tsv").write_text("".join(rows[::-1]))
    return folder


@pytest.fixture(scope="module")
def runs(corpora, tmp_path_factory):
    """A finished run of every kind."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main(words(kind, corpora, folder / kind))
        assert stopped.value.code == 0
    return folder


@pytest.fixture
def run(runs, tmp_path):
    """A copy of one of them."""

    def copy(kind: str) -> Path:
        shutil.copytree(runs / kind, tmp_path / kind)
        return tmp_path / kind

    return copy


def words(kind: str, corpora: Path, run_dir: Path, *more: str) -> list[str]:
    command = COMMANDS[kind].replace("CORPORA", str(corpora)).split()
    return [*command, "--run-dir", str(run_dir), "--device", "cpu", *more]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below ``folder`` with its bytes, and every folder."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def scores(path: Path) -> dict[str, float]:
    """Of an evaluation, without what it says of itself."""
    return {k: v for k, v in json.loads(path.read_text()).items() if k != "provenance"}


@pytest.fixture
def refused(fails):
    """The sentence with which ``command`` is refused; every byte of ``folder`` stays."""

    def sentence(command, folder: Path) -> str:
        before = contents(folder)
        said = fails(*command)
        assert contents(folder) == before
        return said

    return sentence


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_run_says_its_kind_and_gives_its_options_back(runs, kind):
    plain = json.loads((runs / kind / "config.json").read_text())
    assert tuple(plain)[:3] == HEADER
    assert plain["kind"] == kind
    assert open_run(runs / kind, kind).config.run_dir == runs / kind


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_stopped_run_ends_like_an_uninterrupted_one(runs, corpora, kind, tmp_path, ends):
    place = tmp_path / kind
    with pytest.MonkeyPatch.context() as patch:
        stop = "optimus.runtime.signals.StopSignal.requested"
        patch.setattr(stop, lambda self, step: step == 2)
        assert "after step 2" in ends(*words(kind, corpora, place), status=3)
    ends(*words(kind, corpora, place))
    compared = [p for name in ("*.safetensors", "metrics.jsonl") for p in place.rglob(name)]
    assert len(compared) >= 2
    for path in compared:
        assert path.read_bytes() == (runs / kind / path.relative_to(place)).read_bytes(), path


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize("other", COMMANDS)
def test_a_run_of_another_kind_is_not_trained_further(runs, corpora, kind, other, refused):
    if kind != other:
        sentence = refused(words(other, corpora, runs / kind), runs)
        assert f"holds a run of kind '{kind}', this command makes one of kind '{other}'" in sentence


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize(
    "change",
    [
        *(
            "--model.latent-dim 9",
            "--model.layers 3",
            "--model.hidden 128",
            "--model.inject memory",
        ),
        *("--model.vocabulary 500", "--data.batch-size 2", "--precision bf16", "--seed 7"),
        *("--optimizer.kind fused", "--model.init nowhere"),
    ],
)
def test_another_size_or_arithmetic_is_refused_with_both_values(
    runs, corpora, kind, change, refused
):
    others = ("--seed", "--data.batch", "--model.latent-dim", "--model.inject")
    if kind == "classifier" and change.startswith(others):
        pytest.skip("its seeds are --seeds, and it has no latent")
    option, value = change.split()
    command = words(kind, corpora, runs / kind, option, value)
    sentence = refused(command, runs)
    assert f"{option} {'is ' if option in sentence else ''}{value} here and" in sentence
    assert f"give {option} " in sentence
    assert "or another --run-dir" in sentence


def test_accumulation_and_the_order_are_refused_by_name(runs, corpora, refused):
    place = runs / "language-model"
    for change in ("--optimizer.accumulate 2", "--data.block-size 20", "--compat order"):
        sentence = refused(words("language-model", corpora, place, *change.split()), runs)
        assert f"{change.split()[0]} is {change.split()[1]} here and" in sentence


@pytest.mark.parametrize(
    ("kind", "option", "other"),
    [
        ("language-model", "--data.folder", "other"),
        ("label-control", "--data.train", "other.tsv"),
        ("dialog", "--data.folder", "dialog2"),
    ],
)
def test_another_corpus_is_refused(run, corpora, kind, option, other, refused):
    if other == "dialog2":
        shutil.copytree(corpora / "dialog", corpora / other, dirs_exist_ok=True)
        (corpora / other / "train.txt").write_text("".join(f"{turn}\n" for turn in TURNS[2:]))
    place = run(kind)
    command = words(kind, corpora, place, option, str(corpora / other), "--max-steps", "9")
    sentence = refused(command, place)
    assert "the run has not seen these" in sentence
    assert "give the corpus that it was started with, or another --run-dir" in sentence


def test_a_corpus_in_another_place_is_the_same_corpus(run, corpora, tmp_path, ends):
    place = run("language-model")
    shutil.copytree(corpora / "toy", tmp_path / "moved")
    moved = ("--data.folder", str(tmp_path / "moved"), "--max-steps", "9")
    ends(*words("language-model", corpora, place, *moved))
    assert open_run(place).config.data.folder == tmp_path / "moved"


def test_a_run_does_not_go_back(runs, corpora, refused):
    place = runs / "language-model"
    sentence = refused(words("language-model", corpora, place, "--max-steps", "4"), runs)
    assert "--max-steps ends the run at step 4" in sentence
    assert "has come to 6" in sentence


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_refused_first_start_leaves_nothing(corpora, kind, tmp_path, ends):
    option = {"label-control": "--data.train"}.get(kind, "--data.folder")
    few = tmp_path / "few" / "train.txt"
    few.parent.mkdir()
    few.write_text("1\tone line .\n" if kind != "language-model" else "one line .\n")
    given = few.parent if kind in ("language-model", "dialog") else few
    folder = tmp_path / "new" / "run"
    before = contents(tmp_path)
    ends(*words(kind, corpora, folder, option, str(given)), status=2)
    after = {name: data for name, data in contents(tmp_path).items() if ".cache" not in name}
    assert after == before
    assert not folder.parent.exists()


def test_a_start_after_a_refused_one_learns_its_own_vocabulary(corpora, tmp_path, ends):
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "train.txt").write_text("one line .\n")
    place = tmp_path / "run"
    few = words("language-model", corpora, place, "--data.folder", str(tmp_path / "few"))
    ends(*few, status=2)
    ends(*words("language-model", corpora, place))
    tokenizers = SentenceVAE.from_pretrained(place).tokenizers
    (ids,) = tokenizers.encode_encoder([toy_sentences(1)[0]])
    assert tokenizers.unk_id not in ids


USERS = {
    "evaluate": "evaluate --run-dir RUN --samples 2",
    "evaluate-dialog": "evaluate-dialog --run-dir RUN --responses 1",
    "evaluate-label-control": "evaluate-label-control --run-dir RUN --max-sentences 4",
    "generate": "generate sample --model RUN --count 2",
    "plot-latents": "plot-latents --model RUN --text CORPORA/l.tsv --output-dir RUN/plots",
    "demo": "demo --serve --run-dir RUN",
}
TAKEN = {
    "evaluate": ("language-model",),
    "evaluate-dialog": ("dialog",),
    "evaluate-label-control": ("label-control",),
}


@pytest.mark.parametrize("verb", USERS)
@pytest.mark.parametrize("kind", COMMANDS)
def test_a_command_names_the_kinds_that_it_takes(runs, corpora, verb, kind, refused):
    command = USERS[verb].replace("RUN", str(runs / kind)).replace("CORPORA", str(corpora)).split()
    taken = TAKEN.get(verb, ("language-model", "dialog"))
    if kind not in taken:
        sentence = refused(command, runs)
        assert f"is of kind '{kind}'" in sentence
        assert f"this command takes {' or '.join(taken)}" in sentence


def test_weights_of_another_kind_are_refused_without_their_run(runs, refused):
    weights = runs / "label-control" / "model"
    sentence = refused(["generate", "sample", "--model", weights], runs)
    assert "is of kind 'label-control' (for evaluate-label-control)" in sentence
    judged = ["evaluate-label-control", "--run-dir", runs / "label-control"]
    sentence = refused([*judged, "--classifier", runs / "dialog"], runs / "dialog")
    assert "is of kind 'dialog'" in sentence


def test_a_run_of_another_program_and_a_damaged_one_are_named(run, refused):
    place = run("language-model")
    path = place / "config.json"
    plain = json.loads(path.read_text())
    for changed, expected in (
        ({**plain, "kind": "biggan"}, "is of kind 'biggan'; this command takes language-model"),
        ({**plain, "latent": 3}, "unknown latent"),
        ({key: value for key, value in plain.items() if key != "seed"}, "missing seed"),
    ):
        path.write_text(json.dumps(changed))
        command = ["evaluate", "--run-dir", place, "--samples", "2"]
        assert expected in refused(command, place)


@pytest.fixture
def unfinished(corpora, tmp_path, ends):
    """A run of 12 steps that has come to step 8; there are checkpoints of the steps 4 and 8."""
    place, more = tmp_path / "unfinished", ("--save-every", "4", "--eval-every", "0")
    with pytest.MonkeyPatch.context() as patch:
        stop = "optimus.runtime.signals.StopSignal.requested"
        patch.setattr(stop, lambda self, step: step == 8)
        ends(*words("language-model", corpora, place, *more, "--max-steps", "12"), status=3)
    return place


def test_an_unfinished_run_is_used_and_says_so(unfinished, refused, ends, caplog):
    ends("evaluate", "--run-dir", unfinished, "--samples", "2")
    assert f"{unfinished} is unfinished: step 8 of 12" in caplog.text
    newest = scores(unfinished / "eval_results.trial.json")
    step = ("--samples", "2", "--step")
    ends("evaluate", "--run-dir", unfinished, *step, "8")
    assert scores(unfinished / "eval_results_step_8.trial.json") == newest
    ends("evaluate", "--run-dir", unfinished, *step, "4")
    assert scores(unfinished / "eval_results_step_4.trial.json") != newest
    sentence = refused(["evaluate", "--run-dir", unfinished, *step, "5"], unfinished)
    assert "--step 5" in sentence
    assert "has checkpoints of the steps 4, 8" in sentence
    ends("generate", "sample", "--model", unfinished, "--step", "4", "--count", "1")


@pytest.mark.parametrize("kind", ["dialog", "label-control"])
def test_a_checkpoint_of_a_task_can_be_used(run, kind, ends):
    place = run(kind)
    command = USERS[f"evaluate-{kind}"].replace("RUN", str(place)).split()
    ends(*command, "--step", "4")
    ends(*command)
    newest = scores(place / "eval_results.trial.json")
    assert scores(place / "eval_results_step_4.trial.json") == newest


def test_the_best_weights_are_kept_and_patience_ends_a_run(corpora, tmp_path, ends):
    place, more = tmp_path / "run", "--max-steps 40 --eval-every 2 --patience 3"
    command = words("language-model", corpora, place, *more.split(), "--optimizer.lr", "1e-12")
    ends(*command)
    losses = [row["eval_loss"] for row in read_metrics(place) if "eval_loss" in row]
    assert len(losses) == 4  # the first is the best, three more bring nothing
    weights = SentenceVAE.from_pretrained(place / "best")
    assert weights.encode(["the dog sees a ball ."]).isfinite().all()
    assert find_weights(place, "language-model").state is None  # and is not called unfinished


@pytest.mark.parametrize("kind", ["dialog", "label-control"])
def test_every_task_scores_held_out_text_while_it_trains(corpora, kind, tmp_path, ends):
    more = ["--eval-every", "2"]
    if kind == "label-control":
        assert "needs --data.valid" in ends(*words(kind, corpora, tmp_path, *more), status=2)
        more += ["--data.valid", str(corpora / "other.tsv")]
    ends(*words(kind, corpora, tmp_path / "run", *more))
    scores = [row["eval_rec"] for row in read_metrics(tmp_path / "run") if "eval_rec" in row]
    assert len(scores) == 2
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["dialog", "label-control"])
def test_every_task_keeps_its_best_weights_ends_by_patience_and_is_used_unfinished(
    corpora, kind, tmp_path, ends, monkeypatch, caplog
):
    more = ["--max-steps", "40", "--eval-every", "2", "--patience", "2", "--save-every", "2"]
    more += ["--optimizer.lr", "1e-12"]
    if kind == "label-control":
        more += ["--data.valid", str(corpora / "other.tsv"), "--control.critic-lr", "1e-12"]
    command = words(kind, corpora, tmp_path / "run", *more)
    with monkeypatch.context() as patch:
        patch.setattr("optimus.runtime.signals.StopSignal.requested", lambda self, step: step == 2)
        ends(*command, status=3)
    ends(*USERS[f"evaluate-{kind}"].replace("RUN", str(tmp_path / "run")).split())
    assert "is unfinished: step 2 of 40" in caplog.text
    ends(*command)
    scores = [row["eval_rec"] for row in read_metrics(tmp_path / "run") if "eval_rec" in row]
    assert len(scores) == 3  # the first is the best, two more bring nothing
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()
    assert find_weights(tmp_path / "run", kind).state is None


@pytest.mark.parametrize("name", ["dialog", "label_control", "classifier"])
def test_configurations_of_version_0_1_are_recognised(name, tmp_path):
    shutil.copy(COMPAT / f"{name}.json", tmp_path / "config.json")
    run = open_run(tmp_path)
    assert run.kind == name.replace("_", "-")
    assert run.config.model == ModelOptions(
        latent_dim=8,
        vocabulary="400",
        layers=2 if name == "dialog" else 1,
        hidden=64,
        dropout=0.1,
    )


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_run_of_version_0_1_goes_on(run, corpora, kind, ends, caplog):
    caplog.set_level("INFO")
    place = run(kind)
    path = place / "config.json"
    plain = json.loads(path.read_text())
    for name in (*HEADER, *ADDED):
        if (kind, name) != ("language-model", "eval_every"):
            del plain[name]
    for name in ADDED_DATA.get(kind, {}):
        del plain["data"][name]
    path.write_text(json.dumps(plain))
    (place / "reached.json").unlink()
    if kind == "classifier":  # whose parts said nothing of themselves, here before the last step
        trial = place / "fraction_1.0_seed_1"
        shutil.rmtree(trial / "checkpoints" / "00000004")
        for name in ("config.json", "reached.json", "eval_results.json"):
            (trial / name).unlink()
        ends(*words(kind, corpora, place))
        assert "continuing from step 2" in caplog.text
    else:
        ends(*words(kind, corpora, place, "--max-steps", "8"))
        assert "continuing from step" in caplog.text
    assert json.loads(path.read_text())["kind"] == kind


def test_results_of_finished_classifiers_do_not_mix_with_those_of_other_options(
    runs, corpora, refused
):
    command = words("classifier", corpora, runs / "classifier", "--optimizer.lr", "0.1")
    sentence = refused(command, runs)
    assert "--optimizer.lr is 0.1 here and 0.001 in the run" in sentence


def test_every_kind_has_a_command_here():
    assert {*COMMANDS} == {*KINDS} - {"classifier-trial"}
