"""The smallest run of Optimus, for the tests of faults."""

import sys
from pathlib import Path

import pytest

import optimus.tasks.language_model  # noqa: F401 (or every forked command would import it anew)
from optimus.__main__ import main
from optimus.data.toy import write_toy

sys.path.insert(0, str(Path(__file__).parent))  # for `import jobs`
from hostile import canary  # noqa: F401 (a fixture)
from jobs import Job


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> Job:
    corpus = write_toy(tmp_path_factory.mktemp("faults"), sizes=(120, 20, 20))
    words = f"train smoke --data.folder {corpus} --eval-every 0 --log-every 1"
    return Job(main, (*words.split(), "--optimizer.accumulate", "2"))
