"""How much the latent vector says: likelihood bounds, mutual information and active units.

Everything is computed from tensors of scores, in double precision on the tensors' device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class ActiveUnits:
    """Dimensions of the latent vector that vary from sentence to sentence."""

    count: int
    variance: Tensor  # (Z,) variance of the posterior mean over sentences


class LikelihoodReport(NamedTuple):
    """Averages over N sentences; nats unless it is a perplexity."""

    perplexity: float  # over m + 2 tokens of a sentence, <BOS> counted: the authors' figure
    perplexity_predicted: float  # over the m + 1 tokens that are predicted
    perplexity_word: float  # over white-space words and one end of sentence
    elbo: float  # negative evidence lower bound, reconstruction + KL
    iw_nll: float  # - log p(x) by importance weighting
    reconstruction: float  # E[- log p(x | z)]; the authors print it as "nll"
    kl: float  # KL(q(z | x) || p(z)), no free bits


class Perplexities(NamedTuple):
    """exp(nats / units) in three conventions."""

    perplexity: float  # over m + 2 tokens of a sentence, <BOS> counted: the authors' figure
    perplexity_predicted: float  # over the m + 1 tokens that are predicted
    perplexity_word: float  # over white-space words and one end of sentence


class ReconstructionReport(NamedTuple):
    """One posterior sample a sentence."""

    per_sentence: float  # nats
    per_token: float  # nats; <BOS> and <EOS> are counted as tokens


class BaselinePerplexity(NamedTuple):
    """Perplexity of a plain language model in the two conventions of the authors' scripts."""

    of_means: float  # exp of the mean over sentences of (loss / tokens)
    of_totals: float  # exp of (total loss / total tokens)


def sentence_noise(numbers: Sequence[int], samples: int, latent_dim: int, seed: int) -> Tensor:
    """Noise (B, K, Z) that depends on a sentence's number alone, not on its batch or process."""
    generator = torch.Generator()
    draws = []
    for number in numbers:
        generator.manual_seed((seed << 32) + number)
        draws.append(torch.randn(samples, latent_dim, generator=generator))
    return torch.stack(draws)


def gaussian_log_density(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log N(z; mean, exp(logvar)) in nats, summed over the last axis; the inputs broadcast."""
    squared = (z - mean).square() / logvar.exp()
    return -0.5 * (squared + logvar + LOG_2PI).sum(dim=-1)


def importance_log_weights(
    log_likelihood: Tensor, z: Tensor, mean: Tensor, logvar: Tensor
) -> Tensor:
    """log p(x|z) + log p(z) - log q(z|x) for K samples of the posterior.

    Args:
        log_likelihood: log p(x|z_k), (N, K).
        z: the samples, (N, K, Z).
        mean, logvar: the posterior, (N, Z).

    Returns:
        (N, K) log weights.
    """
    z, mean, logvar = z.double(), mean.double()[:, None], logvar.double()[:, None]
    zero = torch.zeros((), dtype=torch.double, device=z.device)
    prior = gaussian_log_density(z, zero, zero)
    return log_likelihood.double() + prior - gaussian_log_density(z, mean, logvar)


def log_marginal(log_weights: Tensor) -> Tensor:
    """Importance-weighted estimate of log p(x) from (N, K) log weights; (N,) nats."""
    return torch.logsumexp(log_weights.double(), dim=1) - math.log(log_weights.shape[1])


def likelihood_report(
    log_weights: Tensor, log_likelihood: Tensor, kl: Tensor, tokens: Tensor, words: Tensor
) -> LikelihoodReport:
    """The row of a language-modelling table (Table 1).

    Args:
        log_weights: (N, K), as of ``importance_log_weights``.
        log_likelihood: log p(x|z_k), (N, K).
        kl: (N,) full KL divergences.
        tokens: (N,) decoder tokens, <BOS> and <EOS> included (m + 2).
        words: (N,) white-space words; where they are unknown (0) the word perplexity is nan.
    """
    nll, kl = -log_marginal(log_weights), kl.double()
    reconstruction = -log_likelihood.double().mean(dim=1)
    total, count = float(nll.sum()), len(nll)
    return LikelihoodReport(
        *perplexities(total, count, int(tokens.sum()), int(words.sum())),
        elbo=float((reconstruction + kl).mean()),
        iw_nll=total / count,
        reconstruction=float(reconstruction.mean()),
        kl=float(kl.mean()),
    )


def perplexities(nats: float, sentences: int, tokens: int, words: int) -> Perplexities:
    """Of ``sentences`` that cost ``nats`` in all; without words (0) the last one is nan."""
    return Perplexities(
        perplexity=_exp(nats / tokens),
        perplexity_predicted=_exp(nats / (tokens - sentences)),
        perplexity_word=_exp(nats / (words + sentences)) if words else math.nan,
    )


def reconstruction_report(nll: Tensor, tokens: Tensor) -> ReconstructionReport:
    """Averages of - log p(x|z) (N,) over sentences and over their ``tokens`` (N,), m + 2 each."""
    nll = nll.double()
    return ReconstructionReport(float(nll.mean()), float(nll.sum() / tokens.sum()))


def baseline_perplexity(nll: Tensor, tokens: Tensor) -> BaselinePerplexity:
    """Perplexities of a language model from sentence losses (N,) in nats and tokens (N,).

    Counting m + 2, m + 1 or m tokens is the caller's choice: the authors' scripts differ.
    """
    nll = nll.double()
    mean = float((nll / tokens).mean())
    return BaselinePerplexity(_exp(mean), _exp(float(nll.sum() / tokens.sum())))


def mutual_information(mean: Tensor, logvar: Tensor, z: Tensor, chunk: int = 256) -> float:
    """Estimate of I(x; z) under q in nats (Hoffman & Johnson, 2016).

    The entropy of q(z|x) is exact; the aggregate posterior at each sample is the mixture of all N
    posteriors, so memory is (chunk, N) and time N². The quantity is at most log N; the estimate may
    be above it, for the samples' own densities need not average to the exact entropy.

    Args:
        mean, logvar: posteriors of N sentences, (N, Z).
        z: one sample of each posterior, (N, Z).
        chunk: samples handled at once.
    """
    mean, logvar, z = mean.double(), logvar.double(), z.double()
    count, dim = mean.shape
    negative_entropy = -0.5 * dim * LOG_2PI - 0.5 * (1 + logvar).sum(dim=1).mean()
    # log q(z_i | x_n) as three matrix products, without an (N, N, Z) tensor
    precision = (-logvar).exp()
    constant = (mean.square() * precision + logvar + LOG_2PI).sum(dim=1)  # (N,)
    total = 0.0
    for part in z.split(chunk):
        cross = part.square() @ precision.T - 2 * part @ (mean * precision).T
        log_density = -0.5 * (cross + constant)  # (chunk, N)
        total += float(torch.logsumexp(log_density, dim=1).sum())
    return float(negative_entropy) - (total / count - math.log(count))


def active_units(mean: Tensor, threshold: float = 0.01) -> ActiveUnits:
    """Dimensions whose posterior mean (N, Z) has a variance of at least ``threshold``.

    Burda et al., 2016; the variance is the unbiased one.
    """
    if len(mean) < 2:
        raise ValueError(f"active units need at least 2 sentences, got {len(mean)}")
    variance = mean.double().var(dim=0, correction=1)
    return ActiveUnits(int((variance >= threshold).sum()), variance)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
