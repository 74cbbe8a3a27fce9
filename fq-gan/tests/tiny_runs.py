"""Tiny training runs for the tests of the commands."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from fqgan.biggan.config import SMOKE, BigganTrain
from fqgan.runtime.run_folder import config_text
from fqgan.stylegan2.config import SMOKE as STYLEGAN2_SMOKE, Stylegan2Train

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


def begun(run_dir: Path, config: Any) -> Path:
    """The folder of a run that has nothing but its options."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.json").write_text(config_text(config.kind, config))
    return run_dir


def rows_of(folder: Path, name: str = "evaluations.jsonl") -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def options_of(config: BigganTrain) -> list[str]:
    """The words after ``fqgan train`` that give ``config``."""
    from fqgan.runs import differences

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


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [str(free.getsockname()[1]) for free in sockets]


TINY_STYLEGAN2 = replace(
    STYLEGAN2_SMOKE,
    device="cpu",
    evaluate_kimg=0,
    sample_kimg=0,
    data=replace(STYLEGAN2_SMOKE.data, toy_images=40, resolution=8),
    mapping=replace(STYLEGAN2_SMOKE.mapping, latent_dim=4, style_dim=4, hidden_dim=4),
    generator=replace(STYLEGAN2_SMOKE.generator, channel_max=4),
    discriminator=replace(STYLEGAN2_SMOKE.discriminator, channel_max=4),
    quantizer=replace(STYLEGAN2_SMOKE.quantizer, layers=(3,)),
    schedule=replace(STYLEGAN2_SMOKE.schedule, total_kimg=0.008, batch_size=4, device_batch_size=4),
)


def tiny_stylegan2(run_dir: Path, **changes: Any) -> Stylegan2Train:
    """A run of a few images of 8 x 8 pixels."""
    return replace(TINY_STYLEGAN2, run_dir=str(run_dir), **changes)
