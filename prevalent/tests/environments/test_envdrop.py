"""The authors' dictionary observations."""

import numpy as np

from prevalent.data.features import synthetic_features
from prevalent.environments.navigation import DictionaryObservations, NavigationEnvironment
from tests.factories import make_graphs, random_scan, tasks_in


def observed(first_visit_keys):
    graphs = make_graphs(one=random_scan(1))
    store = synthetic_features([graphs.long_id(n) for n in graphs.nodes_of("one")], 6)
    environment = NavigationEnvironment(graphs, store.rows)
    dictionaries = DictionaryObservations(
        environment, store.array, angle_size=8, first_visit_keys=first_visit_keys
    )
    observation = environment.reset(tasks_in(graphs, 3))
    return store, observation, dictionaries


def test_candidates_lack_two_keys_at_a_repeat_visit_only_in_the_authors_way():
    for quirk, missing in ((False, set()), (True, {"normalized_heading", "distance"})):
        _, observation, dictionaries = observed(quirk)
        first = dictionaries.build(observation)[0]["candidate"][0]
        again = dictionaries.build(observation)[0]["candidate"][0]
        assert set(first) - set(again) == missing
        assert first["heading"] == again["heading"]


def test_features_are_images_with_angles():
    store, observation, dictionaries = observed(False)
    for i, entry in enumerate(dictionaries.build(observation)):
        assert entry["feature"].shape == (36, 14)
        np.testing.assert_array_equal(entry["feature"][:, :6], store.array[observation.row[i]])
        candidate = entry["candidate"][0]
        image = store.array[observation.row[i], candidate["pointId"]]
        np.testing.assert_array_equal(candidate["feature"][:6], image)
        angle = observation.candidate_angle[i, 0]
        np.testing.assert_allclose(candidate["feature"][6:10], angle, atol=1e-6)


def test_features_can_be_left_out():
    _, observation, dictionaries = observed(False)
    dictionaries.table = None
    assert "feature" not in dictionaries.build(observation)[0]
