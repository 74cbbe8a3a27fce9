"""Spectral normalization (Miyato et al., ICLR 2018) with the buffers of BigGAN-PyTorch.

A network makes the normalized weights of all its layers first, on a GPU those of one shape
together: power iterations are many small kernels, and would be half of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    u0: Tensor
    sv0: Tensor
    singular_vectors: int
    power_iterations: int
    sn_eps: float
    ready: Tensor | None = None  # the normalized weight inside of `normalized_weights`

    def _register(self, singular_vectors: int, power_iterations: int, eps: float) -> None:
        self.singular_vectors, self.power_iterations = singular_vectors, power_iterations
        self.sn_eps = eps
        for i in range(singular_vectors):
            self.register_buffer(f"u{i}", torch.randn(1, self.weight.shape[0]))
            self.register_buffer(f"sv{i}", torch.ones(1))

    def normalized_weight(self) -> Tensor:
        """``weight`` over its largest singular value; the gradient flows through both."""
        if self.ready is not None:
            return self.ready
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


@contextmanager
def normalized_weights(network: nn.Module, *, together: bool | None = None) -> Iterator[None]:
    """One round of power iterations for all layers of ``network``, which use its weights inside.

    Args:
        network: its layers are run at most once inside.
        together: whether layers of one shape are stacked, which changes the last bits; by default
            on a CUDA device.
    """
    layers = [one for one in network.modules() if isinstance(one, SpectralNorm)]
    if together is None:
        together = bool(layers) and layers[0].weight.is_cuda
    groups: dict[Any, list[SpectralNorm]] = {}
    for number, layer in enumerate(layers):
        groups.setdefault(_form(layer) if together else number, []).append(layer)
    try:
        for group in groups.values():
            alone = len(group) == 1 or group[0].singular_vectors > 1
            weights = [one.normalized_weight() for one in group] if alone else _stacked(group)
            for layer, weight in zip(group, weights, strict=True):
                layer.ready = weight
        yield
    finally:
        for layer in layers:
            layer.ready = None


def _form(layer: SpectralNorm) -> tuple[Any, ...]:
    """What layers that are stacked have in common."""
    weight, own = layer.weight, (layer.power_iterations, layer.singular_vectors, layer.sn_eps)
    return (weight.shape, weight.is_contiguous(), weight.requires_grad, layer.training, *own)


def _stacked(layers: list[SpectralNorm]) -> list[Tensor]:
    """What `SpectralNorm.normalized_weight` gives each of ``layers``, with one singular vector."""
    first = layers[0]
    with torch.autocast(first.weight.device.type, enabled=False), ieee_fp32():
        matrices = torch.stack([as_matrix(one.weight) for one in layers])  # (N, outputs, rest)
        with torch.no_grad():
            u = torch.cat([one.u0 for one in layers]).unsqueeze(2)  # (N, outputs, 1)
            for _ in range(first.power_iterations if first.training else 1):
                v = F.normalize(matrices.mT @ u, dim=1, eps=first.sn_eps)  # (N, rest, 1)
                image = matrices @ v
                u = F.normalize(image, dim=1, eps=first.sn_eps)
            if first.training:
                torch._foreach_copy_([one.u0 for one in layers], list(u.mT.unbind()))
                values = (image * u).sum(dim=1)  # (N, 1)
                torch._foreach_copy_([one.sv0 for one in layers], list(values.unbind()))
        sigma = ((matrices @ v) * u).sum(dim=1, keepdim=True)
        normalized = (matrices / sigma).unbind()
        return [
            _as_weight(one, layer.weight) for one, layer in zip(normalized, layers, strict=True)
        ]


def _as_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    """``matrix`` (outputs, rest), as `as_matrix` makes it, in shape and layout of ``weight``."""
    if weight.ndim == 4 and not weight.is_contiguous():
        _, inputs, height, width = weight.shape
        return matrix.unflatten(1, (height, width, inputs)).movedim(-1, 1)
    return matrix.view(weight.shape)


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
