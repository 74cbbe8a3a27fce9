"""The 36 views of a panorama from its six skybox images, by perspective resampling.

Optional: the models take precomputed features. The faces of a skybox are, in the frame of the
camera's pose (x right, y down, z ahead): 0 above, 1 behind, 2 left, 3 ahead, 4 right, 5 below.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, Camera, FloatArray
from .graph import UPRIGHT, SimulatorError

Image = NDArray[np.uint8]

# Of each face: its outward direction, and the directions in which its columns and rows grow.
FACES: FloatArray = np.array(
    [
        [[0, -1, 0], [-1, 0, 0], [0, 0, -1]],
        [[0, 0, -1], [-1, 0, 0], [0, 1, 0]],
        [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
    ],
    dtype=np.float64,
)


def view_rays(heading: float, elevation: float, camera: Camera) -> FloatArray:
    """World directions (H, W, 3) of the pixels of a view, not normalized; angles in radians."""
    ahead = np.array(
        [
            math.sin(heading) * math.cos(elevation),
            math.cos(heading) * math.cos(elevation),
            math.sin(elevation),
        ]
    )
    right = np.array([math.cos(heading), -math.sin(heading), 0.0])
    up = np.cross(right, ahead)
    tall = math.tan(camera.vfov / 2)
    wide = tall * camera.width / camera.height
    x = wide * ((np.arange(camera.width) + 0.5) / camera.width * 2 - 1)
    y = tall * (1 - (np.arange(camera.height) + 0.5) / camera.height * 2)
    return ahead + x[None, :, None] * right + y[:, None, None] * up


def sample_skybox(faces: NDArray, rays: FloatArray) -> NDArray:
    """Colors (..., C) in directions ``rays`` (..., 3) of the pose's frame, bilinearly.

    ``faces`` is (6, S, S, C): three channels of colors or one of depths; the type is kept.
    """
    shape, rays = rays.shape[:-1], rays.reshape(-1, 3)
    along = rays @ FACES[:, 0].T  # (P, 6)
    face = along.argmax(axis=1)
    depth = along[np.arange(len(rays)), face]
    size = faces.shape[1]
    column = np.einsum("pc,pc->p", rays, FACES[face, 1]) / depth
    row = np.einsum("pc,pc->p", rays, FACES[face, 2]) / depth
    column, row = (np.clip((a + 1) / 2 * size - 0.5, 0, size - 1) for a in (column, row))
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right, bottom = np.minimum(left + 1, size - 1), np.minimum(top + 1, size - 1)
    u = (column - left)[:, None].astype(np.float32)
    v = (row - top)[:, None].astype(np.float32)
    upper = faces[face, top, left] * (1 - u) + faces[face, top, right] * u
    lower = faces[face, bottom, left] * (1 - u) + faces[face, bottom, right] * u
    colors = np.rint(upper * (1 - v) + lower * v).astype(faces.dtype)
    return colors.reshape(*shape, faces.shape[-1])


def views_from_skybox(
    faces: Image, camera: Camera | None = None, rotation: FloatArray = UPRIGHT
) -> Image:
    """The 36 views (36, H, W, 3) of a panorama.

    Args:
        faces: (6, S, S, 3) skybox images.
        camera: size and field of view of the views.
        rotation: (3, 3) camera to world, ``Graphs.rotations`` of the viewpoint. Real skyboxes are
            turned differently at every viewpoint, so that it must be given for them.
    """
    if faces.ndim != 4 or len(faces) != 6 or faces.shape[1] != faces.shape[2]:
        raise SimulatorError(f"a skybox must be (6, S, S, 3), got {faces.shape}")
    camera = camera or Camera()
    poses = zip(VIEW_HEADINGS, VIEW_ELEVATIONS, strict=True)
    return np.stack([sample_skybox(faces, view_rays(h, e, camera) @ rotation) for h, e in poses])


def load_skybox(folder: Path, viewpoint: str) -> Image:
    """Read ``VIEWPOINT_skybox{0..5}_sami.jpg``, or ``VIEWPOINT_skybox_small.jpg`` with six tiles.

    Returns (6, S, S, 3). Raises ``SimulatorError`` naming the first missing file.
    """
    paths = [folder / f"{viewpoint}_skybox{i}_sami.jpg" for i in range(6)]
    small = folder / f"{viewpoint}_skybox_small.jpg"
    if small.is_file():
        return _six_tiles(_read_image(small), small)
    for path in paths:
        if not path.is_file():
            raise SimulatorError(f"skybox image {str(path)!r} does not exist")
    return np.stack([_read_image(path) for path in paths])


def perpendicular_depth(faces: NDArray[np.uint16], rays: FloatArray, local: FloatArray) -> NDArray:
    """Depth (H, W, 1) perpendicular to the image plane, in the unit of ``faces``.

    Args:
        faces: (6, S, S, 1) distances from the camera's center.
        rays: (H, W, 3) directions of the pixels in the world, their mean being the view's axis.
        local: the same in the pose's frame.
    """
    axis = rays.mean(axis=(0, 1))
    cosine = (rays @ axis) / (np.linalg.norm(rays, axis=-1) * np.linalg.norm(axis))
    return np.rint(sample_skybox(faces, local) * cosine[..., None]).astype(faces.dtype)


def load_depth(folder: Path, viewpoint: str) -> NDArray[np.uint16]:
    """Read ``VIEWPOINT_skybox_depth_small.png``, six tiles of 16 bits, as (6, S, S, 1).

    The unit is a quarter of a millimeter. Raises ``SimulatorError`` naming a missing file.
    """
    path = folder / f"{viewpoint}_skybox_depth_small.png"
    if not path.is_file():
        raise SimulatorError(f"depth image {str(path)!r} does not exist")
    strip = _open_image(path, None).astype(np.uint16)
    return _six_tiles(strip[..., None], path)


def _six_tiles(strip: NDArray, path: Path) -> NDArray:
    if strip.shape[1] != 6 * strip.shape[0]:
        raise SimulatorError(
            f"image {str(path)!r} must hold six square tiles side by side, but it is "
            f"{strip.shape[1]} x {strip.shape[0]}"
        )
    return np.stack(np.split(strip, 6, axis=1))


def load_views(folder: Path, name: str) -> Image:
    """Read 36 stored views ``NAME_00.png`` ... ``NAME_35.png`` as (36, H, W, 3)."""
    return np.stack([_read_image(folder / f"{name}_{i:02d}.png") for i in range(36)])


def save_views(folder: Path, name: str, views: Image) -> None:
    """Write 36 views (36, H, W, 3) as ``NAME_00.png`` ... ``NAME_35.png``."""
    from PIL import Image as Pillow

    folder.mkdir(parents=True, exist_ok=True)
    for i, view in enumerate(views):
        Pillow.fromarray(view).save(folder / f"{name}_{i:02d}.png")


def _read_image(path: Path) -> Image:
    return _open_image(path, "RGB")


def _open_image(path: Path, mode: str | None) -> NDArray:
    from PIL import Image as Pillow

    try:
        with Pillow.open(path) as image:
            return np.asarray(image.convert(mode) if mode else image)
    except OSError as error:
        raise SimulatorError(f"image {str(path)!r} cannot be read ({error})") from error
