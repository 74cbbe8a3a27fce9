"""What a run leaves to read is complete and repeatable."""

import torch

from optimus.runtime.logs import Logs, read_metrics


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
