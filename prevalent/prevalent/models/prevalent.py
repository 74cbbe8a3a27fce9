"""The pre-trained model: text layers, image fusion, masked-word head and action head (Sec. 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig

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


MASKED_SCORE = -10000.0  # the authors' bias on padding; exp() of it is 0 in every precision


def attention_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Turn ``mask`` (B, T), 1 = word and 0 = padding, into a bias (B, 1, 1, T) on the scores."""
    if mask is None:
        return None
    return ((1.0 - mask.to(dtype)) * MASKED_SCORE)[:, None, None, :]


class Packing(NamedTuple):
    """Texts without their padding: the words of a batch, one after the other, are (N, d).

    Everything but attention works on single words, so padding need not be computed. The result at
    the words is the same.
    """

    positions: Tensor  # (N,) places of the words in B*T, ascending
    batch: int  # B
    length: int  # T

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...)."""
        # Its gradient is one `index_add`; that of plain indexing sorts the positions first.
        return padded.flatten(0, 1).index_select(0, self.positions)

    def unpack(self, packed: Tensor) -> Tensor:
        """(N, d) -> (B, T, d), zeros at the padding."""
        padded = packed.new_zeros(self.batch * self.length, packed.shape[1])
        return padded.index_copy(0, self.positions, packed).view(self.batch, self.length, -1)


class TextEmbeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalized."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_positions, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, packing: Packing | None = None) -> Tensor:
        """(B, T) ids -> (B, T, d), or (N, d) if packed; every token has type 0."""
        if packing is None:
            positions = self.position_embeddings.weight[: input_ids.shape[1]]  # (T, d)
        else:
            input_ids = packing.pack(input_ids)
            positions = self.position_embeddings(packing.positions % packing.length)
        words = self.word_embeddings(input_ids)
        return self.dropout(
            self.LayerNorm(words + positions + self.token_type_embeddings.weight[0])
        )


def cast_once(states: Tensor) -> Tensor:
    """``states`` in the type in which autocast computes products; without autocast as they are.

    Autocast keeps what it made of a weight, but casts other tensors again for every product.
    """
    kind = states.device.type
    return states.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else states


class Attention(nn.Module):
    """Multi-head attention of queries over a memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = config.attention_dropout

    def _split(self, states: Tensor, packing: Packing | None) -> Tensor:
        if packing is not None and states.dim() == 2:
            states = packing.unpack(states)
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, d/heads)

    def forward(
        self,
        states: Tensor,
        memory: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """``states`` (B, T, d) attend to ``memory`` (B, S, d); ``bias`` is (B, 1, 1, S) or None.

        Either may be packed, (N, d); the result has the shape of ``states``.
        """
        shared = cast_once(memory)
        query, key, value = (
            self._split(projection(source), packing)
            for projection, source in (
                (self.query, shared if states is memory else states),
                (self.key, shared),
                (self.value, shared),
            )
        )
        if bias is not None:
            bias = bias.to(query.dtype)
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0
        )
        attended = attended.transpose(1, 2).flatten(2)
        return packing.pack(attended) if packing is not None and states.dim() == 2 else attended


class ResidualOutput(nn.Module):
    """Project back to d, drop out, add the residual, normalize."""

    def __init__(self, config: ModelConfig, input_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(states)) + residual)


class SelfAttention(nn.Module):
    """Attention of a sequence over itself, with its residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self = Attention(config)
        self.output = ResidualOutput(config, config.hidden_size)

    def forward(
        self, states: Tensor, bias: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        return self.output(self.self(states, states, bias, packing), states)


class CrossAttention(nn.Module):
    """Attention of one stream over the other, with its residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.att = Attention(config)
        self.output = ResidualOutput(config, config.hidden_size)

    def forward(
        self,
        states: Tensor,
        memory: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        return self.output(self.att(states, memory, bias, packing), states)


class Intermediate(nn.Module):
    """First half of a feed-forward layer: widen, exact GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, states: Tensor) -> Tensor:
        return F.gelu(self.dense(states))


class LanguageLayer(nn.Module):
    """A BERT layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config, config.intermediate_size)

    def forward(
        self, text: Tensor, bias: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        """(B, T, d) or packed (N, d) to the same shape; ``bias`` from `attention_bias`."""
        text = self.attention(text, bias, packing)
        return self.output(self.intermediate(text), text)


class CrossLayer(nn.Module):
    """Cross attention both ways with shared weights, then a layer of its own for each stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual_attention = CrossAttention(config)
        self.lang_self_att = SelfAttention(config)
        self.visn_self_att = SelfAttention(config)
        self.lang_inter = Intermediate(config)
        self.lang_output = ResidualOutput(config, config.intermediate_size)
        self.visn_inter = Intermediate(config)
        self.visn_output = ResidualOutput(config, config.intermediate_size)

    def fuse_text(
        self,
        text: Tensor,
        images: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
        image_bias: Tensor | None = None,
    ) -> Tensor:
        """Text stream (B, T, d), or (N, d), after looking at ``images`` (B, 36, d).

        ``image_bias`` (B, 1, 1, 36) hides some of them.
        """
        text = self.visual_attention(text, images, image_bias, packing)
        text = self.lang_self_att(text, bias, packing)
        return self.lang_output(self.lang_inter(text), text)

    def fuse_images(
        self,
        images: Tensor,
        text: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
        image_bias: Tensor | None = None,
    ) -> Tensor:
        """Image stream (B, 36, d) after looking at ``text``; ``bias`` masks the padding.

        ``image_bias`` (B, 1 or heads, 1 or 36, 36) is added to the scores among the images.
        """
        images = self.visual_attention(images, text, bias, packing)
        images = self.visn_self_att(images, image_bias)
        return self.visn_output(self.visn_inter(images), images)

    def forward(
        self,
        text: Tensor,
        images: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
        *,
        need_images: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Both streams, each from the layer's inputs; returns (text, images or None)."""
        fused = self.fuse_text(text, images, bias, packing)
        return fused, self.fuse_images(images, text, bias, packing) if need_images else None


class VisionEncoder(nn.Module):
    """Linear projection of each view; there is no position and no mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visn_fc = nn.Linear(config.image_dim, config.hidden_size)
        self.visn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 36, D) -> (B, 36, d)."""
        return self.dropout(self.visn_layer_norm(self.visn_fc(images)))
