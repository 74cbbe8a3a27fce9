"""64 new tokens for each of 32 latent vectors: sampling, T = 1, and greedy for the comparison."""

from __future__ import annotations

import functools
from typing import Any

import torch
from harness import DEVICE, build_model, main
from plain import generate as generate_plainly

from optimus.decoding import Sampling, generate
from optimus.models.vae import OptimusModel

TOKENS, BATCH, PLAIN_SENTENCES = 64, 32, 1
LATENTS = torch.randn(BATCH, 32, generator=torch.Generator(DEVICE).manual_seed(1))


@functools.cache
def model(attention: str) -> OptimusModel:
    """In evaluation mode; an end of sentence that no one reaches, so that all lengths are equal."""
    built = build_model(attention).eval()
    built.config.eos_token_id = -1
    return built


def plain(greedy: bool = False) -> list[list[int]]:
    """One sentence after the other, the whole prefix run again for each token."""
    latents = LATENTS[:PLAIN_SENTENCES].split(1)
    return [generate_plainly(model("eager"), z, TOKENS, greedy) for z in latents]


def ours(strategy: str = "sample") -> list[list[int]]:
    """All sentences side by side, with a cache."""
    sampling = Sampling(strategy, max_new_tokens=TOKENS)  # type: ignore[arg-type]
    return generate(model("sdpa"), LATENTS, sampling, batch_size=BATCH)


def check() -> dict[str, Any]:
    """Whether greedy decoding makes the same tokens."""
    same = plain(greedy=True) == ours("greedy")[:PLAIN_SENTENCES]
    return {"greedy tokens identical": same}


if __name__ == "__main__":
    main(
        "generation",
        lambda: {"plain": plain, "ours": ours, "ours, greedy": lambda: ours("greedy")},
        repeats=3,
        target=20,
        unit=PLAIN_SENTENCES / BATCH,
        check=check,
    )
