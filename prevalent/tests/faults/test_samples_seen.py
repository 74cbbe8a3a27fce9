"""One process, then two: the samples of every step are those that one process would see."""

import json
import shutil
from collections import defaultdict

import pytest
from jobs import Job, steps_of

import prevalent.tasks.hanna
import prevalent.tasks.ndh
import prevalent.tasks.r2r  # noqa: F401 (or every forked command would import them anew)
from prevalent.__main__ import main
from prevalent.agents.rollout import EpisodeBatches
from prevalent.data.triplets import TripletBatches

COMMANDS = {
    "pretrain smoke --vocabulary wordpiece.txt --accumulate 2": 2,  # draws in a step
    "train-r2r smoke --wordpieces wordpiece.txt --feedback teacher": 1,
    "train-ndh ndh-smoke --wordpieces wordpiece.txt": 1,
    "train-hanna hanna-smoke --wordpieces wordpiece.txt": 1,
}


def recording(folder):
    """Write what every rank is handed into ``folder/RANK``, a line for each draw."""
    folder.mkdir()

    def patch(rank: int) -> None:
        def note(samples):
            with (folder / str(rank)).open("a") as notes:
                notes.write(json.dumps(samples) + "\n")

        def noted_collate(self, index, *rest, collate=TripletBatches._collate):
            note(index.tolist())
            return collate(self, index, *rest)

        TripletBatches._collate = noted_collate

        def noted_next(self, following=EpisodeBatches.__next__):
            batch = following(self)
            note([str(one.id) for one in getattr(batch, "tasks", batch)])
            return batch

        EpisodeBatches.__next__ = noted_next

    return patch


def seen(folder):
    """Samples by draw, of all ranks together."""
    draws = defaultdict(list)
    for path in folder.iterdir():
        for number, line in enumerate(path.read_text().splitlines()):
            draws[number] += json.loads(line)
    return [sorted(samples) for _, samples in sorted(draws.items())]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_two_ranks_go_on_with_the_samples_that_one_would_see(toy_world, tmp_path, command):
    features = next(path.name for path in toy_world.glob("features.*npy"))
    words = f"{command} --world matterport --data-dir {toy_world} --features {features} "
    job = Job(main, tuple((words + "--held-out --device cpu").split()))

    def run(name, ranks):
        words = [*job.command(tmp_path / name, 4, 2), "--batch-size", "4"]
        outcome = job.run(words, ranks=ranks, before=recording(tmp_path / f"seen by {name}"))
        assert outcome.codes == [0] * ranks, outcome.text
        assert steps_of(tmp_path / name) == [2, 4]
        return seen(tmp_path / f"seen by {name}")

    alone = run("one", 1)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "two/checkpoints/00000004")
    draws = COMMANDS[command]
    assert len(alone) == 4 * draws
    assert run("two", 2) == alone[2 * draws :]
