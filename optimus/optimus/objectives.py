"""What the sentence VAE minimises: KL terms, free bits, length weighting and their schedules.

Li et al., EMNLP 2020, Sec. 3; beside it InfoVAE (Zhao et al., AAAI 2019) and beta-TC (Chen et al.,
NeurIPS 2018). Every quantity is in nats; ``B`` sentences, ``Z`` latent dimensions.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
LearningRateSchedule = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class Objective:
    """How the latent is drawn and what is added to the reconstruction term."""

    kind: Literal["vae", "deterministic-connect", "autoencoder", "mmd", "beta-tc"] = "vae"
    """``vae`` samples z; ``autoencoder`` takes z = mean and has no KL; ``deterministic-connect`` is
    the authors' option of that name, which adds unit noise to the mean all the same. ``mmd`` is
    `info_vae_loss` and ``beta-tc`` is `beta_tc_loss` in place of the KL."""
    free_bits: float = 0.0
    """Nats per latent dimension that cost nothing (lambda); 0 is the plain KL."""
    free_bits_rule: Literal["mask", "floor"] = "mask"
    """``mask`` drops the dimensions at or below ``free_bits``; ``floor`` is sum max(lambda, KL)."""
    length_weighted: bool = False
    """Divide the reconstruction term by the sentence's length in tokens, BOS and EOS included."""
    alpha: float = 1.0
    """``mmd``: the share of the KL that is left out."""
    mmd_weight: float = 100.0
    """``mmd``: lambda, see `info_vae_loss`; the value is a guess of ours, not of the paper."""
    tc_weight: float = 2.0
    """``beta-tc``: the weight of the total correlation; 1 is the plain KL, estimated."""
    dataset_size: int = 1
    """``beta-tc``: sentences that are trained on."""

    @property
    def of_batch(self) -> bool:
        """Whether the term that joins the reconstruction is a statistic of the whole batch."""
        return self.kind in ("mmd", "beta-tc")

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


class KlParts(NamedTuple):
    """The KL of a sentence in three parts, each (B,), estimated (Chen et al., 2018, Sec. 3.1)."""

    mutual_information: Tensor  # log q(z|x) - log q(z)
    total_correlation: Tensor  # log q(z) - sum_j log q(z_j)
    dimensions: Tensor  # sum_j log q(z_j) - log p(z_j)


def kl_parts(latent: Tensor, mean: Tensor, logvar: Tensor, dataset_size: int) -> KlParts:
    """The three parts by minibatch-weighted sampling (Chen et al., 2018, Sec. 3.2).

    log q(z_i) is taken as log 1/(N B) sum_k q(z_i|x_k), and alike for each dimension. The parts of
    a sentence add up to log q(z_i|x_i) - log p(z_i).

    Args:
        latent: one sample of each posterior, (B, Z).
        mean, logvar: the posteriors, (B, Z).
        dataset_size: N, the sentences that are trained on.
    """
    spread = (latent[:, None] - mean).square() / logvar.exp()  # (B, B, Z): sample i, posterior k
    log_density = -0.5 * (spread + logvar + LOG_2PI)
    log_posterior = log_density.diagonal().sum(dim=0)  # (B,)
    log_count = math.log(dataset_size * len(latent))
    log_aggregate = log_density.sum(dim=2).logsumexp(dim=1) - log_count
    log_marginals = (log_density.logsumexp(dim=1) - log_count).sum(dim=1)
    log_prior = -0.5 * (latent.square() + LOG_2PI).sum(dim=1)
    return KlParts(
        log_posterior - log_aggregate, log_aggregate - log_marginals, log_marginals - log_prior
    )


def beta_tc_loss(
    latent: Tensor, mean: Tensor, logvar: Tensor, tc_weight: float, dataset_size: int
) -> Tensor:
    """MI + tc_weight TC + KL of the dimensions (Chen et al., 2018, Sec. 3.3, alpha = gamma = 1).

    Arguments as of `kl_parts`. Returns (B,).
    """
    parts = kl_parts(latent, mean, logvar, dataset_size)
    return parts.mutual_information + tc_weight * parts.total_correlation + parts.dimensions


def maximum_mean_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """MMD^2 of two samples (B, Z), B >= 2, without bias (Gretton et al., 2012, Eq. 3); a scalar.

    The kernel is exp(-|a - b|^2 / 2Z): 2Z is the mean squared distance of two draws of N(0, I).
    """
    count, width = first.shape
    if count < 2:
        raise ValueError(f"a discrepancy needs at least 2 rows, got {count}")

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-(a[:, None] - b).square().sum(dim=2) / (2 * width)).exp()

    others = 1 - torch.eye(count, dtype=first.dtype, device=first.device)
    within = (kernel(first, first) * others + kernel(second, second) * others).sum()
    return within / (count * (count - 1)) - 2 * kernel(first, second).mean()


def info_vae_loss(
    latent: Tensor,
    mean: Tensor,
    logvar: Tensor,
    alpha: float,
    mmd_weight: float,
    prior: Tensor | None = None,
) -> Tensor:
    """(1 - alpha) KL + (alpha + lambda - 1) MMD(q(z), p(z)) (Zhao et al., 2019, Sec. 3).

    ``alpha`` 1 leaves the MMD alone (their MMD-VAE). Returns (B,), in which the MMD of the batch
    stands for each sentence.

    Args:
        latent: one sample of each posterior, (B, Z).
        mean, logvar: the posteriors, (B, Z).
        mmd_weight: lambda.
        prior: (B, Z) draws of N(0, I); drawn where None.
    """
    drawn = torch.randn_like(latent) if prior is None else prior
    discrepancy = maximum_mean_discrepancy(latent, drawn)
    return (1 - alpha) * kl_divergence(mean, logvar) + (alpha + mmd_weight - 1) * discrepancy


def batch_loss(objective: Objective, latent: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """What an objective of the whole batch puts in place of the KL. Returns (B,)."""
    if objective.kind == "mmd":
        return info_vae_loss(latent, mean, logvar, objective.alpha, objective.mmd_weight)
    return beta_tc_loss(latent, mean, logvar, objective.tc_weight, objective.dataset_size)


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


def learning_rate_at(
    step: int,
    *,
    base: float,
    warmup_steps: int,
    total_steps: int,
    schedule: LearningRateSchedule = "linear",
) -> float:
    """Linear warm-up over ``warmup_steps``, then down to 0 at ``total_steps``, or ``constant``.

    ``linear`` is the authors' way down, ``cosine`` half a wave (Loshchilov & Hutter, 2017, Eq. 5).
    """
    if step < warmup_steps:
        return base * (step / max(1, warmup_steps))
    if schedule == "constant":
        return base
    left = max(0.0, (total_steps - step) / max(1.0, total_steps - warmup_steps))
    return base * (left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))
