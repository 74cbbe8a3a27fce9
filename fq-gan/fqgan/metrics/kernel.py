"""Kernel Inception distance (Binkowski et al., ICLR 2018): an unbiased squared MMD."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class KernelDistance(NamedTuple):
    """KID over subsets; papers print both times 100 (U-GAT-IT) or 1000."""

    mean: float
    std: float  # over the subsets


WHOLE_KERNEL = 4000 * 4000
"""Up to so many pairs, one kernel matrix serves all subsets."""


def polynomial_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared MMD of ``x`` (N, D) and ``y`` (M, D) with the kernel (x.y / D + 1)^3: ().

    It can be negative.
    """
    x, y = x.double(), y.double()
    return _estimate(_kernel(x, x), _kernel(y, y), _kernel(x, y))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _estimate(within_x: Tensor, within_y: Tensor, between: Tensor) -> Tensor:
    n, m = between.shape
    # A vector paired with itself would bias the estimate: the diagonals are left out.
    x_term = (within_x.sum() - within_x.trace()) / (n * (n - 1))
    y_term = (within_y.sum() - within_y.trace()) / (m * (m - 1))
    return x_term + y_term - 2 * between.mean()


def kernel_distance(
    x: Tensor, y: Tensor, *, subset_size: int = 1000, subsets: int = 100, seed: int = 0
) -> KernelDistance:
    """KID of ``x`` (N, D) and ``y`` (M, D), averaged over random subsets.

    Args:
        x: features of the real images.
        y: features of the generated images.
        subset_size: images of each kind in a subset, drawn without replacement; at most N and M.
        subsets: number of subsets.
        seed: of the draws.
    """
    size = min(subset_size, len(x), len(y))
    if size < 2 or subsets < 1:
        raise ValueError(
            f"KID needs at least 2 images of each kind, got {len(x)} and {len(y)}, and a subset"
        )
    if size == len(x) == len(y):
        subsets = 1  # all of them would be the same set
    x, y = x.double(), y.double()
    few = len(x) * len(x) <= WHOLE_KERNEL and len(y) * len(y) <= WHOLE_KERNEL
    whole = (_kernel(x, x), _kernel(y, y), _kernel(x, y)) if few else None
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        i = torch.randperm(len(x), generator=generator)[:size]
        j = torch.randperm(len(y), generator=generator)[:size]
        if whole is None:
            values.append(polynomial_mmd(x[i], y[j]))
        else:
            parts = (whole[0][i][:, i], whole[1][j][:, j], whole[2][i][:, j])
            values.append(_estimate(*parts))
    stacked = torch.stack(values)
    return KernelDistance(float(stacked.mean()), float(stacked.std(correction=0)))
