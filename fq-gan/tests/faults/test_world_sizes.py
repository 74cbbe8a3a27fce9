"""One process and two see the same images."""

from jobs import steps_of

from fqgan.data.batches import EpochSampler
from fqgan.runtime.logs import read_metrics

PER_ITERATION = 4  # batch 2, twice accumulated
IMAGES = 3 * PER_ITERATION


def writing_down(folder):
    """Every image that a rank's sampler hands out, in ``folder/RANK``."""

    def patch(rank: int) -> None:
        draw = EpochSampler.__next__

        def drawn(self):
            index = draw(self)
            with (folder / str(rank)).open("a") as file:
                file.writelines(f"{place}\n" for place in index.tolist())
            return index

        EpochSampler.__next__ = drawn

    return patch


def seen(folder, rank, count):
    """The first images of a rank; its reader may have gone ahead of the training."""
    return [int(line) for line in (folder / str(rank)).read_text().split()][:count]


def test_two_processes_see_in_every_iteration_the_images_that_one_sees(job, tmp_path):
    for ranks in (1, 2):
        (tmp_path / f"seen{ranks}").mkdir()
        outcome = job.run(
            job.command(tmp_path / f"run{ranks}", 3, 3),
            ranks=ranks,
            before=writing_down(tmp_path / f"seen{ranks}"),
        )
        assert outcome.codes == [0] * ranks, outcome.text
        assert steps_of(tmp_path / f"run{ranks}") == [3]
    alone = seen(tmp_path / "seen1", 0, IMAGES)
    first, second = (seen(tmp_path / "seen2", rank, IMAGES // 2) for rank in (0, 1))
    for start in range(0, IMAGES, PER_ITERATION):
        half = slice(start // 2, (start + PER_ITERATION) // 2)
        together = sorted([*first[half], *second[half]])
        assert together == sorted(alone[start : start + PER_ITERATION])
    one, two = (read_metrics(tmp_path / f"run{ranks}") for ranks in (1, 2))
    assert [row["images"] for row in one] == [row["images"] for row in two]
