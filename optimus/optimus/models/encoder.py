"""An encoder and the linear map that turns its vector of a sentence into a Gaussian (Sec. 3.1).

`BertEncoder` is the paper's; any other network is read by `pretrained.PretrainedEncoder`.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertModel

from ..runtime.precision import ieee_fp32

Pooling = Literal["pooler", "cls", "mean"]
"""How a sentence becomes one vector: by the network's own pooler, its first token, or the mean."""


class Posterior(NamedTuple):
    """q(z|x), a diagonal Gaussian per sentence; always fp32."""

    mean: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z) log of the variance

    def sample(self, eps: Tensor | None = None, num_samples: int = 1) -> Tensor:
        """Draw z = mean + exp(logvar / 2) * eps, differentiably (Eq. 3).

        Args:
            eps: (B, K, Z) standard normal noise; drawn here where it is None.
            num_samples: K, the draws per sentence where ``eps`` is None.

        Returns:
            (B, K, Z)
        """
        if eps is None:
            batch, latent_dim = self.mean.shape
            eps = torch.randn(
                batch, num_samples, latent_dim, dtype=self.mean.dtype, device=self.mean.device
            )
        deviation = (0.5 * self.logvar).exp()
        return self.mean[:, None] + deviation[:, None] * eps.to(self.mean)


def pool(out: Any, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector (B, H) of a network's output ``out``; ``mask`` (B, S) is not 0 at tokens."""
    if pooling == "pooler":
        return out.pooler_output
    states = out.last_hidden_state  # (B, S, H)
    if pooling == "cls":
        return states[:, 0]
    share = mask[..., None] / mask.sum(dim=1)[:, None, None]
    return (states * share.to(states)).sum(dim=1)


def full_mask(mask: Tensor | None, padded: bool) -> Tensor | None:
    """``mask`` (B, S) as BERT's attention uses it, (B, 1, S, S); None where it hides nothing."""
    if mask is None or not padded:
        return None
    batch, length = mask.shape
    return mask[:, None, None, :].expand(batch, 1, length, length)


class LatentEncoder(nn.Module, ABC):
    """Sentence -> q(z|x): what the two encoders share.

    Attributes:
        head: W_E, from the vector of a sentence to mean and logvar.
        network: the encoder itself, of transformers.
        num_positions: tokens of the longest sentence.
    """

    head: nn.Linear
    network: Any
    num_positions: int

    @abstractmethod
    def pooled(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        padded: bool | None = None,
    ) -> Tensor:
        """The vector (B, H) that the posterior is read from.

        Args:
            ids: (B, S) starting with [CLS].
            mask: (B, S), true at tokens; None attends to padding too, as the authors' metrics do.
            token_type_ids: (B, S) segment ids; None is all 0.
            padded: whether ``mask`` hides anything, where the host knows it; else the host waits
                for the device to learn it, because attention without a mask is faster.
        """

    def forward(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        padded: bool | None = None,
    ) -> Posterior:
        """q(z|x) of ``ids`` (B, S); arguments as in ``pooled``."""
        return self.posterior(self.pooled(ids, mask, token_type_ids, padded=padded))

    def posterior(self, pooled: Tensor) -> Posterior:
        """q(z|x) from ``pooled`` (B, H); the head is an fp32 island, for exp(logvar) follows."""
        with torch.autocast(pooled.device.type, enabled=False), ieee_fp32():
            bias = None if self.head.bias is None else self.head.bias.float()
            mean, logvar = nn.functional.linear(
                pooled.float(), self.head.weight.float(), bias
            ).chunk(2, dim=1)
        return Posterior(mean, logvar)

    def check_length(self, ids: Tensor) -> None:
        """Raise ``ValueError`` where ``ids`` (B, S) are more than there are positions."""
        if ids.shape[1] > self.num_positions:
            raise ValueError(
                f"a sentence of {ids.shape[1]} encoder tokens exceeds the encoder's "
                f"{self.num_positions} positions; shorten it"
            )


class BertEncoder(LatentEncoder):
    """The paper's encoder: BERT with its pooler, and W_E without a bias.

    Args:
        bert: a ``BertModel`` with its pooler; H is its width.
        latent_dim: Z.
    """

    def __init__(self, bert: BertModel, latent_dim: int) -> None:
        super().__init__()
        self.bert = bert
        self.head = nn.Linear(bert.config.hidden_size, 2 * latent_dim, bias=False)
        self.num_positions = bert.config.max_position_embeddings

    @property
    def network(self) -> BertModel:  # type: ignore[override]
        return self.bert

    def pooled(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        padded: bool | None = None,
    ) -> Tensor:
        """tanh(W h_[CLS] + b), (B, H); arguments as in `LatentEncoder`."""
        self.check_length(ids)
        if padded is not None and self.bert.config._attn_implementation == "sdpa":
            mask = full_mask(mask, padded)
        elif mask is None:
            mask = torch.ones_like(ids, dtype=torch.bool)
        return self.bert(
            input_ids=ids, attention_mask=mask, token_type_ids=token_type_ids
        ).pooler_output
