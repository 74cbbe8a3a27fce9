"""What an older commit saved, the present code loads, continues and draws from alike.

`compat/biggan.zip` was written by ``python tests/test_compatibility.py`` and is not to be written
again unless the layout of checkpoints has to change, which the changelog then says: a run after two
iterations, and in ``expected.json`` the third one's losses and the sums of all weights.
"""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_runs import TINY, weights_of

from fqgan.biggan.train import train
from fqgan.biggan.weights import load_discriminator, load_weights
from fqgan.explorer import load_explorer
from fqgan.runtime.archive import extract
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.runtime.logs import read_metrics

SAVED = Path(__file__).parent / "compat" / "biggan.zip"
STEPS = 2
TOLERANCE = 1e-6  # relative to the larger of 1 and the number
SMALLEST = replace(
    TINY,
    log_every=1,
    keep=1,
    use_average=False,
    generator=replace(TINY.generator, channels=1),
    discriminator=replace(TINY.discriminator, channels=1),
    quantizer=replace(TINY.quantizer, layers=(0, 2), codebook_size=4),
)
IMAGES = {"seeds": [0, 1], "labels": [0, 3]}


def resumed(folder: Path) -> dict[str, float]:
    """Losses of the iteration after the saved ones, and the sum of every tensor it leaves."""
    train(replace(SMALLEST, run_dir=str(folder), max_steps=STEPS + 1, save_every=1))
    row = {k: v for k, v in read_metrics(folder)[-1].items() if k not in ("time", "seconds")}
    sums = {name: float(value.double().sum()) for name, value in weights_of(folder).items()}
    return {**row, **sums}


def drawn(folder: Path) -> list[float]:
    """Means of images from the weights for use."""
    generator = load_weights(folder / "model").generator
    z = torch.stack(
        [
            torch.randn(generator.latent_dim, generator=torch.Generator().manual_seed(seed))
            for seed in IMAGES["seeds"]
        ]
    )
    with torch.no_grad():
        return generator(z, torch.tensor(IMAGES["labels"])).mean(dim=(1, 2, 3)).tolist()


def close(value: float, expected: float) -> bool:
    return abs(value - expected) <= TOLERANCE * max(1.0, abs(expected))


@pytest.fixture
def saved(tmp_path):
    extract(SAVED, tmp_path)
    return tmp_path / "biggan", json.loads((tmp_path / "biggan" / "expected.json").read_text())


def test_a_saved_run_goes_on_with_the_recorded_losses_and_weights(saved):
    run, expected = saved
    assert Checkpoint(run).steps() == [STEPS]
    found = resumed(run)
    assert expected["resumed"].keys() <= found.keys()
    pairs = {name: (found[name], value) for name, value in expected["resumed"].items()}
    assert not {name: pair for name, pair in pairs.items() if not close(*pair)}


def test_saved_weights_draw_the_recorded_images_and_open_as_a_page(saved):
    run, expected = saved
    assert drawn(run) == pytest.approx(expected["drawn"], abs=TOLERANCE)
    assert not load_discriminator(run / "model").training
    assert load_explorer(run).codebooks


def write() -> None:
    """Make the saved run anew."""
    torch.set_num_threads(1)
    SAVED.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that config.json names no place of this machine
        run = Path("biggan")
        train(replace(SMALLEST, run_dir=str(run), max_steps=STEPS, save_every=STEPS))
        for name in (".lock", "log.txt"):
            (run / name).unlink(missing_ok=True)
        shutil.rmtree(run / "events")
        again = Path(shutil.copytree(run, "again"))
        found = {"resumed": resumed(again), "drawn": drawn(run)}
        (run / "expected.json").write_text(json.dumps(found) + "\n")
        shutil.make_archive(str(SAVED.with_suffix("")), "zip", ".", "biggan")


if __name__ == "__main__":
    write()
