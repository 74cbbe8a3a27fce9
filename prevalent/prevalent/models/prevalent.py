"""The pre-trained model: text layers, image fusion, masked-word head and action head (Sec. 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig
from .transformer import (
    CrossLayer,
    LanguageLayer,
    Packing,
    TextEmbeddings,
    VisionEncoder,
    attention_bias,
)

IGNORE = -1  # label of positions that are not predicted


class Encoded(NamedTuple):
    sequence: Tensor  # (B, T, d) text after fusion
    pooled: Tensor  # (B, d) tanh projection of the first token


class PretrainOutput(NamedTuple):
    loss: Tensor  # () sum of the two terms
    word_loss: Tensor  # () nats per masked word
    action_loss: Tensor | None  # () nats per action; None where no actions were given
    word_logits: Tensor  # (M, V) at the predicted positions, detached
    word_labels: Tensor  # (M,)
    action_log_probs: Tensor  # (B, A), detached


class Pooler(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, d) -> (B, d)."""
        return torch.tanh(self.dense(sequence[:, 0]))


class PrevalentModel(nn.Module):
    """Text encoder that attends to a panorama; the ``bert.*`` part of the released checkpoint.

    `encode_text` depends on the words alone, so an agent may keep its result for an episode and
    call `fuse` at every step.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = TextEmbeddings(config)
        self.pooler = Pooler(config)
        self.lalayer = nn.ModuleList(
            LanguageLayer(config) for _ in range(config.num_language_layers)
        )
        self.addlayer = nn.ModuleList(CrossLayer(config) for _ in range(config.num_cross_layers))
        self.vision_encoder = VisionEncoder(config)
        initialize(self, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        images: Tensor | None = None,
        word_positions: Tensor | None = None,
    ) -> Encoded:
        """Encode words that attend to views.

        Args:
            input_ids: (B, T) word pieces.
            attention_mask: (B, T), 1 = word, 0 = padding; None = all words.
            images: (B, views, D) image and angle features; None skips the fusion (text only).
            word_positions: (N,) places in B*T where the mask is 1. If given, padding is not
                computed (a third to a half of the work on R2R); its rows are then zeros.
        """
        packing = None if word_positions is None else Packing(word_positions, *input_ids.shape)
        sequence = self.encode_text(input_ids, attention_mask, packing)
        if images is not None:
            sequence = self.fuse(sequence, attention_mask, images, packing)
        if packing is not None:
            sequence = packing.unpack(sequence)
        return Encoded(sequence, self.pooler(sequence))

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """(B, T) word pieces -> (B, T, d), or (N, d) if packed, before the views are seen."""
        text = self.embeddings(input_ids, packing)
        bias = attention_bias(attention_mask, text.dtype)
        for layer in self.lalayer:
            text = layer(text, bias, packing)
        return text if self.config.update_language else text.detach()

    def fuse(
        self,
        text: Tensor,
        attention_mask: Tensor | None,
        images: Tensor,
        packing: Packing | None = None,
    ) -> Tensor:
        """``text`` (B, T, d), or (N, d), after attending to ``images`` (B, views, D).

        The image stream of the last layer reaches no output, so it is not computed; its parameters
        have no gradient, as in the authors' code.
        """
        bias = attention_bias(attention_mask, text.dtype)
        views = self.vision_encoder(images)
        for number, layer in enumerate(self.addlayer, start=1):
            needed = number < len(self.addlayer)
            text, views = layer(text, views, bias, packing, need_images=needed)
        return text if self.config.update_cross else text.detach()


class WordTransform(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(states)))


class WordPredictions(nn.Module):
    def __init__(self, config: ModelConfig, embedding: Tensor) -> None:
        super().__init__()
        self.transform = WordTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.decoder.weight = embedding  # type: ignore[assignment]  # tied
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(self.transform(states), self.decoder.weight, self.bias)


class WordHead(nn.Module):
    """Masked-word head with the word embedding as its output matrix: (M, d) -> (M, V)."""

    def __init__(self, config: ModelConfig, embedding: Tensor) -> None:
        super().__init__()
        self.predictions = WordPredictions(config, embedding)

    def forward(self, states: Tensor) -> Tensor:
        return self.predictions(states)


class ActionHead(nn.Module):
    """(B, d) -> (B, A) log-probabilities."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.num_actions)

    def forward(self, pooled: Tensor) -> Tensor:
        return F.log_softmax(self.linear(pooled).float(), dim=-1)


class PrevalentForPretraining(nn.Module):
    """`PrevalentModel` with both heads; the layout of the released ``pytorch_model.bin``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.bert = PrevalentModel(config)
        self.next_action = ActionHead(config)
        self.mlmhead = WordHead(config, self.bert.embeddings.word_embeddings.weight)
        initialize(self.next_action, config.initializer_range)
        initialize(self.mlmhead.predictions.transform, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        images: Tensor | None,
        labels: Tensor,
        actions: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        word_positions: Tensor | None = None,
        word_count: float | None = None,
    ) -> PretrainOutput:
        """Both losses, weighted 1:1, in fp32 under any autocast.

        The word head, the dearest layer, runs at ``positions`` only.

        Args:
            input_ids: (B, T) with masked words.
            attention_mask: (B, T), 1 = word, 0 = padding, or None.
            images: (B, views, D), or None for a text-only encoder.
            labels: (B, T) the words at masked positions, -1 elsewhere.
            actions: (B,) places in the candidate list, -1 = ignore; None leaves the term out.
            positions: (M,) flat indices into B*T; by default those with a label. Passing them
                avoids a synchronisation with the GPU.
            word_positions: (N,) flat places of all words, see `PrevalentModel`.
            word_count: what the sum over words is divided by; by default the number of labels.
        """
        encoded = self.bert(input_ids, attention_mask, images, word_positions)
        if positions is None:
            positions = (labels.flatten() != IGNORE).nonzero().squeeze(1)
        word_labels = labels.flatten()[positions]
        word_logits = self.mlmhead(encoded.sequence.flatten(0, 1)[positions])
        word_loss = mean_cross_entropy(word_logits, word_labels, word_count)
        action_log_probs = self.next_action(encoded.pooled)
        loss, action_loss = word_loss, None
        if actions is not None:
            action_loss = mean_cross_entropy(action_log_probs, actions)
            loss = loss + action_loss
        # Predictions are for looking at: a graph through them would make DistributedDataParallel
        # wait for gradients that a run without the action loss never computes.
        return PretrainOutput(
            loss,
            word_loss,
            action_loss,
            word_logits.detach(),
            word_labels,
            action_log_probs.detach(),
        )


def mean_cross_entropy(logits: Tensor, labels: Tensor, count: float | None = None) -> Tensor:
    """Mean over the labels that are not -1, in nats; 0 (not NaN) where there are none.

    ``count`` replaces the divisor. Log-probabilities are allowed for ``logits``: the softmax of
    normalized values is the identity.
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
    return total / ((labels != IGNORE).sum().clamp(min=1) if count is None else max(count, 1))


def initialize(module: nn.Module, std: float) -> None:
    """Normal weights, zero biases, identity LayerNorms (the start of the released run)."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
