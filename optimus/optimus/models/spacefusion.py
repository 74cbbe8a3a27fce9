"""Dialog responses in a fused latent space (Li et al., EMNLP 2020, Sec. 4.2; SpaceFusion).

A response reaches z through the encoder (AE branch), its context through a copy of the encoder's
last layers (S2S branch). Both are pulled together and points between them decode to the response.
The third branch, sentences of a style, is an extension: the paper reports it without code.
"""

from __future__ import annotations

import copy
import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .encoder import Posterior
from .kernels import gather_rows
from .vae import ExtendedVae, OptimusModel

MASKED = -1e4  # added to the attention scores of padding, as BERT does
DISTANCE_EPSILON = 1e-6  # added to every difference before the norm, as pairwise_distance does
INTERPOLATION_NOISE = 0.1  # standard deviation around a point between the two branches


class FusionNoise(NamedTuple):
    """Everything random in a forward pass; drawn where a caller gives none."""

    eps_response: Tensor  # (B, 1, Z)
    eps_context: Tensor  # (B, 1, Z)
    weight: Tensor  # (B, 1) in [0, 1), share of the response in the interpolation
    unit: Tensor  # (B, Z)


class StyleSentences(NamedTuple):
    """M sentences of a style."""

    encoder_ids: Tensor  # (M, S')
    decoder_ids: Tensor  # (M, T')
    targets: Tensor | None = None  # as of `LatentDecoder.nll`
    padded: bool | None = None  # as of `LatentEncoder.pooled`


class FusionLosses(NamedTuple):
    """Losses of a batch; distances are Euclidean, in the latent space."""

    total: Tensor  # (B,) reconstruction + weight * regulariser
    reconstruction: Tensor  # (B,) nats, mean of the decodings from response, context and between
    regulariser: Tensor  # () (pull - 2 push) / sqrt(Z)
    pull: Tensor  # () mean distance of a response and its context
    push: Tensor  # () distance to the nearest neighbour, in the denser of the two branches
    style: Tensor  # () nats of the style branch and its pull, 0 without style sentences


def speaker_ids(
    context_ids: Tensor, mask: Tensor, sep_id: int, rule: Literal["row", "last-row"] = "row"
) -> Tensor:
    """Who says each token of ``context_ids`` (B, C): 0 or 1, changing after each [SEP].

    ``row`` counts from the end of each context, so that its last utterance is speaker 1's and the
    response speaker 0's; padding is 0. ``last-row`` is the authors' rule: counting from the start,
    padding continues, and all rows are inverted if the last row of the batch ends at speaker 0.
    """
    ends = ((context_ids == sep_id) & mask).long()
    flips = ends.cumsum(dim=1) - ends  # separators before each position
    if rule == "row":
        turns = ends.sum(dim=1, keepdim=True)
        return (((turns - flips) % 2) * mask.long()).clamp(min=0)
    speakers = flips % 2
    last = int(ends[-1].sum()) % 2  # the flag after the last token
    return 1 - speakers if last == 0 else speakers


def pull_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean distance () of the rows of ``first`` and ``second`` (N, Z), pair by pair."""
    return (first - second + DISTANCE_EPSILON).norm(dim=1).mean()


def push_distance(latent: Tensor, include_self: bool = False) -> Tensor:
    """Mean over the rows of ``latent`` (N, Z) of the distance () to the nearest other row.

    Beyond sqrt(2 Z), what lies between two draws from the prior, a distance counts no more:
    without a KL term nothing else would keep the latents from drifting apart for ever.
    ``include_self`` restores the authors' term, which counts a row as its own neighbour and hence
    is the constant 1e-6 sqrt(Z). One row alone has no neighbour: 0.
    """
    if len(latent) < 2 and not include_self:
        return latent.sum() * 0.0
    distances = (latent[:, None] - latent[None] + DISTANCE_EPSILON).norm(dim=2)
    if not include_self:
        own = torch.eye(len(latent), dtype=torch.bool, device=latent.device)
        distances = distances.masked_fill(own, torch.inf)
    return distances.min(dim=1).values.clamp(max=math.sqrt(2 * latent.shape[1])).mean()


def nearest_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean distance () of each row of both sets, (N, Z) and (M, Z), to the nearest of the other."""
    distances = (first[:, None] - second[None] + DISTANCE_EPSILON).norm(dim=2)
    return 0.5 * (distances.min(dim=0).values.mean() + distances.min(dim=1).values.mean())


