"""log p(x|z_k) and importance weights of many samples per sentence, for evaluation (Sec. 4.1)."""

from typing import NamedTuple

import torch
from torch import Tensor

from .metrics.latent import importance_log_weights, log_marginal
from .models.vae import OptimusModel
from .objectives import kl_divergence

_CHUNK_TOKENS = {"cpu": 8192, "cuda": 65536}
"""Decoder tokens worked on at once: enough to fill the device, few enough to stay small."""


class ImportanceScores(NamedTuple):
    """Everything the evaluation says about a sentence, in nats."""

    log_weight: Tensor  # (B, K) log p(x|z_k) + log p(z_k) - log q(z_k|x), float64
    log_likelihood: Tensor  # (B, K) log p(x|z_k)
    kl: Tensor  # (B,) KL(q(z|x) || N(0, I))
    mean: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z)
    latent: Tensor  # (B, K, Z) the samples z_k

    def log_marginal(self) -> Tensor:
        """The importance-weighted bound of log p(x), (B,): tighter with every sample."""
        return log_marginal(self.log_weight)


@torch.no_grad()
def importance_scores(
    model: OptimusModel,
    encoder_ids: Tensor,
    decoder_ids: Tensor,
    *,
    num_samples: int = 100,
    eps: Tensor | None = None,
    mask_padding: bool = True,
    chunk_tokens: int | None = None,
) -> ImportanceScores:
    """Score a batch with K samples of z per sentence, encoding each sentence once.

    Args:
        model: in evaluation mode.
        encoder_ids: (B, S), right-padded.
        decoder_ids: (B, T), right-padded; sentences of like length waste least.
        num_samples: K; the paper has 100.
        eps: (B, K, Z) the noise; drawn where None.
        mask_padding: False attends to the encoder's padding as the authors' evaluation does.
        chunk_tokens: decoder tokens per pass; by default what suits the device.
    """
    posterior = model.encode(encoder_ids, mask_padding)
    latent = posterior.sample(eps, num_samples)
    log_likelihood = -_nll(model, decoder_ids, latent, chunk_tokens)
    return ImportanceScores(
        importance_log_weights(log_likelihood, latent, posterior.mean, posterior.logvar),
        log_likelihood,
        kl_divergence(posterior.mean, posterior.logvar),
        posterior.mean,
        posterior.logvar,
        latent,
    )


@torch.no_grad()
def language_model_nll(model: OptimusModel, decoder_ids: Tensor) -> Tensor:
    """-log p(x) of ``decoder_ids`` (B, T) without any latent. Returns (B,) nats."""
    return model.decoder.nll(decoder_ids, None)


def _nll(
    model: OptimusModel, decoder_ids: Tensor, latent: Tensor, chunk_tokens: int | None
) -> Tensor:
    """-log p(x_i|z_ik), (B, K), the B * K sequences in chunks of equal size."""
    batch, samples = latent.shape[:2]
    tokens = chunk_tokens or _CHUNK_TOKENS.get(decoder_ids.device.type, 8192)
    size = max(1, tokens // decoder_ids.shape[1])
    rows = torch.arange(batch, device=decoder_ids.device).repeat_interleave(samples)
    parts = [
        model.decoder.nll(decoder_ids[index], z)
        for index, z in zip(rows.split(size), latent.flatten(0, 1).split(size), strict=True)
    ]
    return torch.cat(parts).view(batch, samples)
