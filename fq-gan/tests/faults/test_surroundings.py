"""No network, no CUDA, no home for caches, no apex or another one: runs, or one sentence."""

import os
import socket
import sys
import types

import pytest


def refuse(*_):
    raise OSError("the test allows no network and no cache folder")


def cut_off(rank: int) -> None:
    """No socket connects, and the cache folder of model hubs cannot be made or read.

    The folder is chosen when huggingface_hub is imported, which may have been before the fork.
    """
    socket.socket.connect = refuse
    os.environ["HF_HOME"] = "/dev/null/nowhere"
    if "huggingface_hub.constants" in sys.modules:
        home = sys.modules["huggingface_hub.constants"].HF_HOME

        def forbid(event, arguments):
            if event in {"open", "os.mkdir"} and str(arguments[0]).startswith(home):
                refuse()

        sys.addaudithook(forbid)


def test_a_run_needs_no_network_and_no_cache_folder(job, tmp_path):
    outcome = job.run(job.command(tmp_path / "run", 2, 2), before=cut_off)
    assert outcome.codes == [0], outcome.text


def test_a_missing_cuda_device_is_one_sentence(job, tmp_path):
    def without_cuda(rank: int) -> None:
        import torch

        torch.cuda.is_available = lambda: False

    words = [*job.command(tmp_path / "run", 2, 2), "--device", "cuda"]
    outcome = job.run(words, before=without_cuda)
    assert outcome.codes == [2]
    assert "--device cuda needs a CUDA device" in outcome.sentence


@pytest.mark.parametrize("installed", ["absent", "without amp", "another package"])
def test_an_apex_that_cannot_be_used_is_one_sentence(job, tmp_path, installed):
    def pretend(rank: int) -> None:
        module = types.ModuleType("apex")
        if installed == "another package":
            module.__file__, module.RESTClient = "/site-packages/apex/__init__.py", object
        sys.modules["apex"] = None if installed == "absent" else module

    words = [*job.command(tmp_path / "run", 2, 2), "--precision", "apex-O1"]
    outcome = job.run(words, before=pretend)
    assert outcome.codes == [2]
    assert "--precision apex-O1" in outcome.sentence
    assert "bf16" in outcome.sentence