class SpaceFusion(ExtendedVae):
    """A sentence VAE with a second way into its latent space, from the context of a dialog.

    Args:
        vae: the model; it is trained further.
        num_context_layers: layers of BERT, from the last, of which the context has its own copy.
        num_frozen_layers: layers of BERT, from the first, that are not trained.
        include_self: see ``push_distance``.
        mask_padding: False restores the authors' mask in the copied layers, which adds 1 to the
            scores of tokens and 0 to those of padding.
        speaker_rule: see ``speaker_ids``.
    """

    NAME = "spacefusion"
    SETTINGS = (
        *("num_context_layers", "num_frozen_layers", "sep_id", "include_self", "mask_padding"),
        "speaker_rule",
    )

    def __init__(
        self,
        vae: OptimusModel,
        num_context_layers: int = 2,
        num_frozen_layers: int = 10,
        *,
        sep_id: int = 102,
        include_self: bool = False,
        mask_padding: bool = True,
        speaker_rule: Literal["row", "last-row"] = "row",
    ) -> None:
        super().__init__(vae)
        if vae.encoder is None:
            raise ValueError('dialog needs a sentence VAE; inject="none" has no encoder')
        layers = vae.encoder.network.encoder.layer
        for name, count in (("context", num_context_layers), ("frozen", num_frozen_layers)):
            if not int(name == "context") <= count <= len(layers):
                raise ValueError(
                    f"{count} {name} layers are asked for and the encoder has {len(layers)}"
                )
        self.context_layers = nn.ModuleList(
            copy.deepcopy(layer) for layer in layers[len(layers) - num_context_layers :]
        )
        for parameter in layers[:num_frozen_layers].parameters():
            parameter.requires_grad_(False)
        self.num_context_layers, self.num_frozen_layers = num_context_layers, num_frozen_layers
        self.sep_id = sep_id
        self.include_self, self.mask_padding = include_self, mask_padding
        self.speaker_rule = speaker_rule

    def context_posterior(self, context_ids: Tensor) -> Posterior:
        """q(z | context) of ``context_ids`` (B, C), [CLS] utterance [SEP] ... [SEP], padded."""
        encoder = self.vae.encoder
        assert encoder is not None
        limit = encoder.network.config.max_position_embeddings
        if context_ids.shape[1] > limit:
            raise ValueError(
                f"a context of {context_ids.shape[1]} tokens exceeds the encoder's {limit} "
                "positions; shorten it"
            )
        mask = context_ids != self.vae.config.encoder_pad_token_id
        speakers = speaker_ids(context_ids, mask, self.sep_id, self.speaker_rule)
        hidden = encoder.network.embeddings(input_ids=context_ids, token_type_ids=speakers)
        hidden_padding = (~mask)[:, None, None].to(hidden.dtype) * MASKED
        added = hidden_padding if self.mask_padding else mask[:, None, None].to(hidden.dtype)
        layers = encoder.network.encoder.layer
        for layer in layers[: len(layers) - len(self.context_layers)]:
            hidden = layer(hidden, hidden_padding)
        for layer in self.context_layers:
            hidden = layer(hidden, added)
        return encoder.posterior(encoder.network.pooler(hidden))  # type: ignore[misc]

    def forward(
        self,
        context_ids: Tensor,
        response_ids: Tensor,
        decoder_ids: Tensor,
        *,
        weight: float = 1.0,
        noise: FusionNoise | None = None,
        style: StyleSentences | None = None,
        style_weight: float = 1.0,
        targets: Tensor | None = None,
        padded: bool | None = None,
    ) -> FusionLosses:
        """Losses of B turns.

        Args:
            context_ids: (B, C) encoder side.
            response_ids: (B, S) encoder side.
            decoder_ids: (B, T) the response, BOS ... EOS.
            weight: of the regulariser (beta of the authors' script).
            noise: all random draws.
            style: sentences of a style.
            style_weight: of the style branch.
            targets: (N,) places of the decoder's targets in B (T - 1), where the host knows them.
            padded: whether ``response_ids`` have padding, where the host knows it.
        """
        responses = self.vae.encode(response_ids, padded=padded)
        contexts = self.context_posterior(context_ids)
        noise = noise or draw_noise(responses.mean)
        z_response = responses.sample(noise.eps_response)[:, 0]
        z_context = contexts.sample(noise.eps_context)[:, 0]
        share = noise.weight.to(z_response)
        between = share * z_response + (1 - share) * z_context
        between = between + INTERPOLATION_NOISE * noise.unit.to(z_response)
        latents = torch.cat([z_response, z_context, between])
        if targets is not None:
            first = torch.arange(3, device=targets.device) * decoder_ids[:, 1:].numel()
            targets = (first[:, None] + targets).flatten()
        nll = self.vae.decoder.nll(decoder_ids.repeat(3, 1), latents, targets)
        reconstruction = nll.view(3, -1).mean(dim=0)
        # Distances are of the batch of all processes: two processes of 8 see what one of 16 sees.
        every_response, every_context = gather_rows(z_response), gather_rows(z_context)
        pull = pull_distance(every_response, every_context)
        push = torch.minimum(
            push_distance(every_response, self.include_self),
            push_distance(every_context, self.include_self),
        )
        regulariser = (pull - 2 * push) / math.sqrt(z_response.shape[1])
        total = reconstruction + weight * regulariser
        styled = regulariser.new_zeros(())
        if style is not None:
            styled = self._style_loss(style, every_context, weight)
            total = total + style_weight * styled
        return FusionLosses(total, reconstruction, regulariser, pull, push, styled)

    def _style_loss(self, style: StyleSentences, every_context: Tensor, weight: float) -> Tensor:
        """Extension: reconstruct style sentences and lay them among the contexts.

        nll + weight (nearest-neighbour distance of the two sets - 2 push) / sqrt(Z), a scalar;
        style sentences have no context of their own, so neighbours replace pairs.
        """
        latent = self.vae.encode(style.encoder_ids, padded=style.padded).sample()[:, 0]
        nll = self.vae.decoder.nll(style.decoder_ids, latent, style.targets).mean()
        every = gather_rows(latent)
        distance = nearest_distance(every, every_context) - 2 * push_distance(every)
        return nll + weight * distance / math.sqrt(latent.shape[1])


def draw_noise(latent: Tensor) -> FusionNoise:
    """Noise for a batch whose latents are shaped like ``latent`` (B, Z)."""
    return FusionNoise(
        torch.randn_like(latent)[:, None],
        torch.randn_like(latent)[:, None],
        torch.rand_like(latent[:, :1]),
        torch.randn_like(latent),
    )


def towards_style(latent: Tensor, style: Tensor, degree: float, neighbours: int = 8) -> Tensor:
    """Extension: move ``latent`` (N, Z) towards the style's latents nearest to it.

    Args:
        latent: what the contexts predict.
        style: (M, Z) posterior means of style sentences.
        degree: 0 stays, 1 arrives at the mean of the neighbours.
        neighbours: how many nearest style sentences define where to go.
    """
    near = torch.cdist(latent, style).topk(min(neighbours, len(style)), largest=False).indices
    return latent + degree * (style[near].mean(dim=1) - latent)
