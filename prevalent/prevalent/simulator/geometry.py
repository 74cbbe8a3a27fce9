"""Views, headings, elevations and their encodings; all angles are radians.

Heading 0 looks along +y and grows clockwise; elevation 0 is the horizon and grows upwards. A
panorama has 36 views: 12 looking down (-30 degrees), 12 at the horizon, 12 looking up, each level
starting at heading 0 and turning right by 30 degrees.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
AngleLayout = Literal["interleaved", "block"]
"""Order of (sin h, cos h, sin e, cos e): the four repeated in turn, or four blocks."""

NUM_HEADINGS = 12
NUM_LEVELS = 3
NUM_VIEWS = NUM_HEADINGS * NUM_LEVELS
VIEW_STEP = math.pi / 6
_VIEWS = np.arange(NUM_VIEWS, dtype=np.int64)
VIEW_HEADINGS = (_VIEWS % NUM_HEADINGS).astype(np.float64) * VIEW_STEP
VIEW_ELEVATIONS = (_VIEWS // NUM_HEADINGS - 1).astype(np.float64) * VIEW_STEP


@dataclass(frozen=True)
class Camera:
    """The camera that decides which neighbors are in view."""

    width: int = 640
    """Image width in pixels."""
    height: int = 480
    """Image height in pixels."""
    vfov: float = math.radians(60)
    """Vertical field of view in radians."""

    def __post_init__(self) -> None:
        for size in (self.width, self.height):
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(
                    "camera size must be whole positive numbers of pixels, got "
                    f"{self.width!r} x {self.height!r}"
                )
        number = isinstance(self.vfov, int | float | np.integer | np.floating)
        number &= not isinstance(self.vfov, bool)
        if not number or not 0 < self.vfov < math.pi:
            raise ValueError(f"camera vfov must lie between 0 and pi radians, got {self.vfov!r}")

    @property
    def half_angle(self) -> float:
        """Horizontal half angle in radians; MatterSim scales vfov linearly by the aspect ratio."""
        return self.vfov * self.width / self.height / 2


def normalize_heading(heading: ArrayLike) -> FloatArray:
    """Bring headings into [0, 2 pi)."""
    wrapped = np.fmod(np.asarray(heading, dtype=np.float64), 2 * math.pi)
    return np.where(wrapped < 0, wrapped + 2 * math.pi, wrapped)


def canonical_angle(angle: ArrayLike) -> FloatArray:
    """Bring angles into about (-pi, pi] by removing the nearest multiple of 2 pi."""
    angle = np.asarray(angle, dtype=np.float64)
    return angle - 2 * math.pi * np.round(angle / (2 * math.pi))


def nearest_view(heading: ArrayLike, elevation: ArrayLike) -> IntArray:
    """Index of the discretised view a pose snaps to: halves round up, tilts snap beyond 15 degrees.

    ``heading`` and ``elevation`` broadcast; returns integers 0..35. Raises ``ValueError`` where one
    is not finite.
    """
    if not (np.isfinite(heading).all() and np.isfinite(elevation).all()):
        raise ValueError("headings and elevations must be finite numbers of radians")
    column = np.floor(normalize_heading(heading) / VIEW_STEP + 0.5).astype(np.int64)
    elevation = np.asarray(elevation, dtype=np.float64)
    half = VIEW_STEP / 2
    level = 1 + (elevation > half).astype(np.int64) - (elevation < -half).astype(np.int64)
    return column % NUM_HEADINGS + NUM_HEADINGS * level


def relative_view(view: ArrayLike, base: ArrayLike) -> IntArray:
    """View seen from ``base``: the heading column becomes relative, the level stays absolute."""
    view, base = np.asarray(view, dtype=np.int64), np.asarray(base, dtype=np.int64)
    level = view // NUM_HEADINGS
    return (view - base) % NUM_HEADINGS + NUM_HEADINGS * level


def angle_features(
    heading: ArrayLike, elevation: ArrayLike, size: int = 128, layout: AngleLayout = "interleaved"
) -> NDArray[np.float32]:
    """Encode angles as sines and cosines repeated to ``size`` numbers.

    R2R fine-tuning uses the interleaved layout, pre-training, NDH and HANNA the block layout; both
    hold the same numbers. ``heading`` and ``elevation`` broadcast to (...); returns (..., size).
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size % 4 or size < 4:
        raise ValueError(f"the angle feature size must be a positive multiple of 4, got {size!r}")
    if layout not in ("interleaved", "block"):
        raise ValueError(f"the angle layout must be 'interleaved' or 'block', got {layout!r}")
    heading, elevation = np.broadcast_arrays(
        np.asarray(heading, dtype=np.float64), np.asarray(elevation, dtype=np.float64)
    )
    four = np.stack(
        [np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)], axis=-1
    ).astype(np.float32)
    if layout == "block":
        return np.repeat(four, size // 4, axis=-1)
    return np.tile(four, (1,) * heading.ndim + (size // 4,))


def angle_table(size: int = 128, layout: AngleLayout = "interleaved") -> NDArray[np.float32]:
    """Angle features of every view as seen from every view.

    Returns (36, 36, size), indexed [current view, view]: headings are relative to the current view,
    elevations absolute.
    """
    base = VIEW_HEADINGS[:, None]
    return angle_features(
        VIEW_HEADINGS[None] - base, VIEW_ELEVATIONS[None] + 0 * base, size, layout
    )
