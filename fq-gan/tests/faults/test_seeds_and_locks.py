"""One seed writes one file of metrics; one folder has one writer."""

import time

from jobs import PATIENCE, assert_same_end


def test_two_runs_of_one_seed_are_the_same_byte_for_byte(job, tmp_path):
    for name in ("one", "other"):
        assert job.run(job.command(tmp_path / name, 4, 2)).codes == [0]
    assert_same_end(tmp_path / "one", tmp_path / "other")


def test_a_second_run_in_the_same_folder_is_refused(job, tmp_path):
    run = tmp_path / "run"
    first = job.start(job.command(run, 100_000, 100_000))
    try:
        deadline = time.monotonic() + PATIENCE
        while not (run / "metrics.jsonl").exists():
            assert time.monotonic() < deadline, first.log.read_text()
            time.sleep(0.02)
        outcome = job.run(job.command(run, 100_000, 100_000))
    finally:
        first.each[0].kill()
        first.wait()
    assert outcome.codes == [2]
    assert str(run) in outcome.sentence
    assert "another" in outcome.sentence or "in use" in outcome.sentence
    assert job.run(job.command(run, 2, 2)).codes == [0], "a killed run left its lock behind"
