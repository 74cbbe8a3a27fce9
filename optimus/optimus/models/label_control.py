"""Sentences with a chosen label: CARA (Li et al., EMNLP 2020, Sec. 4.3).

z holds what a sentence says apart from its label; the label's embedding is added to it. Three small
networks work on z: a classifier whose failure removes the label from z, and a generator and a
discriminator (a GAN in latent space) that make z for conditional generation. A text classifier
reads the decoder's token embeddings.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .decoder import LatentDecoder
from .vae import ExtendedVae, OptimusModel

KERNEL = 3  # words that the text classifier sees at once
Adversary = Literal["reverse", "confusion"]
Phase = Literal["model", "critics", "all"]


class ControlLosses(NamedTuple):
    """Losses of a batch; those that a phase leaves out are 0."""

    reconstruction: Tensor  # (B,) nats given z and the true label
    encoder: Tensor  # () how well the latent classifier still reads the label from z, to be lowered
    classifier: Tensor  # () cross-entropy of the latent classifier (lsc)
    discriminator: Tensor  # () of D: made z against real z (lsd)
    generator: Tensor  # () of G: made z shall pass for real (lsg)
    text: Tensor  # () cross-entropy of the text classifier (cls)
    soft: Tensor  # () of the text classifier on softly drawn sentences with another label


class LabelControl(ExtendedVae):
    """A sentence VAE's two networks with a label between them.

    Args:
        vae: the model; its encoder's posterior head is not used.
        num_labels: C; two labels have one logit, as in the authors' code.
        hidden: width of a hidden layer in the latent classifier and discriminator; 0 is none, as in
            the authors' code.
        train_zero_label: False restores the authors' embedding of label 0, a constant zero.
        mask_padding: False restores the authors' text classifier, which also reads padding.
        noise: standard deviation of what is added to z in training; 0 in the authors' code.
    """

    NAME = "label_control"
    SETTINGS = ("num_labels", "hidden", "train_zero_label", "mask_padding", "noise")

    def __init__(
        self,
        vae: OptimusModel,
        num_labels: int = 2,
        *,
        hidden: int = 0,
        train_zero_label: bool = True,
        mask_padding: bool = True,
        noise: float = 0.0,
    ) -> None:
        super().__init__(vae)
        if vae.encoder is None:
            raise ValueError('label control needs a sentence VAE; inject="none" has no encoder')
        if num_labels < 2:
            raise ValueError(f"label control needs at least 2 labels, got {num_labels}")
        self.num_labels, self.hidden = num_labels, hidden
        self.train_zero_label, self.mask_padding = train_zero_label, mask_padding
        self.noise = noise
        latent, logits = vae.config.latent_dim, 1 if num_labels == 2 else num_labels
        posterior = vae.encoder.head
        self.latent_head = nn.Linear(posterior.in_features, latent, bias=posterior.bias is not None)
        embedding = vae.decoder.network.get_input_embeddings().embedding_dim
        self.generator = nn.Linear(latent, latent)
        self.discriminator = _head(latent, 1, hidden)
        self.classifier = _head(latent, logits, hidden)
        self.label_embedding = nn.Embedding(
            num_labels, latent, padding_idx=None if train_zero_label else 0
        )
        self.convolution = nn.Conv1d(embedding, embedding, KERNEL)
        self.text_head = nn.Linear(embedding, logits)

    def encode(self, encoder_ids: Tensor, *, padded: bool | None = None) -> Tensor:
        """z (B, Z) of ``encoder_ids`` (B, S), right-padded; ``padded`` as of the encoder."""
        encoder = self.vae.encoder
        assert encoder is not None
        mask = encoder_ids != self.vae.config.encoder_pad_token_id
        return self.latent_head(encoder.pooled(encoder_ids, mask, padded=padded)).float()

    @torch.no_grad()
    def start_from_posterior(self) -> None:
        """Begin with what the VAE's decoder knows: posterior means, and the prior where z is made.

        The label vectors begin with a mean of 0, so that what the decoder is given lies around its
        prior.
        """
        assert self.vae.encoder is not None
        head = self.vae.encoder.head
        self.latent_head.weight.copy_(head.weight.chunk(2)[0])
        if head.bias is not None:
            self.latent_head.bias.copy_(head.bias.chunk(2)[0])
        self.label_embedding.weight -= self.label_embedding.weight.mean(dim=0)
        nn.init.eye_(self.generator.weight)
        nn.init.zeros_(self.generator.bias)

    def condition(self, latent: Tensor, labels: Tensor) -> Tensor:
        """What the decoder is given, (B, Z), for ``latent`` (B, Z) and ``labels`` (B,)."""
        return latent + self.label_embedding(labels)

    def make_latent(self, noise: Tensor) -> Tensor:
        """G: ``noise`` (B, Z) from N(0, I) -> z (B, Z)."""
        return self.generator(noise)

    def classify_text(self, decoder_ids: Tensor) -> Tensor:
        """Logits of the text classifier, (B, 1) for two labels, else (B, C).

        ``decoder_ids`` (B, T) are <BOS> ... <EOS>; positions whose window touches padding do not
        count, unless the sentence is shorter than a window.
        """
        ids = decoder_ids
        pad = self.vae.config.pad_token_id
        if ids.shape[1] < KERNEL:
            ids = F.pad(ids, (0, KERNEL - ids.shape[1]), value=pad)
        # Deviation: the embeddings are the decoder's, not a second parameter that shares its
        # storage; this classifier reads them and does not train them.
        embedded = self.vae.decoder.embed(ids).detach()
        return self._classify_embedded(embedded, (ids != pad).sum(dim=1))

    def _classify_embedded(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """``classify_text`` of embeddings (B, T, H), of which the first ``lengths`` (B,) count."""
        features = self.convolution(embedded.mT)  # (B, H, T - 2)
        if not self.mask_padding:
            return self.text_head(features.mean(dim=2))
        windows = (lengths - KERNEL + 1).clamp(min=1)
        valid = torch.arange(features.shape[2], device=lengths.device) < windows[:, None]
        pooled = (features * valid[:, None]).sum(dim=2) / windows[:, None]
        return self.text_head(pooled)

    def predict_text(self, decoder_ids: Tensor) -> Tensor:
        """Labels (B,) by the text classifier."""
        return decide(self.classify_text(decoder_ids))

    def forward(
        self,
        encoder_ids: Tensor,
        decoder_ids: Tensor,
        labels: Tensor,
        *,
        phase: Phase = "all",
        noise: Tensor | None = None,
        adversary: Adversary = "reverse",
        soft_temperature: float = 0.0,
        targets: Tensor | None = None,
        padded: bool | None = None,
    ) -> ControlLosses:
        """Losses of B sentences with ``labels`` (B,).

        Args:
            encoder_ids, decoder_ids: (B, S) and (B, T).
            labels: class numbers.
            phase: ``model`` are the terms of encoder, decoder, embeddings and generator against
                fixed critics; ``critics`` those of discriminator and classifiers on fixed z;
                ``all`` every term of one graph, as the authors compute them.
            noise: (B, Z) input of the generator; drawn where None.
            adversary: ``reverse`` is 1 - cross-entropy (the authors'), ``confusion`` the
                cross-entropy towards equal probabilities, which has a minimum.
            soft_temperature: of the sentences that the term ``soft`` draws; 0 leaves it out.
            targets: (N,) places of the decoder's targets in B (T - 1), where the host knows them.
            padded: whether ``encoder_ids`` have padding, where the host knows it.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and phase != "critics"):
            latent = self.encode(encoder_ids, padded=padded)
        noise = torch.randn_like(latent) if noise is None else noise.to(latent)
        made = self.make_latent(noise)
        zero = latent.new_zeros(())
        if phase == "critics":
            losses = self._critic_losses(latent, made.detach(), decoder_ids, labels)
            return ControlLosses(zero.expand(len(labels)), zero, *losses[:2], zero, losses[2], zero)
        given = latent
        if self.noise and self.training:
            given = latent + self.noise * torch.randn_like(latent)
        reconstruction = self.vae.decoder.nll(decoder_ids, self.condition(given, labels), targets)
        encoder = adversarial_loss(self.classifier(latent), labels, adversary)
        verdict = self.discriminator(made)
        generator = F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))
        soft = zero
        if soft_temperature:
            soft = self._soft_loss(latent, labels, decoder_ids.shape[1], soft_temperature)
        if phase == "model":
            return ControlLosses(reconstruction, encoder, zero, zero, generator, zero, soft)
        losses = self._critic_losses(latent, made, decoder_ids, labels)
        return ControlLosses(reconstruction, encoder, *losses[:2], generator, losses[2], soft)

    def _soft_loss(
        self, latent: Tensor, labels: Tensor, num_tokens: int, temperature: float
    ) -> Tensor:
        """Of the text classifier on sentences with another label, drawn with gradients."""
        config = self.vae.config
        wanted = (labels + torch.randint_like(labels, 1, self.num_labels)) % self.num_labels
        drawn = draw_softly(
            self.vae.decoder,
            self.condition(latent, wanted),
            (config.bos_token_id, config.eos_token_id),
            num_tokens=max(num_tokens, KERNEL),
            temperature=temperature,
        )
        return label_loss(self._classify_embedded(*drawn), wanted)

    def _critic_losses(
        self, latent: Tensor, made: Tensor, decoder_ids: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the latent classifier, the discriminator and the text classifier."""
        real, false = self.discriminator(latent), self.discriminator(made)
        discriminator = F.binary_cross_entropy_with_logits(false, torch.zeros_like(false))
        discriminator = discriminator + F.binary_cross_entropy_with_logits(
            real, torch.ones_like(real)
        )
        classifier = label_loss(self.classifier(latent), labels)
        return classifier, discriminator, label_loss(self.classify_text(decoder_ids), labels)

    def critics(self) -> list[nn.Parameter]:
        """Parameters that the phase ``critics`` trains."""
        parts = (self.discriminator, self.classifier, self.convolution, self.text_head)
        return [parameter for part in parts for parameter in part.parameters()]


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy () of ``logits`` (B, 1) for two labels or (B, C), in nats."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def adversarial_loss(logits: Tensor, labels: Tensor, adversary: Adversary) -> Tensor:
    """What the encoder lowers so that ``logits`` (B, 1 or C) of the classifier say little."""
    if adversary == "reverse":
        return 1 - label_loss(logits, labels)
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.5))
    return F.cross_entropy(logits, torch.full_like(logits, 1 / logits.shape[1]))


def decide(logits: Tensor) -> Tensor:
    """Labels (B,) of ``logits`` (B, 1) for two labels or (B, C)."""
    return (logits[:, 0] >= 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def _head(inputs: int, outputs: int, hidden: int) -> nn.Module:
    if not hidden:
        return nn.Linear(inputs, outputs)
    layers = nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, outputs)
    return nn.Sequential(*layers)


class SoftSentences(NamedTuple):
    """B sentences of T positions, the first of which is <BOS>."""

    embedded: Tensor  # (B, T, H) means of token embeddings, weighted by the draws
    lengths: Tensor  # (B,) positions up to the first that is mostly <EOS>, that one included


def draw_softly(
    decoder: LatentDecoder,
    latent: Tensor,
    ends: tuple[int, int],
    *,
    num_tokens: int,
    temperature: float = 0.5,
) -> SoftSentences:
    """Draw a sentence for each row of ``latent`` (B, Z), differentiable in ``latent``.

    The embeddings themselves get no gradient. Memory grows with B x ``num_tokens`` x V.

    Args:
        decoder: z -> sentence, without gradient checkpointing, which drops the tokens so far.
        latent: sentence vectors.
        ends: ids of <BOS> and <EOS>.
        num_tokens: T, <BOS> counted.
        temperature: of the Gumbel-softmax; towards 0 it draws single tokens.
    """
    if decoder.checkpointing and decoder.training:
        raise ValueError("soft sampling needs a decoder without gradient checkpointing")
    bos, eos = ends
    every = torch.arange(len(decoder.head_weight), device=latent.device)
    table = decoder.embed(every).detach()  # (V, H)
    state = decoder.start(latent)
    rows = [table[bos].expand(len(latent), 1, -1)]
    lengths = torch.ones(len(latent), dtype=torch.long, device=latent.device)
    going = torch.ones_like(lengths, dtype=torch.bool)
    for _ in range(1, num_tokens):
        logits = decoder.head(decoder.advance_embedded(state, rows[-1])[:, -1])
        share = F.gumbel_softmax(logits.float(), tau=temperature)  # (B, V)
        rows.append((share.to(table.dtype) @ table)[:, None])
        lengths = lengths + going
        going = going & (share.argmax(dim=1) != eos)
    return SoftSentences(torch.cat(rows, dim=1), lengths)
