"""The training loop: what it leaves, in which order, and what a refusal or a fault costs."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from fqgan.loop import Intervals, RunProgress, Task, Training, passes, train
from fqgan.runtime import run_folder
from fqgan.runtime.checkpoint import Checkpoint, finished_steps, read_part
from fqgan.runtime.command import Stopped
from fqgan.runtime.logs import read_metrics
from fqgan.runtime.run_folder import describe_unfinished, read_plain
from fqgan.runtime.signals import StopSignal


@dataclass(frozen=True)
class Options:
    run_dir: Path = Path("runs/x")
    width: int = 2
    max_steps: int = 6
    save_every: int = 4
    evaluate_every: int = 2
    seed: int = 1
    device: str = "cpu"
    precision: str = "auto"
    deterministic: bool = False
    compile: bool = False
    keep: int = 9
    patience: int = 0
    report_to: str = "none"


class Walk(Training):
    """A weight that takes a random step; its evaluation draws random numbers too."""

    broken_at = 0

    def __init__(self, config):
        self.config, self.progress = config, RunProgress()
        self.total_steps = config.max_steps
        self.model = torch.nn.Linear(config.width, 1)
        self.parts = {"model": self.model}
        self.intervals = Intervals(1, config.save_every, config.evaluate_every)
        self.also = [(3, lambda run_dir: (run_dir / "sheet").write_text(str(self.progress.step)))]
        self.values = {}

    def step(self):
        with torch.no_grad():
            self.model.weight.add_(torch.randn_like(self.model.weight))
        self.progress.step += 1

    def check(self):
        if not torch.isfinite(self.model.weight).all():
            raise FloatingPointError("weight")

    def scalars(self):
        return {"weight": self.model.weight.detach().sum()}

    def evaluate(self):
        if self.progress.step == self.broken_at:
            raise ValueError("the evaluation fails")
        torch.randn(3)
        score = self.values.get(self.progress.step, self.model.weight.sum().item())
        return {"score": score}

    def goals(self, scores):
        return {"best": scores["score"]}

    def export(self, run_dir, name):
        (run_dir / name).write_text(f"{self.progress.step}")


def task(**changes):
    def open_walk(config, world, folder):
        if config.width > 9:
            folder.place("words").write_text("a")
            raise ValueError("--width is too large")
        walk = Walk(config)
        for name, value in changes.items():
            setattr(walk, name, value)
        return walk

    return Task("walk", Options, open_walk, ("width", "precision"), lambda plain: plain)


def options(tmp_path, **changes):
    return replace(Options(run_dir=tmp_path / "run"), **changes)


def weights(run_dir):
    return read_part(run_dir, "model")[0]["weight"]


def test_a_stopped_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = options(tmp_path / "whole")
    train(task(), whole)
    for stop_at in (1, 2, 4, 5):
        halves = options(tmp_path / f"halves{stop_at}")
        with monkeypatch.context() as patch:
            patch.setattr(StopSignal, "requested", lambda self, step, at=stop_at: step == at)
            with pytest.raises(Stopped):
                train(task(), halves)
        train(task(), halves)
        assert torch.equal(weights(halves.run_dir), weights(whole.run_dir))
        rows = [(one.run_dir / "metrics.jsonl").read_bytes() for one in (halves, whole)]
        assert rows[0] == rows[1]
        assert (halves.run_dir / "best").read_text() == (whole.run_dir / "best").read_text()


def test_a_fault_in_an_evaluation_loses_no_step_and_is_made_up_for(tmp_path):
    config = options(tmp_path)
    with pytest.raises(ValueError, match="the evaluation fails"):
        train(task(broken_at=2), config)
    assert finished_steps(config.run_dir) == [2]
    train(task(), config)
    train(task(), options(tmp_path / "whole"))
    rows = read_metrics(config.run_dir)
    assert rows == read_metrics(tmp_path / "whole" / "run")
    assert [row["step"] for row in rows if "score" in row] == [2, 4, 6]


def test_evaluations_change_nothing_in_the_training(tmp_path):
    train(task(), options(tmp_path / "often", evaluate_every=1))
    train(task(), options(tmp_path / "once", evaluate_every=0))
    often, once = (tmp_path / name / "run" for name in ("often", "once"))
    assert torch.equal(weights(often), weights(once))


def test_a_missing_package_of_report_to_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="--report-to wandb needs the package wandb"):
        train(task(), options(tmp_path, report_to="wandb"))
    assert list(tmp_path.iterdir()) == []


def test_best_and_last_are_kept(tmp_path):
    train(task(values={2: 1.0, 4: 3.0, 6: 2.0}), options(tmp_path))
    run_dir = tmp_path / "run"
    assert [(run_dir / name).read_text() for name in ("best", "last", "sheet")] == ["4", "6", "6"]


def test_a_run_says_how_far_it_has_come(tmp_path, monkeypatch):
    config = options(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, step: step == 5)
        with pytest.raises(Stopped):
            train(task(), config)
    assert describe_unfinished(config.run_dir) == f"{config.run_dir} is unfinished: step 5 of 6"
    train(task(), config)
    assert describe_unfinished(config.run_dir) is None


def test_patience_ends_a_run_and_holds_when_it_is_continued(tmp_path):
    config = options(tmp_path, max_steps=40, patience=2)
    values = dict.fromkeys(range(41), 0.0) | {4: 1.0}
    for _ in range(2):
        assert train(task(values=values), config).progress.step == 8
        assert describe_unfinished(config.run_dir) is None
    assert train(task(values=values), replace(config, patience=3)).progress.step == 10


def test_a_refused_start_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="--width is too large"):
        train(task(), options(tmp_path, width=10))
    assert list(tmp_path.iterdir()) == []


def test_fewer_steps_than_there_are_is_said_and_changes_nothing(tmp_path, caplog):
    caplog.set_level("INFO")
    train(task(), options(tmp_path))
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"--max-steps ends the run at step 5, .* has come to 6"):
        train(task(), options(tmp_path, max_steps=5))
    assert "continuing" not in caplog.text  # it does not
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_broken_weight_is_not_saved(tmp_path):
    def break_it(run):
        run.model.weight.data.fill_(float("nan"))
        run.progress.step += 1

    config = options(tmp_path, max_steps=8)
    train(task(), replace(config, max_steps=4))
    broken = task()
    opened = broken.open

    def open_broken(*words):
        run = opened(*words)
        run.step = lambda: break_it(run)
        return run

    with pytest.raises(FloatingPointError):
        train(replace(broken, open=open_broken), config)
    assert finished_steps(config.run_dir) == [2, 4]


def test_what_auto_meant_at_the_start_holds_on_another_device(tmp_path, monkeypatch):
    def recorded():
        return read_plain(tmp_path / "run" / "config.json")["precision"]

    monkeypatch.setattr(run_folder, "choose_precision", lambda given, device: "bf16")
    train(task(), options(tmp_path, max_steps=2))
    assert recorded() == "bf16"
    monkeypatch.undo()  # the CPU, where auto means fp32
    assert train(task(), options(tmp_path)).config.precision == "bf16"
    assert recorded() == "bf16"
    with pytest.raises(ValueError, match=r"--precision is fp32 here and bf16 in the run"):
        train(task(), options(tmp_path, max_steps=9, precision="fp32"))


def test_auto_is_decided_anew_where_no_checkpoint_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "choose_precision", lambda given, device: "bf16")
    failing = task()
    opened = failing.open

    def open_failing(*words):
        run = opened(*words)
        run.begin = lambda *_: 1 / 0
        return run

    with pytest.raises(ZeroDivisionError):
        train(replace(failing, open=open_failing), options(tmp_path))
    monkeypatch.undo()
    assert train(task(), options(tmp_path)).config.precision == "fp32"


def test_weights_of_another_size_are_one_sentence(tmp_path):
    train(task(), options(tmp_path))
    wider = replace(task(), fixed=())
    with pytest.raises(ValueError, match=r"the model of the checkpoint .* does not fit .*weight"):
        train(wider, options(tmp_path, width=3))


def test_a_part_that_the_checkpoint_lacks_is_named(tmp_path):
    train(task(), options(tmp_path))
    more = Checkpoint(tmp_path / "run", model=torch.nn.Linear(2, 1), style=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="has no style, which this run needs"):
        more.load_latest()


@pytest.mark.parametrize(
    ("before", "now", "every", "expected"),
    [
        (3, 4, 4, True),
        (4, 5, 4, False),
        (0, 64, 100, False),
        (64, 128, 100, True),
        (0, 9, 0, False),
    ],
)
def test_a_multiple_of_the_interval_is_passed_once(before, now, every, expected):
    assert passes(before, now, every) is expected
