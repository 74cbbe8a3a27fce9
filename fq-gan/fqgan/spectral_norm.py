"""Spectral normalization (Miyato et al., ICLR 2018) with the buffers of BigGAN-PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .runtime.precision import ieee_fp32


def as_matrix(weight: Tensor) -> Tensor:
    """``weight`` as (outputs, rest) without a copy, also where it is stored channels_last.

    The order of the columns then differs, which changes no product of the matrix with its
    transpose.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        weight = weight.movedim(1, -1)
    return weight.flatten(1)


class SpectralNorm(nn.Module):
    """Mixin for layers with ``weight``: one round of power iterations per forward pass.

    Buffers: ``u{i}`` (1, outputs), the running left singular vectors, and ``sv{i}`` (1,), the
    singular values for logging. In training mode both are stored; in eval mode the iteration
    starts from the stored vector and is not kept.
    """

    weight: Tensor
    singular_vectors: int
    power_iterations: int
    sn_eps: float

    def _register(self, singular_vectors: int, power_iterations: int, eps: float) -> None:
        self.singular_vectors, self.power_iterations = singular_vectors, power_iterations
        self.sn_eps = eps
        for i in range(singular_vectors):
            self.register_buffer(f"u{i}", torch.randn(1, self.weight.shape[0]))
            self.register_buffer(f"sv{i}", torch.ones(1))

    def normalized_weight(self) -> Tensor:
        """``weight`` over its largest singular value; the gradient flows through both."""
        with torch.autocast(self.weight.device.type, enabled=False), ieee_fp32():
            matrix = as_matrix(self.weight)
            u, v = self._iterate(matrix.detach())
            sigma = (matrix @ v) @ u
            return self.weight / sigma

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """First left (outputs,) and right (columns,) singular vector after the iterations."""
        stored = [getattr(self, f"u{i}") for i in range(self.singular_vectors)]
        values = [getattr(self, f"sv{i}") for i in range(self.singular_vectors)]
        # In eval mode every round would start from the stored vector again: one is enough.
        for _ in range(self.power_iterations if self.training else 1):
            lefts: list[Tensor] = []
            rights: list[Tensor] = []
            for left, value in zip(stored, values, strict=True):
                v = F.normalize(_remove(left[0] @ matrix, rights), dim=0, eps=self.sn_eps)
                image = matrix @ v
                u = F.normalize(_remove(image, lefts), dim=0, eps=self.sn_eps)
                rights.append(v)
                lefts.append(u)
                if self.training:
                    left[0].copy_(u)
                    value[0].copy_(image @ u)
        return lefts[0], rights[0]


def _remove(vector: Tensor, earlier: list[Tensor]) -> Tensor:
    """``vector`` without its parts along ``earlier`` (Gram-Schmidt)."""
    for other in earlier:
        vector = vector - (vector @ other) / (other @ other) * other
    return vector


class SpectralConv2d(nn.Conv2d, SpectralNorm):
    """Convolution with a normalized kernel, ``same`` padding for odd kernels."""

    def __init__(self, *args: Any, vectors: int, iterations: int, eps: float, **options: Any):
        super().__init__(*args, **options)
        self._register(vectors, iterations, eps)

    def forward(self, features: Tensor) -> Tensor:
        weight = self.normalized_weight()
        return F.conv2d(features, weight, self.bias, self.stride, self.padding)


class SpectralLinear(nn.Linear, SpectralNorm):
    """Linear layer with a normalized matrix."""

    def __init__(self, *args: Any, vectors: int, iterations: int, eps: float, **options: Any):
        super().__init__(*args, **options)
        self._register(vectors, iterations, eps)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.normalized_weight(), self.bias)


class SpectralEmbedding(nn.Embedding, SpectralNorm):
    """Embedding with a normalized table."""

    def __init__(self, *args: Any, vectors: int, iterations: int, eps: float, **options: Any):
        super().__init__(*args, **options)
        self._register(vectors, iterations, eps)

    def forward(self, index: Tensor) -> Tensor:
        return F.embedding(index, self.normalized_weight())
