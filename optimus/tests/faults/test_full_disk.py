"""A save that the disk has no room for: one sentence, the older checkpoint stays."""

import resource
import signal

from jobs import assert_same_end, steps_of


def no_file_above(size: int):
    """The kernel refuses to let any file of the process grow beyond ``size`` bytes."""

    def limit(rank: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_full_disk_keeps_the_older_checkpoint_and_the_run_goes_on_later(job, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert job.run(job.command(whole, 6, 2)).codes == [0]
    assert job.run(job.command(run, 2, 2)).codes == [0]
    largest = max(path.stat().st_size for path in (run / "checkpoints").rglob("*.pt"))
    outcome = job.run(job.command(run, 6, 2), before=no_file_above(largest // 2))
    assert outcome.codes == [2]
    assert "could not save step 4" in outcome.sentence
    assert "newest checkpoint kept: 2" in outcome.sentence
    assert steps_of(run) == [2]
    assert not list((run / "checkpoints").glob(".*"))
    assert job.run(job.command(run, 6, 2)).codes == [0]
    assert_same_end(whole, run)
