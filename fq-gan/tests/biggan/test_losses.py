"""Adversarial losses and orthogonal regularization."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error

from fqgan.biggan.step import (
    add_orthogonal_gradient,
    dcgan_discriminator_loss,
    dcgan_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/losses.npz")
def test_recorded_losses_are_reproduced(case):
    recorded = Recorded(case)
    real, fake = recorded["real"].flatten(), recorded["fake"].flatten()
    hinge = torch.stack(hinge_discriminator_loss(real, fake))
    dcgan = torch.stack(dcgan_discriminator_loss(real, fake))
    assert relative_error(hinge, recorded["hinge_dis"]) < 1e-6
    assert relative_error(dcgan, recorded["dcgan_dis"]) < 1e-6
    assert relative_error(hinge_generator_loss(fake), recorded["hinge_gen"]) < 1e-6
    assert relative_error(dcgan_generator_loss(fake), recorded["dcgan_gen"]) < 1e-6


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/ortho.npz")
def test_recorded_orthogonal_gradients_are_reproduced(case):
    recorded = Recorded(case)
    start = 0.25  # every gradient of the recording
    kinds = {tuple(n.split("/")[:2]) for n in recorded.names if "/grad/" in n}
    assert kinds
    for variant, strength in kinds:
        for name, theirs in recorded.state(f"{variant}/{strength}/grad").items():
            parameter = torch.nn.Parameter(recorded[f"p/{name}"])
            parameter.grad = torch.full_like(parameter, start)
            add_orthogonal_gradient([parameter], float(strength), variant)
            assert relative_error(parameter.grad, theirs) < 1e-5


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 2, 3, 3)])
@pytest.mark.parametrize("variant", ["modified", "default"])
def test_the_gradient_is_that_of_the_penalty(shape, variant):
    parameter = torch.nn.Parameter(torch.randn(shape, dtype=torch.double))
    matrix = parameter.flatten(1)
    gram, identity = matrix @ matrix.t(), torch.eye(shape[0], dtype=torch.double)
    off = gram * (1 - identity) if variant == "modified" else gram - identity
    (off.square().sum() / 2).backward()
    expected = 0.1 * parameter.grad
    parameter.grad = torch.zeros_like(parameter)
    add_orthogonal_gradient([parameter], 0.1, variant)
    torch.testing.assert_close(parameter.grad, expected)


def test_a_channels_last_kernel_gets_the_same_gradient():
    kernel = torch.randn(4, 3, 3, 3)
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter = torch.nn.Parameter(kernel.clone(memory_format=layout))
        parameter.grad = torch.zeros_like(parameter)
        add_orthogonal_gradient([parameter, torch.nn.Parameter(torch.ones(3))], 0.1)
        grads.append(parameter.grad)
    torch.testing.assert_close(*grads)
