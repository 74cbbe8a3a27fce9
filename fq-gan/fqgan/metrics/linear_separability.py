"""Linear separability: how well a hyperplane tells attributes apart (Karras et al., CVPR 2019)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LinearSvm(NamedTuple):
    """sign(x weight + bias)."""

    weight: Tensor  # (D,)
    bias: Tensor  # ()

    def predict(self, points: Tensor) -> Tensor:
        """Side (N,), bool, of ``points`` (N, D)."""
        return points.to(self.weight.dtype) @ self.weight + self.bias > 0


class Separability(NamedTuple):
    score: float  # 2 ** (sum over attributes); lower is more separable
    conditional_entropies: Tensor  # (A,) bits


def conditional_entropy(table: Tensor) -> float:
    """H(Y | X) in bits of a joint distribution or counts (X, Y)."""
    joint = table.double() / table.double().sum()
    return entropy(joint) - entropy(joint.sum(dim=1))


def mutual_information(table: Tensor) -> float:
    """I(X; Y) in bits of a joint distribution or counts (X, Y)."""
    joint = table.double() / table.double().sum()
    return entropy(joint.sum(dim=0)) + entropy(joint.sum(dim=1)) - entropy(joint)


def entropy(table: Tensor) -> float:
    """Entropy in bits of a distribution or of counts of any shape."""
    share = table.double() / table.double().sum()
    return float(-torch.xlogy(share, share).sum() / torch.log(torch.tensor(2.0)).double())


def linear_svm(
    points: Tensor, sides: Tensor, *, penalty: float = 1.0, max_steps: int = 50
) -> LinearSvm:
    """Linear support vector machine with squared hinge loss.

    Minimizes (|w|^2 + b^2) / 2 + penalty * sum max(0, 1 - y f(x))^2, which is what the authors'
    solver approximates, by Newton's method with line search, in fp64.

    Args:
        points: (N, D).
        sides: (N,) bool.
        penalty: of the loss.
        max_steps: of Newton's method; some ten are enough.
    """
    x = torch.cat([points.double(), points.new_ones(len(points), 1).double()], dim=1)
    y = torch.where(sides, 1.0, -1.0).to(x)
    solution = x.new_zeros(x.shape[1])
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)

    def objective(candidate: Tensor) -> Tensor:
        hinge = (1 - y * (x @ candidate)).clamp(min=0)
        return candidate.square().sum() / 2 + penalty * hinge.square().sum()

    value = objective(solution)
    for _ in range(max_steps):
        margins = 1 - y * (x @ solution)
        active = margins > 0
        inside = x[active]
        gradient = solution - 2 * penalty * inside.t() @ (y[active] * margins[active])
        if float(gradient.norm()) <= 1e-9 * max(1.0, len(x) * penalty):
            break
        direction = torch.linalg.solve(identity + 2 * penalty * inside.t() @ inside, gradient)
        step = 1.0
        while step > 1e-6 and objective(solution - step * direction) > value:
            step /= 2
        solution = solution - step * direction
        before, value = value, objective(solution)
        if float(before - value) <= 1e-12 * float(value):
            break
    return LinearSvm(solution[:-1], solution[-1])


def separability(latents: Tensor, logits: Tensor, *, keep: float = 0.5) -> Separability:
    """Score of one latent space.

    Args:
        latents: (N, D), z or the style w of N images.
        logits: (N, A), what a classifier says about each of A attributes of the images.
        keep: share of the images that counts for an attribute, those it is surest of.

    Raises:
        ValueError: fewer than two images are left.
    """
    kept = int(len(latents) * keep)
    if kept < 2:
        raise ValueError(f"linear separability needs more than {len(latents)} images")
    entropies = []
    for attribute in logits.t():
        surest = attribute.abs().topk(kept).indices
        points, sides = latents[surest], attribute[surest] > 0
        predicted = linear_svm(points, sides).predict(points)
        table = torch.zeros(2, 2, dtype=torch.float64)
        for row in (0, 1):
            for column in (0, 1):
                table[row, column] = ((predicted == bool(row)) & (sides == bool(column))).sum()
        entropies.append(conditional_entropy(table))
    found = torch.tensor(entropies, dtype=torch.float64)
    return Separability(float(torch.exp2(found.sum())), found)
