"""MatterSim's first Python interface, one environment: ``import prevalent.MatterSim.v1``.

EnvDrop, Speaker-Follower, Recurrent VLN-BERT and PREVALENT itself were written for it.
"""

# ruff: noqa: N802

from ..simulator.graph import SimulatorError
from .states import Settings, SimState
from .world import ViewPoint, finite

__all__ = ["SimState", "Simulator", "SimulatorError", "ViewPoint"]


class Simulator(Settings):
    """One environment."""

    def init(self) -> None:
        """Same as ``initialize``."""
        self.initialize()

    def newEpisode(
        self, scanId: str, viewpointId: str = "", heading: float = 0.0, elevation: float = 0.0
    ) -> None:
        """Start at a viewpoint, a random one if its id is empty; angles in radians.

        Raises:
            SimulatorError: a scan or viewpoint that does not exist, or an angle that is not finite;
                the state has not changed then.
        """
        angles = finite("heading", heading, 0), finite("elevation", elevation, 0)
        self._start([(self._node(scanId, viewpointId), *angles)])

    def makeAction(self, index: int, heading: float, elevation: float) -> None:
        """Go to a navigable location (0 stays), then turn; angles in radians.

        Raises:
            SimulatorError: an index that is not listed, or an angle that is not finite; the state
                has not changed then.
        """
        self._act((index,), (heading,), (elevation,))

    def getState(self) -> SimState:
        """A snapshot: later actions do not change it."""
        self._check_playing("getState")
        return self._states[0].copy()
