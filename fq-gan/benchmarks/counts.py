"""What a step of every loop asks of a device: kernels, casts, memory, and waits of the host.

    python benchmarks/counts.py [--precision bf16] [--compiled]

``--compiled`` counts the blocks of U-GAT-IT's generators alone, forward and backward, as they are
and as Inductor compiles them (a minute, and a C++ compiler); convolutions count with both.

Counted on a CPU at the size of the smoke presets (see `fqgan.runtime.counting`): the numbers of
operations and allocations are the same at any size, the MB are not. Spectral norms of one shape
are taken together, as on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._inductor import metrics

from fqgan.biggan import networks as biggan_networks
from fqgan.biggan.config import PRESETS as BIGGAN
from fqgan.biggan.train import TASK as BIGGAN_TASK
from fqgan.loop import Task
from fqgan.runtime.counting import COLUMNS, Counts, count
from fqgan.runtime.distributed import World
from fqgan.runtime.precision import MixedPrecision
from fqgan.runtime.run_folder import RunFolder
from fqgan.spectral_norm import normalized_weights
from fqgan.stylegan2.config import PRESETS as STYLEGAN2
from fqgan.stylegan2.train import TASK as STYLEGAN2_TASK
from fqgan.ugatit import networks as ugatit_networks
from fqgan.ugatit.config import PRESETS as UGATIT
from fqgan.ugatit.networks import AdaptiveBlock, ResidualBlock
from fqgan.ugatit.train import TASK as UGATIT_TASK

ON_THE_HOST = ("batches.py", "images.py", "unpaired.py", "networks.py:training_styles")


def loops() -> Iterator[tuple[str, Task, Any]]:
    yield "BigGAN", BIGGAN_TASK, BIGGAN["smoke"][1]
    yield "U-GAT-IT", UGATIT_TASK, UGATIT["ugatit-smoke"][1]
    yield "U-GAT-IT, paper", UGATIT_TASK, as_deep_as_the_paper()
    yield "StyleGAN2", STYLEGAN2_TASK, STYLEGAN2["stylegan2-smoke"][1]


def as_deep_as_the_paper() -> Any:
    """U-GAT-IT with all layers of the paper's networks, of 4 channels and for 128 pixels."""
    smoke, paper = UGATIT["ugatit-smoke"][1], UGATIT["ugatit-selfie2anime"][1]
    return replace(
        smoke,
        generator=replace(paper.generator, channels=4),
        discriminator=replace(paper.discriminator, channels=4),
        quantizer=paper.quantizer,
        data=replace(smoke.data, resolution=128),
    )


def counts(task: Task, config: Any) -> Counts:
    """Of the second step of a run."""
    run_dir = Path(tempfile.mkdtemp()) / "run"
    config = replace(config, run_dir=type(config.run_dir)(run_dir), device="cpu")
    with RunFolder(run_dir, task.kind, config) as folder:
        torch.manual_seed(0)
        run = task.open(config, World(0, 1, torch.device("cpu")), folder)
        run.step()
        torch.manual_seed(0)
        return count(run.step, on_the_host=ON_THE_HOST)


def of_a_block(block: nn.Module, precision: Any, *styles: torch.Tensor) -> tuple[int, int]:
    """Kernels of a block of 16 channels at 32 pixels, forward and backward, plain and compiled."""
    features = torch.randn(1, 16, 32, 32, requires_grad=True)

    def both() -> None:
        with MixedPrecision(precision, "cpu").autocast():
            out = block(features, *styles)
        out.float().square().sum().backward()

    both()
    plain = count(both).kernels
    convolutions = plain["convolution"] + plain["convolution_backward"]
    block.compile(backend="inductor", fullgraph=True)
    metrics.reset()
    both()
    return sum(plain.values()), convolutions + metrics.generated_kernel_count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--compiled", action="store_true", help="blocks of U-GAT-IT's generators")
    options = parser.parse_args()
    precision = options.precision
    torch.set_num_threads(1)
    if options.compiled:
        style = torch.randn(2, 1, 16)
        blocks = {
            "residual": (ResidualBlock(16),),
            "AdaLIN": (AdaptiveBlock(16, smoothing=True), *style),
        }
        for name, (block, *styles) in blocks.items():
            plain, compiled = of_a_block(block, precision, *styles)
            print(f"{name} block: {plain} kernels, compiled {compiled} ({precision})", flush=True)
        return
    for module in (biggan_networks, ugatit_networks):
        module.normalized_weights = partial(normalized_weights, together=True)  # type: ignore[assignment]
    print(f"{'loop':<16}{COLUMNS}  waits of the host ({precision})")
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # presets write below the present folder
        for name, task, preset in loops():
            with contextlib.redirect_stderr(None):
                found = counts(task, replace(preset, precision=precision))
            waits = ", ".join(f"{where} {number}" for where, number in found.waits.items())
            print(f"{name:<16}{found.columns()}  {waits or 'none'}", flush=True)


if __name__ == "__main__":
    main()
