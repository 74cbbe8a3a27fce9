"""KID against direct sums."""

import statistics

import pytest
import torch

from fqgan.metrics.distances import kernel_distance, polynomial_mmd


def by_loops(x, y):
    def cubic(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    same_x = sum(cubic(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    same_y = sum(cubic(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    between = sum(cubic(a, b) for a in x for b in y)
    return same_x / (n * (n - 1)) + same_y / (m * (m - 1)) - 2 * between / (n * m)


def test_the_estimate_equals_direct_sums():
    x, y = torch.randn(7, 4).double(), torch.randn(5, 4).double() + 0.5
    assert float(polynomial_mmd(x, y)) == pytest.approx(by_loops(x, y), rel=1e-10)


def test_one_full_subset_is_the_whole_estimate():
    x, y = torch.randn(6, 3), torch.randn(6, 3) + 1
    found = kernel_distance(x, y, subset_size=1000, subsets=3)
    assert found.mean == pytest.approx(float(polynomial_mmd(x, y)), rel=1e-9)
    assert found.std == pytest.approx(0, abs=1e-9)


def test_subsets_are_estimated_one_by_one():
    x, y = torch.randn(40, 4), torch.randn(30, 4)
    generator = torch.Generator().manual_seed(7)
    values = []
    for _ in range(6):
        i = torch.randperm(40, generator=generator)[:10]
        j = torch.randperm(30, generator=generator)[:10]
        values.append(by_loops(x[i].double(), y[j].double()))
    found = kernel_distance(x, y, subset_size=10, subsets=6, seed=7)
    assert found.mean == pytest.approx(statistics.mean(values), rel=1e-9)
    assert found.std == pytest.approx(statistics.pstdev(values), rel=1e-9)


def test_the_estimate_of_equal_distributions_has_mean_zero():
    torch.manual_seed(0)
    values = torch.stack([polynomial_mmd(*torch.randn(2, 20, 4)) for _ in range(400)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 20
    assert float(values.min()) < 0


def test_a_seed_repeats_the_draws_and_a_shift_is_seen():
    x, y = torch.randn(50, 4), torch.randn(50, 4)
    options = {"subset_size": 20, "subsets": 10}
    assert kernel_distance(x, y, seed=1, **options) == kernel_distance(x, y, seed=1, **options)
    assert kernel_distance(x, y + 2, **options).mean > 10 * kernel_distance(x, y, **options).mean


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 2 images of each kind, got 1 and 5"):
        kernel_distance(torch.randn(1, 3), torch.randn(5, 3))
