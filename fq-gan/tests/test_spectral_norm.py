"""Spectral normalization against the singular value decomposition."""

from __future__ import annotations

import copy

import pytest
import torch

from fqgan.biggan.layers import LayerFactory
from fqgan.runtime.counting import count
from fqgan.spectral_norm import as_matrix, normalized_weights


def converged(layer, x, calls=200):
    for _ in range(calls):
        layer(x)
    return layer


def test_the_normalized_weight_has_largest_singular_value_one():
    layer = converged(LayerFactory(True, 1, 1, 1e-12).linear(5, 7), torch.zeros(1, 5))
    weight = layer.normalized_weight()
    assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(1.0, abs=1e-4)


def test_several_vectors_find_the_largest_singular_values():
    layer = LayerFactory(True, 3, 2, 1e-12).conv(4, 6, 3)
    converged(layer, torch.zeros(1, 4, 4, 4))
    expected = torch.linalg.svdvals(layer.weight.flatten(1))[:3]
    found = torch.cat([layer.sv0, layer.sv1, layer.sv2])
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)


def test_eval_mode_leaves_the_buffers_alone():
    layer = LayerFactory(True, 1, 3, 1e-12).linear(5, 7).eval()
    before = layer.u0.clone(), layer.sv0.clone()
    layer(torch.zeros(1, 5))
    assert torch.equal(layer.u0, before[0])
    assert torch.equal(layer.sv0, before[1])


def test_the_gradient_flows_through_the_singular_value():
    layer = LayerFactory(True, 1, 1, 1e-12).linear(5, 7).double()
    converged(layer, torch.zeros(1, 5, dtype=torch.double))
    layer.eval()
    x = torch.randn(3, 5, dtype=torch.double)
    (layer(x) ** 2).sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    normalized = weight / torch.linalg.matrix_norm(weight, 2)
    (torch.nn.functional.linear(x, normalized, layer.bias) ** 2).sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-6, atol=1e-8)


def test_a_channels_last_kernel_becomes_a_matrix_without_a_copy():
    kernel = torch.randn(6, 4, 3, 3).contiguous(memory_format=torch.channels_last)
    matrix = as_matrix(kernel)
    assert matrix.data_ptr() == kernel.data_ptr()
    torch.testing.assert_close(matrix @ matrix.t(), kernel.flatten(1) @ kernel.flatten(1).t())


def test_autocast_leaves_the_iteration_in_fp32():
    layer = LayerFactory(True, 1, 1, 1e-12).linear(5, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(torch.randn(2, 5))
    assert out.dtype == torch.bfloat16
    assert layer.u0.dtype == torch.float32
    assert float(layer.u0.norm()) == pytest.approx(1.0, abs=1e-5)


def many_layers(iterations=2):
    """Layers of every kind, some of them of one shape, one of them stored channels_last."""
    torch.manual_seed(0)
    one, three = LayerFactory(True, 1, iterations, 1e-8), LayerFactory(True, 3, iterations, 1e-8)
    layers = [one.conv(4, 6, 3) for _ in range(3)] + [one.linear(5, 7) for _ in range(4)]
    layers += [one.embedding(5, 7), three.linear(5, 7), three.linear(5, 7)]
    last = one.conv(4, 6, 3).to(memory_format=torch.channels_last)
    return torch.nn.ModuleList([*layers, last, copy.deepcopy(last)])


@pytest.mark.parametrize("training", [True, False])
def test_layers_of_one_shape_are_normalized_together_as_each_alone(training):
    found = []
    for together in (False, True):
        network = many_layers().train(training)
        for _ in range(2):
            with normalized_weights(network, together=together):
                weights = [layer.normalized_weight() for layer in network]
        noise = torch.Generator().manual_seed(1)
        (sum((w * torch.randn(w.shape, generator=noise)).sum() for w in weights)).backward()
        assert all(layer.ready is None for layer in network)
        for weight, layer in zip(weights, network, strict=True):
            assert weight.stride() == layer.weight.stride()
        gradients = [layer.weight.grad for layer in network]
        found.append([*weights, *gradients, *network.buffers()])
    for alone, together in zip(*found, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_layers_of_one_shape_take_fewer_kernels_together():
    kernels = []
    for together in (False, True):
        network = many_layers(iterations=1)

        def step(network=network, together=together):
            with normalized_weights(network, together=together):
                sum(layer.normalized_weight().sum() for layer in network).backward()

        kernels.append(sum(count(step).kernels.values()))
    assert kernels[1] < 0.75 * kernels[0], kernels
