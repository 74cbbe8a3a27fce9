"""The drop-in's images against the original's OpenGL transformations, written out here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

import prevalent.MatterSim as MatterSim
from prevalent.simulator import SimulatorError
from prevalent.simulator.graph import UPRIGHT
from tests.factories import make_scan, write_connectivity

WIDTH, HEIGHT, VFOV, SIDE = 40, 30, math.radians(60), 64
# The tile of the strip that the original uploads as each OpenGL face, and where the OpenGL
# specification (table 8.19) looks in it: face -> (tile, axis, sign, sc, tc) of a direction.
FACES = (
    (2, 0, +1, lambda x, y, z: (-z, -y)),
    (4, 0, -1, lambda x, y, z: (z, -y)),
    (0, 1, +1, lambda x, y, z: (x, z)),
    (5, 1, -1, lambda x, y, z: (x, -z)),
    (1, 2, +1, lambda x, y, z: (x, -y)),
    (3, 2, -1, lambda x, y, z: (-x, -y)),
)


def rotation(axis, angle):
    """Rotation matrix by the right-hand rule."""
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def opengl_lookup(tiles, direction):
    """Bilinear look-up of one direction in a cube map with clamped edges."""
    tile, axis, _, coordinates = next(
        face for face in FACES if face[2] * direction[face[1]] == max(abs(direction))
    )
    place = np.array(coordinates(*direction)) / abs(direction[axis])
    column, row = np.clip((place + 1) / 2 * SIDE - 0.5, 0, SIDE - 1)
    left, top = min(int(column), SIDE - 2), min(int(row), SIDE - 2)
    u, v = column - left, row - top
    part = tiles[tile, top : top + 2, left : left + 2].astype(float)
    return (part[0, 0] * (1 - u) + part[0, 1] * u) * (1 - v) + (
        part[1, 0] * (1 - u) + part[1, 1] * u
    ) * v


def opengl_image(tiles, pose_rotation, heading, elevation, depth=False):
    """What the original reads from its frame buffer, pixel by pixel."""
    view = rotation(0, elevation - math.pi / 2) @ rotation(2, math.pi + heading)
    tall = math.tan(VFOV / 2)
    image = np.zeros((HEIGHT, WIDTH, tiles.shape[-1]))
    for row in range(HEIGHT):  # glReadPixels begins at the bottom of OpenGL's image
        for column in range(WIDTH):
            x = ((column + 0.5) / WIDTH * 2 - 1) * tall * WIDTH / HEIGHT
            y = ((row + 0.5) / HEIGHT * 2 - 1) * tall
            camera = np.array([x, y, -1.0])
            scale = 1 / np.linalg.norm(camera) if depth else 1
            image[row, column] = scale * opengl_lookup(tiles, (view @ pose_rotation).T @ camera)
    return image


def smooth(channels, rng):
    """Six tiles of low frequency, so that the comparison does not hang on rounding at edges."""
    from scipy.ndimage import gaussian_filter

    tiles = gaussian_filter(rng.random((6, SIDE, SIDE, channels)), (0, 4, 4, 0))
    return (tiles - tiles.min()) / (tiles.max() - tiles.min())


@pytest.fixture
def world(tmp_path):
    """A house whose second viewpoint is turned, with PNG-exact skyboxes under JPEG's name."""
    rng = np.random.default_rng(0)
    turn = rotation(2, 0.7) @ UPRIGHT
    scan = make_scan()._replace(rotations=np.stack([UPRIGHT, turn, UPRIGHT, UPRIGHT]))
    write_connectivity(tmp_path / "connectivity", "house", scan)
    folder = tmp_path / "scans" / "house" / "matterport_skybox_images"
    folder.mkdir(parents=True)
    colors, depths = {}, {}
    for name in ("a", "b"):
        colors[name] = np.rint(255 * smooth(3, rng)).astype(np.uint8)
        depths[name] = np.rint(2000 + 30000 * smooth(1, rng)).astype(np.uint16)
        strip = np.concatenate(list(colors[name]), axis=1)
        Image.fromarray(strip).save(folder / f"{name}_skybox_small.jpg", format="PNG")
        strip = np.concatenate(list(depths[name][..., 0]), axis=1)
        Image.fromarray(strip).save(folder / f"{name}_skybox_depth_small.png")
    rotations = {"a": UPRIGHT, "b": turn}
    return tmp_path, colors, depths, rotations


