"""One process or two: the same sentences in the same steps; one cache, whoever writes it."""

import json
import multiprocessing
from collections import defaultdict

import pytest

from optimus.data.text import Batches, load_sentences, open_sentences
from optimus.data.tokenizers import load_tokenizers, train_tokenizers
from optimus.data.toy import toy_sentences


def record(folder):
    """Write the sentence numbers of every batch of every rank into ``folder``."""

    def patch(rank: int) -> None:
        following = Batches.__next__

        def noted(self):
            position, batch = self.position, following(self)
            with (folder / f"{rank}.jsonl").open("a") as file:
                file.write(json.dumps([position, batch.index.tolist()]) + "\n")
            return batch

        Batches.__next__ = noted

    return patch


def test_two_ranks_see_in_each_step_what_one_sees(job, tmp_path):
    seen = {}
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        words = job.command(folder / "run", 18, 100)  # more than an epoch of 15 steps
        assert job.run(words, ranks=ranks, before=record(folder)).codes == [0] * ranks
        steps = defaultdict(list)
        for path in folder.glob("*.jsonl"):
            for line in path.read_text().splitlines():
                position, numbers = json.loads(line)
                steps[position].extend(numbers)
        seen[ranks] = {position: sorted(numbers) for position, numbers in steps.items()}
    # two micro-batches a step: of 4 sentences in one process, of 2 in each of two
    assert len(seen[1]) == 36
    assert seen[1] == seen[2]


@pytest.fixture(scope="module")
def lines():
    return toy_sentences(1200)


def load(folder) -> int:
    return len(load_sentences(folder / "train.txt", load_tokenizers(folder)))


def test_processes_that_race_for_a_cache_leave_one_valid_file(lines, tmp_path):
    train_tokenizers(lines, 80, 300).save(tmp_path)
    (tmp_path / "train.txt").write_text("\n".join(lines))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(load, [tmp_path] * 4, chunksize=1) == [1200] * 4
    (cached,) = (tmp_path / ".cache").iterdir()
    assert len(open_sentences(cached)) == 1200
