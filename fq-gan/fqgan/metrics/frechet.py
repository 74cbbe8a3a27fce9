"""Frechet distance between two Gaussians (Heusel et al., NeurIPS 2017); on Inception, the FID."""

from __future__ import annotations

import torch
from torch import Tensor

from .moments import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Frechet distance |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64.

    The trace of the root is the sum of the roots of the eigenvalues of the symmetric matrix
    C_a^(1/2) C_b C_a^(1/2), so that neither a complex part nor a jitter can arise, and a singular
    covariance (fewer images than features) is no exception.
    """
    _check(a, b)
    root = _symmetric_root(a.covariance.double())
    eigenvalues = torch.linalg.eigvalsh(root @ b.covariance.double() @ root).clamp(min=0)
    spread = a.covariance.trace() + b.covariance.trace() - 2 * eigenvalues.sqrt().sum()
    return float((a.mean - b.mean).square().sum() + spread)


def newton_schulz_distance(a: Moments, b: Moments, iterations: int = 50) -> float:
    """The same with BigGAN-PyTorch's iterated root in float32, for comparison with its logs.

    It does not converge where a covariance is singular; use `frechet_distance`.
    """
    _check(a, b)
    product = (a.covariance.double() @ b.covariance.double()).float()
    root = newton_schulz_root(product, iterations)
    spread = a.covariance.trace() + b.covariance.trace() - 2 * root.trace()
    return float((a.mean - b.mean).square().sum() + spread)


def newton_schulz_root(matrix: Tensor, iterations: int = 50) -> Tensor:
    """Square root of ``matrix`` (D, D) by the coupled Newton-Schulz iteration."""
    norm = matrix.norm()
    y = matrix / norm
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    z = identity.clone()
    for _ in range(iterations):
        t = 0.5 * (3 * identity - z @ y)
        y, z = y @ t, t @ z
    return y * norm.sqrt()


def _symmetric_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _check(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"moments of {len(a.mean)} and of {len(b.mean)} features cannot be compared; "
            "take both with the same --features"
        )
    for moments in (a, b):
        if not (moments.mean.isfinite().all() and moments.covariance.isfinite().all()):
            raise ValueError("the moments hold NaN or infinity; the images they are of do too")
