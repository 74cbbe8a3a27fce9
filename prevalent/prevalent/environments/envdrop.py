"""Observations in the authors' form: one dictionary per agent, features included.

Slow and only for comparison; the arrays of ``navigation.Observation`` hold the same facts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulator.geometry import AngleLayout, angle_features, angle_table
from ..simulator.simulator import Simulator
from .navigation import NavigationEnvironment, Observation


class DictionaryObservations:
    """Turns batched observations into EnvDrop's dictionaries.

    Args:
        environment: whose state is read.
        table: image features (R, 36, D) addressed by ``Observation.row``; None leaves them out.
        angle_size: width of the encoded angles.
        layout: of the encoded angles.
        first_visit_keys: as in the original, candidates carry ``normalized_heading`` and
            ``distance`` at the first visit of a viewpoint only; by default they always do.
    """

    def __init__(
        self,
        environment: NavigationEnvironment,
        table: NDArray[np.float32] | None = None,
        *,
        angle_size: int = 128,
        layout: AngleLayout = "interleaved",
        first_visit_keys: bool = False,
    ) -> None:
        self.environment = environment
        self.table = table
        self.angle_size = angle_size
        self.layout: AngleLayout = layout
        self.first_visit_keys = first_visit_keys
        self._angles = angle_table(angle_size, layout)
        self._visited: set[int] = set()

    def build(self, observation: Observation) -> list[dict[str, Any]]:
        """One dictionary per agent."""
        simulator = Simulator(self.environment.graphs)
        simulator.start(observation.node, observation.heading, observation.elevation)
        seen = simulator.navigable()
        result = []
        for i, task in enumerate(self.environment.tasks):
            viewpoints = self.environment.graphs.viewpoints
            places = [
                (viewpoints[seen.node[i, j]], seen.heading[i, j], seen.elevation[i, j],
                 seen.distance[i, j])
                for j in range(seen.count[i])
            ]  # fmt: skip
            teacher, count = observation.teacher[i], observation.count[i]
            ahead = observation.target[i, teacher] if teacher < count else observation.node[i]
            entry: dict[str, Any] = {
                "instr_id": task.id,
                "scan": task.scan,
                "viewpoint": viewpoints[observation.node[i]],
                "viewIndex": int(observation.view[i]),
                "heading": float(observation.heading[i]),
                "elevation": float(observation.elevation[i]),
                "candidate": self._candidates(observation, i),
                "navigableLocations": places,
                "teacher": viewpoints[ahead],
                "distance": float(observation.distance[i]),
            }
            if self.table is not None:
                entry["feature"] = self._panorama(observation, i)
            result.append(entry)
        return result

    def _panorama(self, observation: Observation, i: int) -> NDArray[np.float32]:
        assert self.table is not None
        images = np.asarray(self.table[observation.row[i]], dtype=np.float32)
        return np.concatenate([images, self._angles[observation.view[i]]], axis=1)

    def _candidates(self, observation: Observation, i: int) -> list[dict[str, Any]]:
        node = int(observation.node[i])
        found = self.environment.details(i)
        short = self.first_visit_keys and node in self._visited
        self._visited.add(node)
        graphs, entries = self.environment.graphs, []
        for j, target in enumerate(found.target):
            heading, elevation = float(found.heading[j]), float(found.elevation[j])
            entry: dict[str, Any] = {
                "heading": heading,
                "elevation": elevation,
                "scanId": graphs.scan_of(node),
                "viewpointId": graphs.viewpoints[target],
                "pointId": int(found.view[j]),
                "idx": int(found.slot[j]),
            }
            if not short:
                entry["normalized_heading"] = float(found.absolute_heading[j])
                entry["distance"] = float(found.distance[j])
            if self.table is not None:
                image = np.asarray(self.table[observation.row[i], found.view[j]], np.float32)
                angle = angle_features(heading, elevation, self.angle_size, self.layout)
                entry["feature"] = np.concatenate([image, angle])
            entries.append(entry)
        return entries
