"""What a run leaves to read is complete and repeatable."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest
import torch

from optimus.runtime.logs import Logs, check_report_to, read_metrics


def test_scalars_reach_every_record(tmp_path):
    with Logs(tmp_path, total_steps=2) as logs:
        logs.log(1, loss=torch.tensor(2.5), kl=1)
        logs.log(2, loss=2.0, kl=None)
        logs.text("a remark")
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5, "kl": 1.0}, {"step": 2, "loss": 2.0}]
    text = (tmp_path / "log.txt").read_text()
    assert "step 1/2  loss 2.5  kl 1" in text
    assert "a remark" in text
    assert list((tmp_path / "events").glob("events.*"))


def test_lines_for_people_show_the_headline_alone(tmp_path):
    with Logs(tmp_path, total_steps=2, headline=("loss", "score")) as logs:
        logs.log(1, loss=2.5, kl=1, **{"score/there": 3})
        logs.log(2, other=4)
    text = (tmp_path / "log.txt").read_text()
    assert "step 1/2  loss 2.5  score/there 3\n" in text
    assert "step 2/2  other 4" in text
    assert read_metrics(tmp_path)[0]["kl"] == 1


def test_rows_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    with Logs(tmp_path, total_steps=4) as logs:
        for step in (1, 2, 3):
            logs.log(step, loss=step)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    with Logs(tmp_path, total_steps=4, first_step=2) as logs:
        logs.log(3, loss=30)
    assert [row["loss"] for row in read_metrics(tmp_path)] == [1, 2, 30]


def test_an_error_ends_in_the_log(tmp_path):
    try:
        with Logs(tmp_path, total_steps=1):
            raise FloatingPointError("loss is not finite")
    except FloatingPointError:
        pass
    assert "loss is not finite" in (tmp_path / "log.txt").read_text()


@pytest.fixture
def service(monkeypatch):
    """A stand-in for the package wandb that keeps what it is given."""
    runs = []

    class Run:
        def __init__(self, **options):
            self.options, self.rows, self.ended = options, [], False
            runs.append(self)

        def log(self, row, step):
            self.rows.append((step, row))

        def finish(self):
            self.ended = True

    def settings(**options):
        torch.rand(1)  # the training must not notice
        return options

    module = SimpleNamespace(init=Run, Settings=settings, Error=RuntimeError, __spec__=True)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return runs


def test_rows_go_to_weights_and_biases_too(tmp_path, service):
    (tmp_path / "config.json").write_text('{"seed": 3}')
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    for step in (1, 2):
        with Logs(tmp_path, 2, step - 1, report_to="wandb-offline") as logs:
            logs.log(step, loss=torch.tensor(0.5))
    assert torch.equal(torch.rand(1), expected)
    first, second = service
    assert (first.rows, second.rows) == ([(1, {"loss": 0.5})], [(2, {"loss": 0.5})])
    assert first.ended
    assert first.options["mode"] == "offline"
    assert first.options["config"] == {"seed": 3}
    assert first.options["id"] == second.options["id"], "a run that goes on is the same one"
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_a_service_that_refuses_is_a_sentence(tmp_path, service, monkeypatch):
    def refuse(**_):
        raise sys.modules["wandb"].Error("no key")

    monkeypatch.setattr(sys.modules["wandb"], "init", refuse)
    with pytest.raises(OSError, match=r"no key.*wandb login.*wandb-offline"):
        Logs(tmp_path, 2, report_to="wandb")


def test_a_missing_package_is_said_before_anything_else(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="--report-to wandb needs the package wandb"):
        check_report_to("wandb")
    check_report_to("none")


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is an extra")
def test_the_real_package_writes_offline(tmp_path):
    with Logs(tmp_path, 1, report_to="wandb-offline") as logs:
        logs.log(1, loss=0.5)
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
