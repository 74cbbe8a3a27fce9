"""The straightforward way of the authors' scripts, written anew as the floor to compare with.

Eager attention, logits of all positions for the whole vocabulary, no cache, one sentence at a time,
the encoder run for every chunk of samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from optimus.models.vae import OptimusModel
from optimus.objectives import free_bits_kl, kl_divergence


def nll(model: OptimusModel, decoder_ids: Tensor, latent: Tensor) -> Tensor:
    """-log p(x|z) of each sentence (B,) by way of all logits (B, T, V)."""
    logits = model.decoder.logits(decoder_ids, latent)
    shifted = logits[:, :-1].contiguous()
    labels = decoder_ids[:, 1:].contiguous()
    losses = F.cross_entropy(
        shifted.view(-1, shifted.shape[-1]),
        labels.view(-1),
        ignore_index=model.config.pad_token_id,
        reduction="none",
    )
    return losses.view(labels.shape).sum(dim=1)


def training_loss(model: OptimusModel, encoder_ids: Tensor, decoder_ids: Tensor) -> Tensor:
    """Length-weighted loss at beta 0.5 and lambda 0.5."""
    posterior = model.encode(encoder_ids)
    reconstruction = nll(model, decoder_ids, posterior.sample()[:, 0])
    kl = free_bits_kl(posterior.mean, posterior.logvar, 0.5)
    lengths = (decoder_ids != model.config.pad_token_id).sum(dim=1)
    return (reconstruction / lengths + 0.5 * kl).mean()


@torch.no_grad()
def importance_weighted(
    model: OptimusModel, encoder_ids: Tensor, decoder_ids: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor]:
    """log p(x) of one sentence from K samples in chunks of five; returns it and the KL."""
    weights, kl = [], torch.zeros(())
    for noise in eps.split(5, dim=1):
        posterior = model.encode(encoder_ids)
        latent = posterior.sample(noise)
        likelihood = -nll(model, decoder_ids.expand(noise.shape[1], -1), latent[0])
        prior = Normal(0.0, 1.0).log_prob(latent).sum(dim=-1)
        density = Normal(posterior.mean[:, None], (0.5 * posterior.logvar).exp()[:, None])
        density = density.log_prob(latent).sum(dim=-1)
        weights.append(likelihood + prior - density)
        kl = kl_divergence(posterior.mean, posterior.logvar)
    return torch.cat(weights, dim=1).logsumexp(dim=1) - math.log(eps.shape[1]), kl


@torch.no_grad()
def generate(model: OptimusModel, latent: Tensor, tokens: int, greedy: bool = False) -> list[int]:
    """Sample one sentence of z (1, Z), the whole prefix run again for each token."""
    ids = torch.tensor([[model.config.bos_token_id]])
    for _ in range(tokens):
        logits = model.decoder.logits(ids, latent)[:, -1]
        if greedy:
            token = logits.argmax(dim=-1, keepdim=True)
        else:
            ordered, index = logits.sort(descending=True)
            remove = ordered.softmax(dim=-1).cumsum(dim=-1) > 1.0
            remove[..., 1:] = remove[..., :-1].clone()
            remove[..., 0] = False
            logits[0, index[0][remove[0]]] = -torch.inf
            token = torch.multinomial(logits.softmax(dim=-1), 1)
        ids = torch.cat([ids, token], dim=1)
        if token.item() == model.config.eos_token_id:
            break
    return ids[0].tolist()
