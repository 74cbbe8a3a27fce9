"""First values of the weights."""

from __future__ import annotations

import pytest
import torch
from factories import tiny_config

from fqgan.biggan import build_discriminator, build_generator


def test_orthogonal_weights_have_orthonormal_rows():
    weight = build_generator(tiny_config(init="ortho")).blocks[0][0].conv1.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.t(), torch.eye(16), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("init", "deviation"), [("N02", 0.02), ("glorot", 0.083)])
def test_random_weights_have_their_deviation(init, deviation):
    weight = build_generator(tiny_config(init=init)).blocks[0][0].conv1.weight
    assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.1)


def test_the_dictionary_is_not_touched():
    network = build_discriminator(tiny_config(init="N02"))
    assert float(network.blocks[0][1].embed.std()) == pytest.approx(1.0, rel=0.3)
