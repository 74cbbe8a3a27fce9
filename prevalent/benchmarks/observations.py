"""Panoramic observations per second: the plain way against the batched environment.

The plain way is the authors': one simulator per agent, candidates found by turning it through 36
views at the first visit, one dictionary per agent and step, features copied row by row. It is
re-created here on our single simulator and on plain Python tables of the graph, whichever is
faster. Both ways end with the arrays that a decoder takes.

    python benchmarks/observations.py [--connectivity data/connectivity]
"""

import argparse
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from records import default_connectivity, headline, write_record

from prevalent.data.features import DeviceFeatures, FeatureStore
from prevalent.environments.navigation import Episode, NavigationEnvironment
from prevalent.simulator import Graphs
from prevalent.simulator.geometry import angle_features, angle_table

HALF_ANGLE = math.radians(40)
TARGET = 10.0  # the ratio this benchmark is held against


class PlainEnvironment:
    """One agent after the other, with dictionaries, as a straightforward port would do it."""

    def __init__(self, graphs: Graphs, store: FeatureStore, angle_size: int) -> None:
        self.graphs, self.store, self.angle_size = graphs, store, angle_size
        self.angles = angle_table(angle_size)
        self.cache: dict[int, list[dict[str, Any]]] = {}
        self.places = graphs.positions.tolist()
        self.near = [row[row >= 0].tolist() for row in graphs.neighbors]

    def navigable(self, node: int, view: int) -> list[tuple[int, float, float]]:
        """(node, relative heading, relative elevation) of the neighbors in one view."""
        heading, elevation = (view % 12) * math.pi / 6, (view // 12 - 1) * math.pi / 6
        x, y, z = self.places[node]
        found = []
        for other in self.near[node]:
            dx, dy, dz = (a - b for a, b in zip(self.places[other], (x, y, z), strict=True))
            turn = (math.pi / 2 - math.atan2(dy, dx) - heading + math.pi) % (2 * math.pi) - math.pi
            if abs(turn) <= HALF_ANGLE:
                found.append((other, turn, math.atan2(dz, math.hypot(dx, dy)) - elevation))
        return sorted(found, key=lambda place: math.hypot(*place[1:]))

    def sweep(self, node: int) -> list[dict[str, Any]]:
        """Candidates by looking through the 36 views."""
        best: dict[int, dict[str, Any]] = {}
        for view in range(36):
            for slot, (other, turn, up) in enumerate(self.navigable(node, view), start=1):
                near = math.hypot(turn, up)
                if other not in best or near < best[other]["distance"]:
                    best[other] = {
                        "target": other,
                        "heading": (view % 12) * math.pi / 6 + turn,
                        "elevation": (view // 12 - 1) * math.pi / 6 + up,
                        "pointId": view,
                        "idx": slot,
                        "distance": near,
                    }
        return list(best.values())

    def observe(self, node: int, view: int, goal: int) -> dict[str, Any]:
        """One agent's dictionary."""
        if node not in self.cache:
            self.cache[node] = self.sweep(node)
        images = self.store.array[self.store.rows[self.graphs.long_id(node)]]
        candidates = []
        for kept in self.cache[node]:
            heading = kept["heading"] - (view % 12) * math.pi / 6
            angle = angle_features(heading, kept["elevation"], self.angle_size)
            feature = np.concatenate([images[kept["pointId"]], angle])
            candidates.append({**kept, "heading": heading, "feature": feature})
        return {
            "viewpoint": self.graphs.viewpoints[node],
            "viewIndex": view,
            "candidate": candidates,
            "navigableLocations": self.navigable(node, view),
            "feature": np.concatenate([images, self.angles[view]], axis=1),
            "teacher": int(self.graphs.next_hop(node, goal)),
            "distance": float(self.graphs.distance(node, goal)),
        }

    def collate(self, batch: list[dict[str, Any]]) -> list[torch.Tensor]:
        """The arrays that a decoder takes."""
        width = self.store.width + self.angle_size
        panorama = np.empty((len(batch), 36, width), dtype=np.float32)
        most = max(len(entry["candidate"]) for entry in batch) + 1
        candidates = np.zeros((len(batch), most, width), dtype=np.float32)
        teacher = np.empty(len(batch), dtype=np.int64)
        for i, entry in enumerate(batch):
            panorama[i] = entry["feature"]
            targets = []
            for j, candidate in enumerate(entry["candidate"]):
                candidates[i, j] = candidate["feature"]
                targets.append(candidate["target"])
            ahead = entry["teacher"]
            teacher[i] = targets.index(ahead) if ahead in targets else len(targets)
        return [torch.from_numpy(part) for part in (panorama, candidates, teacher)]


def gather(device: DeviceFeatures, seen: Any) -> list[torch.Tensor]:
    """The arrays that a decoder takes, from a batched observation."""
    images = device.images(seen.row)
    panorama = torch.cat([images, device.angles[torch.from_numpy(seen.view)]], dim=-1)
    parts = (seen.row, seen.candidate_view, seen.candidate_angle)
    return [panorama, device.candidates(*parts, images=images), torch.from_numpy(seen.teacher)]


def tasks_of(graphs: Graphs, batch: int, rng: np.random.Generator) -> list[Episode]:
    tasks = []
    for scan in rng.choice(graphs.scans, batch):
        names = [graphs.viewpoints[n] for n in rng.choice(graphs.connected(scan), 2, replace=False)]
        tasks.append(Episode(str(scan), tuple(names), float(rng.uniform(0, 6))))
    return tasks


def measure(
    graphs: Graphs, store: FeatureStore, tasks: list[Episode], args: argparse.Namespace
) -> dict[str, list[float]]:
    """CPU seconds per observation of every way, one entry per round, taking turns."""
    batch = len(tasks)
    times: dict[str, list[float]] = {}
    device = DeviceFeatures(store, angle_size=args.angle_size)
    for _ in range(args.rounds):
        plain = PlainEnvironment(graphs, store, args.angle_size)
        ours = NavigationEnvironment(graphs, store.rows)
        seen = ours.reset(tasks)
        steps = []
        for _ in range(args.steps):
            steps.append(seen)
            seen = ours.step(np.minimum(seen.teacher, seen.count - 1))
        for name, collated in (("first visit", False), ("cached", False), ("cached", True)):
            began = time.process_time()
            for one in steps:
                states = zip(one.node.tolist(), one.view.tolist(), ours.goal.tolist(), strict=True)
                made = [plain.observe(*state) for state in states]
                if collated:
                    plain.collate(made)
            kind = f"plain, {name}" + (", collated" if collated else "")
            times.setdefault(kind, []).append(time.process_time() - began)
        ours.reset(tasks)
        began = time.process_time()
        for one in steps:
            ours.step(np.minimum(one.teacher, one.count - 1))
        times.setdefault("ours", []).append(time.process_time() - began)
        began = time.process_time()
        for one in steps:
            gather(device, one)
        gathered = time.process_time() - began + times["ours"][-1]
        times.setdefault("ours, collated on the CPU", []).append(gathered)
    return {name: [t / (batch * args.steps) for t in own] for name, own in times.items()}


def compare(case: str, plain: float, ours: float) -> dict[str, Any]:
    """Print and return one comparison of observations per second."""
    print(f"{case}: ours {ours / plain:.1f} times as fast, target {TARGET:g}")
    return headline(f"observations, {case}", plain, ours, "/s", ours / plain, target=TARGET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connectivity", type=Path, default=default_connectivity())
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[20, 64])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--angle-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    graphs = Graphs.load(args.connectivity)
    # A few panoramas are shared by all viewpoints, so that the table fits small machines.
    shared = np.random.default_rng(0).standard_normal((64, 36, args.width), dtype=np.float32)
    store = FeatureStore([str(i) for i in range(64)], shared)
    store.rows = {graphs.long_id(n): n % 64 for n in range(len(graphs.viewpoints))}
    rows, lines = [], []
    for batch in args.batch_sizes:
        times = measure(graphs, store, tasks_of(graphs, batch, np.random.default_rng(1)), args)
        for name, own in times.items():
            middle = statistics.median(own)
            spread = (max(own) - min(own)) / middle
            print(f"B={batch:4} {name:28} {1 / middle:12,.0f} observations/s  spread {spread:.0%}")
            rows.append({"batch": batch, "way": name, "observations_per_s": 1 / middle})
            rows[-1]["spread"] = spread
        speed = {name: 1 / statistics.median(own) for name, own in times.items()}
        for plain in ("plain, first visit", "plain, cached"):
            lines.append(compare(f"B = {batch}, {plain}", speed[plain], speed["ours"]))
        plain = "plain, cached, collated"
        ours = speed["ours, collated on the CPU"]
        lines.append(compare(f"B = {batch}, {plain}", speed[plain], ours))
    write_record(args.json, "observations", lines, cases=rows)


if __name__ == "__main__":
    main()
