"""The mapping network, mixing and truncation."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error
from stylegan_cases import RecordedNetworks

from fqgan.stylegan2.config import MappingConfig
from fqgan.stylegan2.networks import (
    MappingNetwork,
    broadcast_styles,
    label_vectors,
    mix_styles,
    truncate_styles,
)


@pytest.mark.golden
@pytest.mark.cases("stylegan/networks_losses*.npz")
def test_styles_agree_with_recorded_ones(case):
    recorded = Recorded(case)
    network = RecordedNetworks(recorded, "G/", "out/mapping").generator()
    ours = network.styles(recorded["z"])
    assert relative_error(ours, recorded["out/mapping"]) < 1e-5


def test_only_the_direction_of_a_latent_matters():
    network = MappingNetwork(MappingConfig(6, 4, 4, 3))
    z = torch.randn(2, 6)
    torch.testing.assert_close(network(z), network(7.0 * z), rtol=1e-4, atol=1e-6)


def test_mixing_changes_layers_from_the_cutoff_on():
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert mix_styles(a, b, 2, 5)[0, :, 0].tolist() == [0, 0, 1, 1, 1]


def test_truncation_pulls_the_first_layers_towards_the_average():
    styles, average = broadcast_styles(torch.full((1, 2), 3.0), 4), torch.ones(2)
    assert torch.equal(truncate_styles(styles, average, 1.0), styles)
    assert truncate_styles(styles, average, 0.5)[0, :, 0].tolist() == [2, 2, 2, 2]
    assert truncate_styles(styles, average, 0.0, 2)[0, :, 0].tolist() == [1, 1, 3, 3]


def test_label_vectors_of_another_size_are_named():
    with pytest.raises(ValueError, match=r"\(B, 4\)"):
        label_vectors(torch.zeros(2, 3), 4)
