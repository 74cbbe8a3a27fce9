"""MatterSim's Python interface without its C++: ``import prevalent.MatterSim as MatterSim``.

The batched interface of the second version; the single-environment one of the first version is
``prevalent.MatterSim.v1``. ``docs/simulator.md`` shows the change of the import in several code
bases. Anderson et al., CVPR 2018.
"""

# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from ..simulator.graph import SimulatorError
from .states import Settings, SimState
from .world import ViewPoint, count, finite, switch

__all__ = ["SimState", "Simulator", "SimulatorError", "ViewPoint"]


class Simulator(Settings):
    """B environments.

    Args:
        multiple_turns: read discretized turns as multiples of 30 degrees, as in HANNA's build,
            instead of by their sign.
    """

    def __init__(self, multiple_turns: bool = False) -> None:
        super().__init__()
        self._multiples = switch("multiple_turns", multiple_turns)

    def setBatchSize(self, size: int) -> None:
        """B."""
        self._set("_batch_size", count("the batch size", size, 1))

    def setRestrictedNavigation(self, restricted: bool) -> None:
        """List only neighbors in view, or all."""
        self._set("_restricted", switch("restricted", restricted))

    def newEpisode(
        self,
        scanIds: Sequence[str],
        viewpointIds: Sequence[str],
        headings: Sequence[float],
        elevations: Sequence[float],
    ) -> None:
        """Start B episodes; an empty viewpoint id means a random one. Angles in radians.

        Raises:
            SimulatorError: a scan or viewpoint that does not exist, an angle that is not finite, or
                lists that are not B long; the states have not changed then.
        """
        self._check_lengths(
            scanIds=scanIds, viewpointIds=viewpointIds, headings=headings, elevations=elevations
        )
        angles = [
            (finite("heading", heading, i), finite("elevation", elevation, i))
            for i, (heading, elevation) in enumerate(zip(headings, elevations, strict=True))
        ]
        nodes = [self._node(*pair) for pair in zip(scanIds, viewpointIds, strict=True)]
        self._start([(node, *two) for node, two in zip(nodes, angles, strict=True)])

    def newRandomEpisode(self, scanIds: Sequence[str]) -> None:
        """Start B episodes at random viewpoints with random headings on the horizon."""
        self._check_lengths(scanIds=scanIds)
        nodes = [self._node(scan, "") for scan in scanIds]
        headings = self._rng.uniform(0, 2 * np.pi, len(nodes)).tolist()
        self._start([(node, h, 0.0) for node, h in zip(nodes, headings, strict=True)])

    def makeAction(
        self, indices: Sequence[int], headings: Sequence[float], elevations: Sequence[float]
    ) -> None:
        """Go to a navigable location each (0 stays), then turn; angles in radians.

        Raises:
            SimulatorError: an index that is not listed, an angle that is not finite, or lists that
                are not B long; the states have not changed then.
        """
        self._check_lengths(indices=indices, headings=headings, elevations=elevations)
        self._act(indices, headings, elevations)

    def getState(self) -> list[SimState]:
        """The B states; as in the original they are live: later actions change them."""
        self._check_playing("getState")
        return list(self._states)

    def _check_lengths(self, **given: Sequence) -> None:
        for what, values in given.items():
            unordered = isinstance(values, str | Mapping | Set)
            if unordered or not hasattr(values, "__len__"):
                raise SimulatorError(
                    f"{what} must be a list of {self._batch_size} values, got {values!r}"
                )
            if len(values) != self._batch_size:
                raise SimulatorError(
                    f"{what} has {len(values)} values for a batch of {self._batch_size}; call "
                    "setBatchSize before initialize or give as many"
                )
