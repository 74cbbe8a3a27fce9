"""Losses against recorded ones, and regularizers against their definitions."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error
from stylegan_cases import RecordedNetworks

from fqgan.stylegan2 import step as losses

TOLERANCE = 1e-4
CASES = "stylegan/networks_losses*.npz"


@pytest.mark.golden
@pytest.mark.cases(CASES)
@pytest.mark.parametrize("name", ["loss/D_r1", "loss/Dq_r1"])
def test_r1_agrees_with_recorded_values_up_to_its_weight(case, name):
    recorded = Recorded(case)
    network = RecordedNetworks(recorded, name).discriminator(quantized="q" in name)
    images = recorded["images"].requires_grad_()
    ours = losses.squared_gradient(network(images, quantize=False).logits, images)
    theirs = recorded[name]
    # gamma is not in the file; half of it is the same factor for all images.
    assert relative_error(ours / ours.sum(), theirs / theirs.sum()) < TOLERANCE


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_path_lengths_give_the_recorded_penalty(case):
    recorded = Recorded(case)
    networks = RecordedNetworks(recorded, "G/", "loss/G_pathreg", "rand/G/")
    generator = networks.generator()
    draws = networks.draws("G")
    first = next(i for i in range(1, len(draws)) if draws[i].ndim == 2)
    latents, maps, noise = draws[first], draws[first + 1 : -1], draws[-1]
    styles = generator.training_styles(latents).contiguous()
    images = generator.synthesis(styles, [m[: len(latents)] for m in maps])
    lengths = losses.path_lengths(images, styles, noise[: len(latents)])
    mean = torch.lerp(recorded["pl_mean_before"], lengths.mean(), 0.01)
    torch.testing.assert_close(mean, recorded["loss/pl_mean_after"], rtol=TOLERANCE, atol=0)
    ours = 2.0 * (lengths - mean).square()
    assert relative_error(ours, recorded["loss/G_pathreg"]) < TOLERANCE


def test_logistic_losses_are_cross_entropies():
    real, fake = torch.randn(5), torch.randn(5)
    loss = losses.logistic_discriminator_loss(real, fake)
    torch.testing.assert_close(loss.real, -torch.log(torch.sigmoid(real)))
    torch.testing.assert_close(loss.fake, -torch.log(1 - torch.sigmoid(fake)))
    torch.testing.assert_close(
        losses.nonsaturating_generator_loss(fake), -torch.log(torch.sigmoid(fake))
    )
    torch.testing.assert_close(
        losses.saturating_generator_loss(fake), torch.log(1 - torch.sigmoid(fake))
    )


def test_wasserstein_losses_are_opposite():
    real, fake = torch.randn(5), torch.randn(5)
    loss = losses.wasserstein_discriminator_loss(real, fake)
    torch.testing.assert_close(loss.real + loss.fake, fake - real)
    torch.testing.assert_close(losses.wasserstein_generator_loss(fake), -loss.fake)


def test_the_gradient_of_a_linear_score_is_its_weight():
    weight = torch.randn(3, 4, 4)
    real, fake = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    def score(x):
        return (x * weight).sum(dim=(1, 2, 3))

    images = real.clone().requires_grad_()
    squared = losses.squared_gradient(score(images), images)
    torch.testing.assert_close(squared, weight.square().sum().expand(2))
    penalty = losses.gradient_penalty(score, real, fake)
    torch.testing.assert_close(penalty, (weight.norm() - 1).square().expand(2))


def test_path_lengths_of_a_linear_map_are_norms_of_its_transpose():
    matrix = torch.randn(12, 5)
    styles = torch.randn(2, 3, 5, requires_grad=True)
    images = (styles.sum(dim=1) @ matrix.t()).view(2, 3, 2, 2)
    noise = torch.randn(2, 3, 2, 2)
    expected = ((noise.flatten(1) / 2) @ matrix).norm(dim=1)
    torch.testing.assert_close(losses.path_lengths(images, styles, noise), expected)
