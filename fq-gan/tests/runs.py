"""Tiny training runs for the tests of the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from fqgan.biggan.options import BigganTrain
from fqgan.biggan.presets import SMOKE

TINY = replace(
    SMOKE,
    device="cpu",
    evaluate_every=0,
    sample_every=0,
    sample_statistics="running",
    data=replace(SMOKE.data, toy_images=40),
    generator=replace(SMOKE.generator, channels=2, latent_dim=4),
    discriminator=replace(SMOKE.discriminator, channels=2),
    quantizer=replace(SMOKE.quantizer, codebook_size=8),
    step=replace(SMOKE.step, batch_size=2),
)


def tiny_run(run_dir: Path, **changes: Any) -> BigganTrain:
    """A run of a few iterations of networks of width 2."""
    return replace(TINY, run_dir=str(run_dir), **changes)


def options_of(config: BigganTrain) -> list[str]:
    """The words after ``fqgan train`` that give ``config``."""
    from fqgan.migrate import differences

    return ["smoke", *differences(SMOKE, config)]


def weights_of(run_dir: Path) -> dict[str, Tensor]:
    """All exported tensors of a run: generator, its average, discriminator with dictionaries."""
    return {
        f"{path.stem}/{name}": value
        for path in sorted((run_dir / "model").glob("*.safetensors"))
        for name, value in load_file(path).items()
    }


def command(config: BigganTrain) -> list[str]:
    """The words that train ``config`` in a process of its own."""
    return [sys.executable, "-m", "fqgan", "train", *options_of(config)]


def start(words: list[str], **environment: str) -> subprocess.Popen[str]:
    """Start ``words`` with more ``environment``, output taken."""
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for ``process``; its output."""
    output = process.communicate(timeout=200)[0]
    assert process.returncode == status, output
    return output
