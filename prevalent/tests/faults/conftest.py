"""The smallest run of PREVALENT's pre-training, for the tests of faults."""

import sys
from pathlib import Path

import pytest

import prevalent.tasks.pretraining  # noqa: F401 (or every forked command would import it anew)
from prevalent.__main__ import main

sys.path.insert(0, str(Path(__file__).parent))  # for `import jobs`
from hostile import canary  # noqa: F401 (a fixture)
from jobs import Job


@pytest.fixture(scope="session")
def job(toy_world) -> Job:
    features = next(path.name for path in toy_world.glob("features.*npy"))
    words = f"pretrain smoke --world matterport --data-dir {toy_world} --features {features}"
    words += " --vocabulary wordpiece.txt --accumulate 2 --log-every 1 --held-out"
    return Job(main, tuple(words.split()))
