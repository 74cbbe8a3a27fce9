import json
import re

import numpy as np
import pytest

from optimus.page.plots import distance_matrix, draw_distances, draw_points, embed, write_page


def clusters():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 12)
    return generator.normal(size=(24, 5)) + 20 * labels[:, None], labels


@pytest.mark.parametrize("method", ["tsne", "mds", "isomap"])
def test_far_clusters_stay_apart_in_the_plane(method):
    features, labels = clusters()
    points = embed(features, method)
    assert points.shape == (24, 2)
    centers = [points[labels == label].mean(axis=0) for label in (0, 1)]
    within = max(np.linalg.norm(points[labels == i] - centers[i], axis=1).mean() for i in (0, 1))
    assert np.linalg.norm(centers[0] - centers[1]) > within
    with pytest.raises(ValueError, match="at least 5"):
        embed(features[:3], method)


def test_distances_are_euclidean():
    found = distance_matrix(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(found, [[0, 5], [5, 0]], atol=1e-9)


def test_pictures_are_png_files(tmp_path):
    pytest.importorskip("matplotlib")
    features, labels = clusters()
    draw_points(features[:, :2], labels, ["a", "b"], tmp_path / "points.png")
    draw_distances(distance_matrix(features), tmp_path / "distances.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_page_is_self_contained_and_holds_the_texts(tmp_path):
    points, labels = np.random.randn(6, 2), np.array([0, 0, 1, 1, 1, 0])
    texts = [f"text {i} </script>" for i in range(6)]
    write_page(points, labels, ["neg", "pos"], tmp_path / "page.html", texts=texts)
    page = (tmp_path / "page.html").read_text()
    assert "http" not in page
    assert page.count("</script>") == 1
    data = json.loads(re.search(r"const data = (.*);\n", page)[1])
    assert [row[3] for row in data["points"]] == texts
    assert data["names"] == ["neg", "pos"]


@pytest.mark.parametrize("method", ["tsne", "mds", "isomap"])
def test_equal_vectors_share_a_point(method):
    features, _ = clusters()
    same = np.concatenate([features[:1]] * 40 + [features])
    points = embed(same, method)
    assert points.shape == (64, 2)
    assert np.isfinite(points).all()
    assert (points[:41] == points[0]).all()


@pytest.mark.parametrize("method", ["tsne", "mds", "isomap"])
def test_what_no_method_can_lay_out_is_refused(method):
    with pytest.raises(ValueError, match="at least 5 different ones, got 1 among 12"):
        embed(np.ones((12, 4)), method)
    features, _ = clusters()
    features[3, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 24 vectors hold numbers that are not finite"):
        embed(features, method)
    assert embed(np.arange(9.0)[:, None], method).shape == (9, 2)
