"""A start from data: connectors of strong networks that carry the sentence from the first step.

Random connectors between a trained encoder and a trained decoder teach the decoder to ignore z long
before z says anything. Here z starts as the principal axes of the encoder's vectors, and what z
brings to the decoder as the best linear guess of the decoder's own keys, values and embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..runtime.precision import ieee_fp32
from .pretrained import PretrainedDecoder, PretrainedEncoder
from .vae import OptimusModel

LOGVAR = -3.0
"""log of the posterior's variance at the start: its deviation is 0.22 of a unit of the latent."""

TokenBatch = tuple[Tensor, Tensor]
"""Encoder ids (B, S) and decoder ids (B, T) of the same sentences, right-padded."""


class StartReport(NamedTuple):
    """What a start from data found, in words of its `__str__`."""

    sentences: int
    variance: float  # share of the variance of the encoder's vectors on the axes of z
    explained: float  # share of the variance of the sentences' mean keys and values that z explains
    slot: float  # norm of what z changes in a slot, relative to that of a token's key and value
    shift: float  # norm of what z adds to an embedding, relative to that of a token

    def __str__(self) -> str:
        return (
            f"start from {self.sentences} sentences: the axes of z hold {self.variance:.0%} of the "
            f"variance of the encoder's vectors and explain {self.explained:.0%} of that of the "
            f"decoder's keys and values; z changes a memory slot by {self.slot:.3g} of a token's "
            f"norm and an embedding by {self.shift:.3g} of a token's"
        )


@torch.no_grad()
def start_from_data(
    model: OptimusModel, batches: Sequence[TokenBatch], logvar: float = LOGVAR
) -> StartReport:
    """Set the connectors of ``model`` from the sentences of ``batches``.

    The encoder's map gives the whitened principal axes of its vectors as mean, so that the means
    have zero mean and unit variance as the prior has, and a constant ``logvar``. A memory slot
    starts as the decoder's own reading of the start token at the same position, which the network
    expects there, plus the least-squares guess, from z, of the mean key and value of the sentence's
    tokens in that layer; an embedding is shifted by the guess of the mean embedding. So both stay
    within the range of what the network is used to, in direction and in size.

    Raises:
        ValueError: the latent has more dimensions than the encoder's vectors or the sentences.
    """
    encoder, decoder = model.encoder, model.decoder
    if not isinstance(encoder, PretrainedEncoder) or not isinstance(decoder, PretrainedDecoder):
        raise ValueError("--model.start data needs an encoder and a decoder given as two folders")
    training = model.training
    model.eval()
    with ieee_fp32():
        pad = model.config.encoder_pad_token_id
        vectors = torch.cat([encoder.pooled(ids, ids != pad) for ids, _ in batches])
        variance = whiten(encoder.head, vectors, logvar)
        means = [encoder(ids, ids != pad).mean for ids, _ in batches]
        explained, slot, shift = _guess(decoder, batches, means)
    model.train(training)
    return StartReport(len(vectors), variance, explained, slot, shift)


@torch.no_grad()
def whiten(head: nn.Linear, vectors: Tensor, logvar: float) -> float:
    """Let ``head`` give the whitened principal axes of ``vectors`` (N, H) and ``logvar``.

    Returns:
        The share of the variance that lies on these axes, in [0, 1].

    Raises:
        ValueError: there are fewer axes than dimensions of the latent.
    """
    size = head.out_features // 2
    rows = vectors.double()
    center = rows.mean(dim=0)
    _, spread, axes = torch.linalg.svd(rows - center, full_matrices=False)
    deviation = spread / len(rows) ** 0.5
    axes_found = int((deviation > 1e-6 * deviation[0]).sum())
    if size > axes_found:
        raise ValueError(
            f"--model.latent-dim {size} is more than the {axes_found} axes that {len(rows)} "
            f"vectors of width {rows.shape[1]} have; give at most that, or more "
            "--model.start-sentences"
        )
    axes, share = axes[:size], spread[:size].square().sum() / spread.square().sum()
    # an axis has no direction of its own; this one does not depend on the library
    largest = axes.abs().argmax(dim=1, keepdim=True)
    axes = axes * axes.gather(1, largest).sign() / deviation[:size, None]
    head.weight.zero_()
    head.weight[:size] = axes.to(head.weight)
    head.bias[:size] = -(axes @ center).to(head.bias)
    head.bias[size:] = logvar
    return float(share)


