"""``torch.compile`` of the parts of a network that gain from it, in place and only if asked for."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence

import torch
from torch import nn

from .options import require

BACKEND = "inductor"


def compile_regions(regions: Sequence[nn.Module], kind: str, device: torch.device) -> None:
    """Compile each of ``regions`` when it is first called, and again for other kinds of shapes.

    They are compiled in place: names of parameters, checkpoints and weights for use stay as they
    are, and need no compiler where they are read.

    Args:
        regions: of a run; none where the task does not offer it.
        kind: of the run.
        device: where they compute.

    Raises:
        ValueError: there are none, or nothing that compiles them.
    """
    require(len(regions) > 0, f"--compile is not offered for runs of kind {kind}; leave it out")
    if device.type == "cuda":
        found, lacking = importlib.util.find_spec("triton") is not None, "Triton"
    else:
        known = (os.environ.get("CXX", "g++"), "g++", "clang++")
        found, lacking = any(shutil.which(one) for one in known), "a C++ compiler such as g++"
    require(
        found or BACKEND != "inductor",
        f"--compile needs {lacking} on this machine; install it, or leave the option out",
    )
    for region in regions:
        region.compile(backend=BACKEND)
