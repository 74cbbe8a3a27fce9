"""The smallest run of FQ-GAN, for the tests of faults."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import fqgan.biggan.train  # noqa: F401 (or every forked command would import both anew)
from fqgan.__main__ import main

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `import tiny_runs`
sys.path.insert(0, str(Path(__file__).parent))  # for `import jobs`
from hostile import canary  # noqa: F401 (a fixture)
from jobs import Job
from tiny_runs import TINY, options_of


@pytest.fixture(scope="session")
def job() -> Job:
    options = options_of(replace(TINY, log_every=1))
    return Job(main, ("train", *options, "--step.num-d-accumulations", "2"))
