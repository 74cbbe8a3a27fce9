"""Kernel Inception distance (Binkowski et al., ICLR 2018): an unbiased squared MMD."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class KernelDistance(NamedTuple):
    """KID over subsets; papers print both times 100 (U-GAT-IT) or 1000."""

    mean: float
    std: float  # over the subsets


def polynomial_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared MMD of ``x`` (N, D) and ``y`` (M, D) with the kernel (x.y / D + 1)^3: ().

    It can be negative.
    """
    every_x = torch.ones(1, len(x), dtype=torch.float64)
    every_y = torch.ones(1, len(y), dtype=torch.float64)
    return _estimates(x.double(), y.double(), every_x, every_y)[0]


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
    generator = torch.Generator().manual_seed(seed)
    chosen_x = torch.zeros(subsets, len(x), dtype=torch.float64)
    chosen_y = torch.zeros(subsets, len(y), dtype=torch.float64)
    for row in range(subsets):
        chosen_x[row, torch.randperm(len(x), generator=generator)[:size]] = 1
        chosen_y[row, torch.randperm(len(y), generator=generator)[:size]] = 1
    values = _estimates(x.double(), y.double(), chosen_x, chosen_y)
    return KernelDistance(float(values.mean()), float(values.std(correction=0)))


def _estimates(x: Tensor, y: Tensor, chosen_x: Tensor, chosen_y: Tensor) -> Tensor:
    """The unbiased estimate of each of S subsets, given as 0/1 masks (S, N) and (S, M): (S,)."""
    n, m = chosen_x.sum(1), chosen_y.sum(1)
    # A vector paired with itself would bias the estimate: the diagonals are taken out.
    diagonal_x, diagonal_y = (_cubed((v * v).sum(1) / v.shape[1]) for v in (x, y))
    x_term = _sums(x, x, chosen_x, chosen_x) - chosen_x @ diagonal_x
    y_term = _sums(y, y, chosen_y, chosen_y) - chosen_y @ diagonal_y
    between = _sums(x, y, chosen_x, chosen_y) / (n * m)
    return x_term / (n * (n - 1)) + y_term / (m * (m - 1)) - 2 * between


def _sums(x: Tensor, y: Tensor, chosen_x: Tensor, chosen_y: Tensor, chunk: int = 2048) -> Tensor:
    """Sum of the kernel over the chosen pairs: (S,); each kernel entry is computed once."""
    total = torch.zeros(len(chosen_x), dtype=torch.float64)
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        kernel = _cubed(x[part] @ y.T / x.shape[1])  # (chunk, M)
        total += ((chosen_x[:, part] @ kernel) * chosen_y).sum(1)
    return total


def _cubed(products: Tensor) -> Tensor:
    return (products + 1) ** 3
