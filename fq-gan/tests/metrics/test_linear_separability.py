"""Entropies worked by hand, the hyperplane against its optimality, recorded tables."""

import numpy as np
import pytest
import torch

from fqgan.metrics.latent_space import (
    conditional_entropy,
    entropy,
    linear_svm,
    mutual_information,
    separability,
)

TOLERANCE = 1e-4


def test_entropies_worked_by_hand():
    assert entropy(torch.tensor([1.0, 1.0, 2.0])) == pytest.approx(1.5)
    independent = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert mutual_information(independent) == pytest.approx(0, abs=1e-12)
    assert conditional_entropy(independent) == pytest.approx(entropy(torch.tensor([1.0, 3.0])))
    assert conditional_entropy(torch.eye(2)) == pytest.approx(0, abs=1e-12)


def test_the_hyperplane_minimizes_its_objective():
    points = torch.randn(200, 4, dtype=torch.float64)
    sides = points[:, 0] + 0.5 * torch.randn(200) > 0.2
    found = linear_svm(points, sides)
    solution = torch.cat([found.weight, found.bias[None]]).requires_grad_()
    signs = torch.where(sides, 1.0, -1.0)
    values = points @ solution[:4] + solution[4]
    loss = solution.square().sum() / 2 + (1 - signs * values).clamp(min=0).square().sum()
    (gradient,) = torch.autograd.grad(loss, solution)
    assert gradient.abs().max() < 1e-6
    assert (found.predict(points) == sides).double().mean() > 0.8


def test_what_a_hyperplane_divides_scores_1_and_chance_scores_more():
    latents = torch.randn(400, 3)
    divided, chance = latents @ torch.tensor([1.0, -2.0, 0.5]), torch.randn(400)
    perfect = separability(latents, divided[:, None])
    assert perfect.score == pytest.approx(1, abs=1e-6)
    both = separability(latents, torch.stack([divided, chance], dim=1))
    assert both.conditional_entropies[1] > 0.8
    assert both.score == pytest.approx(2 ** float(both.conditional_entropies.sum()))


def test_only_the_surest_images_count():
    latents = torch.tensor([[-2.0], [-1.0], [1.0], [2.0], [3.0], [-3.0], [3.0], [-3.0]])
    # The four unsure ones contradict the others.
    logits = torch.tensor([-5.0, -6.0, 7.0, 8.0, -0.1, 0.2, -0.3, 0.4])[:, None]
    assert separability(latents, logits).score == pytest.approx(1, abs=1e-6)
    assert separability(latents, logits, keep=1.0).score > 1.5
    with pytest.raises(ValueError, match="needs more than 2 images"):
        separability(latents[:2], logits[:2])


@pytest.mark.golden
@pytest.mark.cases("stylegan/metrics.npz")
def test_recorded_entropies_agree(case):
    with np.load(case) as file:
        recorded = {n: torch.from_numpy(np.array(file[n])) for n in file.files if "ls/" in n}
    if "ls/p" not in recorded:
        pytest.skip("no recorded entropies")
    table = recorded["ls/p"]
    for name, function in (
        ("cond_entropy", conditional_entropy),
        ("mutual_info", mutual_information),
        ("entropy", entropy),
    ):
        assert function(table) == pytest.approx(float(recorded[f"ls/{name}"]), rel=TOLERANCE)
