"""Angles, views and their encodings."""

import math

import numpy as np
import pytest

from prevalent.simulator.geometry import (
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    Camera,
    angle_features,
    angle_table,
    canonical_angle,
    nearest_view,
    normalize_heading,
    relative_view,
)


def test_every_view_snaps_to_itself():
    np.testing.assert_array_equal(nearest_view(VIEW_HEADINGS, VIEW_ELEVATIONS), np.arange(36))


@pytest.mark.parametrize(
    ("heading", "elevation", "view"),
    [
        (14.9, 0, 12), (15.1, 0, 13), (345.1, 0, 12), (344.9, 0, 23), (-30, 0, 23), (725, 0, 12),
        (0, 14.9, 12), (0, 15.1, 24), (0, -15.1, 0), (0, 80, 24), (0, -14.9, 12),
    ],
)  # fmt: skip
def test_poses_snap_to_the_nearest_view(heading, elevation, view):
    assert nearest_view(math.radians(heading), math.radians(elevation)) == view


def test_headings_are_brought_into_one_turn():
    turns = np.array([-7.0, -0.1, 0.0, 3.0, 6.3, 100.0])
    found = normalize_heading(turns)
    assert ((found >= 0) & (found < 2 * np.pi)).all()
    np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * turns))


def test_canonical_angles_differ_by_whole_turns():
    angles = np.linspace(-20, 20, 101)
    found = canonical_angle(angles)
    assert (np.abs(found) <= np.pi + 1e-9).all()
    np.testing.assert_allclose(np.exp(1j * found), np.exp(1j * angles))


def test_relative_views_keep_their_level():
    assert relative_view(13, 12) == 1 + 12
    assert relative_view(0, 23) == 1
    assert relative_view(35, 35) == 24


def test_the_two_layouts_hold_the_same_numbers():
    heading, elevation = np.array([0.3, -2.0]), np.array([0.1, 0.5])
    four = [np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)]
    interleaved = angle_features(heading, elevation, 12, "interleaved")
    block = angle_features(heading, elevation, 12, "block")
    for i, numbers in enumerate(four):
        np.testing.assert_allclose(interleaved[:, i::4], np.stack([numbers] * 3, 1), atol=1e-7)
        np.testing.assert_allclose(
            block[:, 3 * i : 3 * i + 3], np.stack([numbers] * 3, 1), atol=1e-7
        )
    assert interleaved.dtype == np.float32


def test_the_table_of_a_view_begins_with_itself_straight_ahead():
    table = angle_table(4)
    for view in range(36):
        elevation = VIEW_ELEVATIONS[view]
        expected = [0, 1, math.sin(elevation), math.cos(elevation)]
        np.testing.assert_allclose(table[view, view], expected, atol=1e-7)
    right = (1 + np.arange(12)) % 12
    np.testing.assert_allclose(table[np.arange(12), right, 0], math.sin(VIEW_STEP), atol=1e-7)


def test_the_field_of_view_widens_linearly_with_the_image():
    assert Camera().half_angle == pytest.approx(math.radians(40))
    assert Camera(480, 480).half_angle == pytest.approx(math.radians(30))


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 0},
        {"height": 1.5},
        {"width": True},
        {"vfov": 0.0},
        {"vfov": 4.0},
        {"vfov": math.nan},
    ],
)
def test_impossible_cameras_are_refused(settings):
    with pytest.raises(ValueError, match="camera"):
        Camera(**settings)


def test_an_angle_size_must_be_a_multiple_of_four():
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        angle_features(0.0, 0.0, 6)
