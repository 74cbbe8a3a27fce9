"""A save that the disk has no room for: one sentence, the older checkpoint stays."""

import resource
import signal

from jobs import assert_same_end, steps_of

from prevalent.runtime.checkpoint import Checkpoint


def full_from_step_4_on(rank: int) -> None:
    """The kernel refuses to let any file of the process grow beyond 20000 bytes."""
    save = Checkpoint.save

    def limited(self: Checkpoint, step: int) -> None:
        if step == 4:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        save(self, step)

    Checkpoint.save = limited  # type: ignore[method-assign]


def test_a_full_disk_keeps_the_older_checkpoint_and_the_run_goes_on_later(job, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert job.run(job.command(whole, 6, 2)).codes == [0]
    outcome = job.run(job.command(run, 6, 2), before=full_from_step_4_on)
    assert outcome.codes == [2]
    assert "could not save step 4" in outcome.sentence
    assert "newest checkpoint kept: 2" in outcome.sentence
    assert steps_of(run) == [2]
    assert not list((run / "checkpoints").glob(".*"))
    assert job.run(job.command(run, 6, 2)).codes == [0]
    assert_same_end(whole, run)
