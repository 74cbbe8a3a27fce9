"""Toy houses: connected plans and views that show their surroundings."""

import networkx as nx
import numpy as np
import pytest

from prevalent.data.toy import build_house, landmark_embeddings, view_features, write_house
from prevalent.simulator import Graphs
from prevalent.simulator.graph import candidates_of


def test_a_house_is_connected_and_survives_its_file(tmp_path):
    for seed in range(6):
        house = build_house(f"toy{seed}", 4, 24, np.random.default_rng(seed))
        write_house(tmp_path, house)
        graphs = Graphs.load(tmp_path, scans=[house.scan], cache_dir=tmp_path / "cache")
        assert nx.is_connected(graphs.networkx(house.scan))
        np.testing.assert_array_equal(graphs.positions, house.data.positions)
        assert len(graphs.connected(house.scan)) == len(house.data.viewpoints) - 1


def test_the_view_of_a_candidate_shows_its_landmark_best():
    house = build_house("toy", 5, 24, np.random.default_rng(1))
    graphs = Graphs(["toy"], [house.data])
    looks = landmark_embeddings(32, 32)
    images = view_features(graphs, house.landmarks, looks, 0.0, np.random.default_rng(0))
    found = candidates_of(graphs)
    right = []
    for node in graphs.connected("toy"):
        for j in range(found.count[node]):
            image = images[node, found.view[node, j]]
            right.append((looks @ image).argmax() == house.landmarks[found.target[node, j]])
    assert np.mean(right) > 0.9


def test_too_few_landmarks_are_refused():
    with pytest.raises(ValueError, match="--num-landmarks 3 is too few"):
        build_house("toy", 5, 3, np.random.default_rng(0))
