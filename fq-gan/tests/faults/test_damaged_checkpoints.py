"""Truncated, empty and bit-flipped files are named; the older checkpoint takes over."""

import shutil

import pytest
from jobs import assert_same_end, steps_of


def damage(path, kind: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "truncated": content[:middle],
            "empty": b"",
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        }[kind]
    )


def largest_part(run_dir, step: int):
    files = (run_dir / "checkpoints" / f"{step:08d}").glob("*.pt")
    return max(files, key=lambda path: path.stat().st_size)


@pytest.fixture(scope="module")
def whole(job, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage") / "whole"
    assert job.run(job.command(folder, 6, 2)).codes == [0]
    return folder


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_older(job, whole, tmp_path, kind):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    damage(largest_part(run, 6), kind)
    outcome = job.run(job.command(run, 6, 2))
    assert outcome.codes == [0]
    assert "checkpoint of step 6 is damaged" in outcome.text
    assert "continuing from step 4" in outcome.text
    assert_same_end(whole, run)


def test_a_run_with_damaged_checkpoints_only_stops_and_loses_nothing(job, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for step in steps_of(run):
        damage(largest_part(run, step), "truncated")
    before = sorted(path for path in run.rglob("*.pt"))
    outcome = job.run(job.command(run, 6, 2))
    assert outcome.codes == [2]
    assert f"all checkpoints in {run / 'checkpoints'} are damaged" in outcome.sentence
    assert sorted(path for path in run.rglob("*.pt")) == before
