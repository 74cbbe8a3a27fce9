"""What the sentence VAE minimises: KL terms, free bits, length weighting and their schedules.

Li et al., EMNLP 2020, Sec. 3. Every quantity is in nats; ``B`` sentences, ``Z`` latent dimensions.
"""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """How the latent is drawn and what is added to the reconstruction term."""

    kind: Literal["vae", "deterministic-connect", "autoencoder"] = "vae"
    """``vae`` samples z; ``autoencoder`` takes z = mean and has no KL; ``deterministic-connect`` is
    the authors' option of that name, which adds unit noise to the mean all the same."""
    free_bits: float = 0.0
    """Nats per latent dimension that cost nothing (lambda); 0 is the plain KL."""
    free_bits_rule: Literal["mask", "floor"] = "mask"
    """``mask`` drops the dimensions at or below ``free_bits``; ``floor`` is sum max(lambda, KL)."""
    length_weighted: bool = False
    """Divide the reconstruction term by the sentence's length in tokens, BOS and EOS included."""

    def __post_init__(self) -> None:
        if not (self.free_bits >= 0 and math.isfinite(self.free_bits)):
            raise ValueError(
                f"--objective.free-bits must be a finite number >= 0, got {self.free_bits}"
            )


def kl_per_dimension(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z_j|x) || N(0, 1)) per dimension; ``mean``, ``logvar`` and the result are (B, Z)."""
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1)


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)) in nats; ``mean`` and ``logvar`` are (B, Z). Returns (B,)."""
    return kl_per_dimension(mean, logvar).sum(dim=1)


def free_bits_kl(
    mean: Tensor, logvar: Tensor, free_bits: float, rule: Literal["mask", "floor"] = "mask"
) -> Tensor:
    """KL with ``free_bits`` nats per sentence and dimension for nothing. Returns (B,).

    ``mask`` (the authors' rule) lets dimensions at or below the threshold contribute 0 and the
    others their whole KL; ``floor`` is sum_j max(free_bits, KL_j). Both have the same gradient.
    """
    kl = kl_per_dimension(mean, logvar)
    if rule == "floor":
        return kl.clamp(min=free_bits).sum(dim=1)
    return (kl * (kl > free_bits)).sum(dim=1)


def kl_loss(objective: Objective, mean: Tensor, logvar: Tensor, beta: float) -> Tensor:
    """The KL term as ``objective`` counts it at this ``beta``. Returns (B,) nats.

    Free bits are switched off by themselves while ``beta`` is exactly 0 (the automatic switch of
    the authors' loop), so that the reported KL is the true one during the auto-encoder phase.
    """
    if objective.kind == "deterministic-connect":
        return 0.5 * mean.square().sum(dim=1)  # the posterior's variance is taken as 1
    if beta == 0 or objective.free_bits == 0:
        return kl_divergence(mean, logvar)
    return free_bits_kl(mean, logvar, objective.free_bits, objective.free_bits_rule)


def sentence_lengths(decoder_ids: Tensor, pad_token_id: int) -> Tensor:
    """Tokens of each sentence in ``decoder_ids`` (B, T), BOS and EOS counted. Returns (B,)."""
    return (decoder_ids != pad_token_id).sum(dim=1)


def total_loss(
    reconstruction: Tensor, kl: Tensor, beta: float, lengths: Tensor | None = None
) -> Tensor:
    """reconstruction [/ lengths] + beta * kl; every argument and the result is (B,).

    With ``lengths`` the reconstruction is per token, where the authors' count of m + 2 tokens
    (BOS and EOS) is kept although only m + 1 of them are predicted.
    """
    if lengths is not None:
        reconstruction = reconstruction / lengths
    return reconstruction + beta * kl


def beta_schedule(
    num_steps: int,
    *,
    start: float = 0.0,
    stop: float = 1.0,
    num_cycles: int = 1,
    ratio_increase: float = 0.25,
    ratio_zero: float = 0.25,
) -> list[float]:
    """Cyclical beta with a zero phase: one value per step (Sec. 3, "pre-training").

    Each cycle spends the fraction ``ratio_zero`` at ``start``, rises linearly over the fraction
    ``ratio_increase`` and stays at ``stop``. The first value after the zero phase is ``start``
    once more, as in the authors' code; a rise that does not fit is cut by the next cycle.
    """
    if num_steps < 1 or num_cycles < 1:
        raise ValueError(
            f"the beta schedule needs at least one step and one cycle, got {num_steps} steps and "
            f"{num_cycles} cycles"
        )
    period = num_steps / num_cycles
    rise, zero = period * ratio_increase, period * ratio_zero
    step = (stop - start) / rise if rise > 0 else math.inf
    values = [stop] * num_steps
    for cycle in range(num_cycles):
        value, i = start, 0
        while value <= stop and int(i + cycle * period) < num_steps:
            values[int(i + cycle * period)] = start if i < zero else value
            # Summed up rather than multiplied out: the rounding is part of the schedule.
            value = value if i < zero else value + step
            i += 1
    return values


def learning_rate_at(step: int, *, base: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up over ``warmup_steps``, then linearly down to 0 at ``total_steps``."""
    if step < warmup_steps:
        return base * (step / max(1, warmup_steps))
    return base * max(0.0, (total_steps - step) / max(1.0, total_steps - warmup_steps))
