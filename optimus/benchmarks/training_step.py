"""One optimizer step at batch 16 x 64 tokens: forward, backward, clip, AdamW."""

from __future__ import annotations

from collections.abc import Callable

import torch
from harness import DEVICE, build_model, main, random_ids
from plain import training_loss
from torch.nn.utils import clip_grad_norm_

from optimus.objectives import Objective
from optimus.runtime.precision import build_adamw
from optimus.tasks.training import OriginalAdamW, parameter_groups

ENCODER_IDS, DECODER_IDS = random_ids(16, 64)
OBJECTIVE = Objective(free_bits=0.5, length_weighted=True)


def build_plain() -> Callable[[], None]:
    """The authors' way."""
    model = build_model("eager").train()
    optimizer = OriginalAdamW(parameter_groups(model, 0.0, compat=True), lr=5e-5)

    def step() -> None:
        training_loss(model, ENCODER_IDS, DECODER_IDS).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def build_ours(precision: str = "fp32") -> Callable[[], None]:
    """The way of ``optimus train --optimizer.kind fused``."""
    model = build_model().train()
    optimizer = build_adamw(parameter_groups(model, 0.0), kind="fused", lr=5e-5)

    def step() -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
            losses = model(ENCODER_IDS, DECODER_IDS, objective=OBJECTIVE, beta=0.5)
        losses.total.mean().backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def lazily(build: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """Build at the first call, so that a process that measures memory holds one way only."""
    made: list[Callable[[], None]] = []

    def run() -> None:
        if not made:
            made.append(build())
            made[0]()
        made[0]()

    return run


if __name__ == "__main__":
    main(
        "training_step",
        lambda: {
            "plain": lazily(build_plain),
            "ours": lazily(build_ours),
            "ours, bf16": lazily(lambda: build_ours("bf16")),
        },
        repeats=3,
        target=1.3,
    )