def simulator_of(folder, depth=True):
    simulator = MatterSim.Simulator()
    simulator.setNavGraphPath(str(folder / "connectivity"))
    simulator.setDatasetPath(str(folder / "scans"))
    simulator.setCameraResolution(WIDTH, HEIGHT)
    simulator.setCameraVFOV(VFOV)
    simulator.setDepthEnabled(depth)
    simulator.initialize()
    return simulator


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize(("heading", "elevation"), [(0.0, 0.0), (2.1, 0.4), (4.0, -0.9)])
def test_images_equal_the_originals_transformations(world, name, heading, elevation):
    folder, colors, depths, rotations = world
    simulator = simulator_of(folder)
    simulator.newEpisode(["house"], [name], [heading], [elevation])
    state = simulator.getState()[0]
    assert state.rgb.shape == (HEIGHT, WIDTH, 3)
    assert (state.rgb.dtype, state.depth.dtype) == (np.uint8, np.uint16)
    wanted = opengl_image(colors[name], rotations[name], heading, elevation)[..., ::-1]
    np.testing.assert_allclose(np.array(state.rgb, copy=False), wanted, rtol=0, atol=1.01)
    wanted = opengl_image(depths[name], rotations[name], heading, elevation, depth=True)
    np.testing.assert_allclose(state.depth, wanted, rtol=0, atol=1.6)


def test_an_action_draws_anew_and_an_old_image_stays(world):
    folder, *_ = world
    simulator = simulator_of(folder)
    simulator.newEpisode(["house"], ["a"], [0.0], [0.0])
    state = simulator.getState()[0]
    first, kept = state.rgb, state.rgb.copy()
    assert state.rgb is first
    simulator.makeAction([1], [0.3], [0.0])
    assert state.location.viewpointId == "b"
    assert np.abs(state.rgb.astype(int) - first).mean() > 10
    np.testing.assert_array_equal(first, kept)


def test_pixels_are_none_while_rendering_is_off(world):
    folder, *_ = world
    simulator = MatterSim.Simulator()
    simulator.setNavGraphPath(str(folder / "connectivity"))
    simulator.setRenderingEnabled(False)
    simulator.newEpisode(["house"], ["a"], [0.0], [0.0])
    assert simulator.getState()[0].rgb is simulator.getState()[0].depth is None
    with_colors = simulator_of(folder, depth=False)
    with_colors.newEpisode(["house"], ["a"], [0.0], [0.0])
    assert with_colors.getState()[0].depth is None
    assert with_colors.getState()[0].rgb is not None


def test_a_missing_or_misshapen_image_is_named(world, monkeypatch):
    folder, *_ = world
    simulator = simulator_of(folder)
    simulator.newEpisode(["house"], ["c"], [0.0], [0.0])  # a walk needs no image
    with pytest.raises(SimulatorError, match=r"c_skybox0_sami\.jpg' does not exist"):
        _ = simulator.getState()[0].rgb
    with pytest.raises(SimulatorError, match=r"c_skybox_depth_small\.png' does not exist"):
        _ = simulator.getState()[0].depth
    images = folder / "scans" / "house" / "matterport_skybox_images"
    Image.fromarray(np.zeros((8, 40, 3), np.uint8)).save(images / "c_skybox_small.jpg")
    with pytest.raises(SimulatorError, match="six square tiles side by side, but it is 40 x 8"):
        _ = simulator.getState()[0].rgb
    monkeypatch.setenv("MATTERPORT_DATA_DIR", str(folder / "scans"))
    found = MatterSim.Simulator()
    found.setNavGraphPath(str(folder / "connectivity"))
    found.newEpisode(["house"], ["a"], [0.0], [0.0])
    assert found.getState()[0].rgb.shape == (240, 320, 3)