class _Moments:
    """Of targets y (N, D) beside a white z (N, Z): what their least-squares map from z needs."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: list[Tensor] = []  # of y (D,), of y squared (), of z (Z,), of y z^T (D, Z)

    def add(self, targets: Tensor, latent: Tensor) -> None:
        y, z = targets.double(), latent.double()
        parts = [y.sum(dim=0), y.square().sum(), z.sum(dim=0), y.T @ z]
        before = self.sums or [torch.zeros_like(part) for part in parts]
        self.sums = [one + other for one, other in zip(before, parts, strict=True)]
        self.count += len(y)

    def slope(self) -> Tensor:
        """The map (D, Z) from z to y less its mean."""
        y, _, z, products = (one / self.count for one in self.sums)
        return products - y[:, None] * z[None]

    def explained(self) -> float:
        """Share of the variance of y that the map explains."""
        y, squares, _, _ = (one / self.count for one in self.sums)
        return float(self.slope().square().sum() / (squares - y.square().sum()))


def _guess(
    decoder: PretrainedDecoder, batches: Sequence[TokenBatch], means: Sequence[Tensor]
) -> tuple[float, float, float]:
    """Set the decoder's connectors; returns the last three numbers of `StartReport`."""
    slots, embeddings = _Moments(), _Moments()
    start, norms = torch.zeros(()), []
    for (_, ids), latent in zip(batches, means, strict=True):
        share = (ids != decoder.pad_token_id).float()
        share[:, 0] = 0  # the start token is the same in all
        share = share / share.sum(dim=1, keepdim=True)
        embeds = decoder.embed(ids)
        embeddings.add(torch.einsum("bth,bt->bh", embeds, share), latent)
        states = _keys_and_values(decoder, ids) if decoder.memory is not None else []
        if states:
            start = torch.cat([one[0, :, 0].flatten() for one in states])
            means_of = [torch.einsum("bnth,bt->bnh", one, share).flatten(1) for one in states]
            slots.add(torch.cat(means_of, dim=1), latent)
        of_tokens = [one.transpose(1, 2)[share > 0].norm(dim=-1).mean() for one in states]
        norms.append((embeds[share > 0].norm(dim=-1).mean(), torch.tensor(of_tokens).mean()))
    shift_norm, slot_norm = torch.tensor(norms).mean(dim=0).tolist()
    latents = torch.cat([*means])
    explained = slot = shift = 0.0
    if decoder.memory is not None:
        decoder.memory.weight.copy_(slots.slope())
        decoder.memory.bias.copy_(start)
        explained = slots.explained()
        changes = latents @ decoder.memory.weight.T  # (N, D)
        changes = changes.view(len(latents), -1, decoder.form.head_dim)
        slot = float(changes.norm(dim=2).mean()) / slot_norm
    if decoder.embedding is not None:
        decoder.embedding.weight.copy_(embeddings.slope())
        shift = float((latents @ decoder.embedding.weight.T).norm(dim=1).mean()) / shift_norm
    return explained, slot, shift


def _keys_and_values(decoder: PretrainedDecoder, ids: Tensor) -> list[Tensor]:
    """Of every layer, (B, heads, T, head_dim) each, in the order of a memory slot's sizes."""
    state = decoder.start(None)
    decoder.advance(state, ids)
    layers: list[Any] = [*state.cache.layers]
    return [states for layer in layers for states in (layer.keys, layer.values)]
