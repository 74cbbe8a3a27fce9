"""A classifier on a sentence encoder: its pooled vector, dropout, one linear map (Sec. 4.4)."""

from __future__ import annotations

from inspect import signature

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel, PreTrainedModel

from .encoder import Pooling, full_mask, pool

DROPOUT = 0.1


class SentenceClassifier(nn.Module):
    """Logits of a sentence or of a pair of sentences.

    The map to the latent mean and variance is not used: the vector is the one it would read.

    Args:
        bert: the encoder of an Optimus model, or a plain BERT or other encoder.
        num_labels: C; 1 is regression.
        frozen: feature-based, the encoder is not trained; else everything is fine-tuned.
        dropout: before the linear map.
        pad_token_id: not attended to.
        pooling: how the encoder makes one vector of a sentence.
    """

    def __init__(
        self,
        bert: PreTrainedModel,
        num_labels: int,
        *,
        frozen: bool = False,
        dropout: float = DROPOUT,
        pad_token_id: int = 0,
        pooling: Pooling = "pooler",
    ) -> None:
        super().__init__()
        if num_labels < 1:
            raise ValueError(f"a classifier needs at least 1 output, got {num_labels}")
        self.bert, self.frozen, self.pad_token_id = bert, frozen, pad_token_id
        self.pooling = pooling
        accepted = "token_type_ids" in signature(bert.forward).parameters
        self._takes_segments = accepted and getattr(bert.config, "type_vocab_size", 0) > 1
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(bert.config.hidden_size, num_labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        if frozen:
            bert.requires_grad_(False)

    def features(
        self, ids: Tensor, segments: Tensor | None = None, *, padded: bool | None = None
    ) -> Tensor:
        """The pooled vectors (B, H) of ``ids`` (B, S); ``segments`` (B, S) are 0 and 1, or None.

        ``padded`` says whether ``ids`` have padding, where the host knows it; else the host waits
        for the device to learn it.
        """
        mask = (ids != self.pad_token_id).long()
        seen: Tensor | None = mask
        sdpa = self.bert.config._attn_implementation == "sdpa"
        if padded is not None and sdpa and isinstance(self.bert, BertModel):
            seen = full_mask(mask.bool(), padded)
        given = {"token_type_ids": segments} if self._takes_segments else {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            out = self.bert(input_ids=ids, attention_mask=seen, **given)
            return pool(out, mask, self.pooling)

    def forward(
        self, ids: Tensor, segments: Tensor | None = None, *, padded: bool | None = None
    ) -> Tensor:
        """Logits (B, C), or predictions (B, 1), in fp32; arguments as of ``features``."""
        return self.classify(self.features(ids, segments, padded=padded))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, C) of pooled vectors (B, H)."""
        return self.classifier(self.dropout(features)).float()


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy () in nats; of one output the mean squared error.

    ``logits`` are (B, C), ``labels`` (B,) class numbers, or numbers for regression.
    """
    if logits.shape[1] == 1:
        return F.mse_loss(logits[:, 0], labels.to(logits.dtype))
    return F.cross_entropy(logits, labels.long())
