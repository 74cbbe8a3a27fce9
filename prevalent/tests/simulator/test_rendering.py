"""Views from skybox images."""

import math

import numpy as np
import pytest
from PIL import Image

from prevalent.simulator import Camera, SimulatorError
from prevalent.simulator.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from prevalent.simulator.graph import UPRIGHT
from prevalent.simulator.rendering import (
    FACES,
    load_skybox,
    load_views,
    sample_skybox,
    save_views,
    view_rays,
    views_from_skybox,
)

SMALL = Camera(32, 24)
ABOVE, BEHIND, LEFT, AHEAD, RIGHT, BELOW = range(6)


def flat_faces():
    """Every face in its own shade of gray."""
    return np.repeat(np.arange(6, dtype=np.uint8) * 40, 16 * 16 * 3).reshape(6, 16, 16, 3)


def direction_faces(size=64):
    """Faces whose colors are the direction itself, so that any view can be predicted."""
    place = (np.arange(size) + 0.5) / size * 2 - 1
    faces = []
    for outward, columns, rows in FACES:
        rays = outward + place[None, :, None] * columns + place[:, None, None] * rows
        rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        faces.append(np.rint((rays + 1) * 127))
    return np.stack(faces).astype(np.uint8)


def test_the_faces_stand_around_an_upright_camera():
    views = views_from_skybox(flat_faces(), SMALL)
    middle = views[:, 12, 16, 0] // 40
    assert middle[[12, 15, 18, 21]].tolist() == [AHEAD, RIGHT, BEHIND, LEFT]
    up = view_rays(0.0, math.radians(80), SMALL)[12, 16] @ UPRIGHT
    down = view_rays(0.0, math.radians(-80), SMALL)[12, 16] @ UPRIGHT
    assert sample_skybox(flat_faces(), up)[0] // 40 == ABOVE
    assert sample_skybox(flat_faces(), down)[0] // 40 == BELOW


def test_every_pixel_shows_its_direction_seamlessly_across_faces():
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    for rotation in (UPRIGHT, turned):
        views = views_from_skybox(direction_faces(), SMALL, rotation)
        for view in (0, 7, 14, 29):
            rays = view_rays(VIEW_HEADINGS[view], VIEW_ELEVATIONS[view], SMALL) @ rotation
            rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
            shown = views[view] / 127.0 - 1
            np.testing.assert_allclose(shown, rays, atol=0.03)


def test_columns_run_to_the_right_and_rows_downwards():
    rays = view_rays(0.0, 0.0, Camera())
    assert rays[240, 0, 0] < 0 < rays[240, -1, 0]
    assert rays[0, 320, 2] > 0 > rays[-1, 320, 2]
    assert rays[0, 0, 2] / rays[0, 0, 1] == pytest.approx(math.tan(math.radians(30)), rel=0.01)


def test_neighboring_views_overlap():
    views = views_from_skybox(direction_faces(), Camera(64, 48))
    assert views.shape == (36, 48, 64, 3)
    right = view_rays(math.pi / 6, 0, Camera(64, 48))[24, 32]
    ahead = view_rays(0, 0, Camera(64, 48))[24]
    ahead = ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    column = (ahead @ right).argmax()
    difference = views[12, 24, column].astype(int) - views[13, 24, 32].astype(int)
    assert np.abs(difference).max() <= 6


def test_skyboxes_are_read_from_six_files_or_one_strip(tmp_path):
    faces = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    for i in range(6):
        Image.fromarray(faces[i]).save(tmp_path / f"v_skybox{i}_sami.jpg", quality=100)
    read = load_skybox(tmp_path, "v")
    assert read.shape == faces.shape
    Image.fromarray(np.concatenate(list(read), axis=1)).save(
        tmp_path / "w_skybox_small.jpg", quality=100
    )
    assert load_skybox(tmp_path, "w").shape == faces.shape
    (tmp_path / "v_skybox3_sami.jpg").unlink()
    with pytest.raises(SimulatorError, match="v_skybox3_sami"):
        load_skybox(tmp_path, "v")
    (tmp_path / "v_skybox3_sami.jpg").write_bytes(b"no image")
    with pytest.raises(SimulatorError, match="cannot be read"):
        load_skybox(tmp_path, "v")


def test_stored_views_come_back(tmp_path):
    views = views_from_skybox(flat_faces(), SMALL)
    save_views(tmp_path, "scan_v", views)
    np.testing.assert_array_equal(load_views(tmp_path, "scan_v"), views)
    with pytest.raises(SimulatorError, match="scan_w_00"):
        load_views(tmp_path, "scan_w")


def test_something_that_is_no_skybox_is_refused():
    with pytest.raises(SimulatorError, match="must be"):
        views_from_skybox(np.zeros((5, 4, 4, 3), np.uint8))
