"""The environment's side of an R2R roll-out alone: the plain way against the batched tables.

Observations, candidates, teacher, moves and shaped rewards of teacher walks, without features and
networks. The plain way is the authors': one agent after the other with dictionaries, candidates
kept after the first sweep over 36 views; its caches are warm.

    python benchmarks/environment_side.py [--connectivity data/connectivity]
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from observations import PlainEnvironment, tasks_of
from records import default_connectivity, headline, write_record

from prevalent.data.features import FeatureStore
from prevalent.environments.navigation import Episode, NavigationEnvironment
from prevalent.objectives import shaped_rewards
from prevalent.simulator import Graphs
from prevalent.simulator.geometry import nearest_view

TARGET = 20.0  # the ratio this benchmark is held against


def plain_walk(plain: PlainEnvironment, tasks: list[Episode], max_actions: int) -> float:
    """Follow the teacher, one agent after the other; returns the sum of rewards."""
    graphs, total = plain.graphs, 0.0
    nodes = [graphs.node(task.scan, task.path[0]) for task in tasks]
    goals = [graphs.node(task.scan, task.path[-1]) for task in tasks]
    views = [int(nearest_view(task.heading, 0.0)) for task in tasks]
    ended = [False] * len(tasks)
    states = zip(nodes, views, goals, strict=True)
    seen = [plain.observe(*state) for state in states]
    for _ in range(max_actions):
        for i in range(len(tasks)):
            targets = [one["target"] for one in seen[i]["candidate"]]
            ahead = seen[i]["teacher"]
            if not ended[i] and ahead in targets:
                nodes[i] = ahead
                views[i] = seen[i]["candidate"][targets.index(ahead)]["pointId"]
        after = [plain.observe(*state) for state in zip(nodes, views, goals, strict=True)]
        for i in range(len(tasks)):
            if ended[i]:
                continue
            if (
                seen[i]["teacher"]
                == goals[i]
                == nodes[i]
                == graphs.node(tasks[i].scan, seen[i]["viewpoint"])
            ):
                total += 2.0 if after[i]["distance"] < 3.0 else -2.0
                ended[i] = True
            else:
                total += float(np.sign(seen[i]["distance"] - after[i]["distance"]))
        seen = after
        if all(ended):
            break
    return total


def our_walk(environment: NavigationEnvironment, tasks: list[Episode], max_actions: int) -> float:
    """The same in arrays over the batch."""
    seen, total = environment.reset(tasks), 0.0
    ended = np.zeros(len(tasks), dtype=bool)
    for _ in range(max_actions):
        stopped = (seen.teacher == seen.count) | ended
        after = environment.step(np.where(stopped, -1, seen.teacher))
        total += float(shaped_rewards(seen.distance, after.distance, stopped, ended).sum())
        seen, ended = after, ended | stopped
        if ended.all():
            break
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--connectivity", type=Path)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[20, 64])
    parser.add_argument("--max-actions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    graphs = Graphs.load(args.connectivity or default_connectivity())
    # The plain observation copies features; one number a view keeps that out of the figures.
    store = FeatureStore(["0"], np.zeros((1, 36, 1), dtype=np.float32))
    store.rows = {graphs.long_id(n): 0 for n in range(len(graphs.viewpoints))}
    rows, lines = [], []
    for batch in args.batch_sizes:
        tasks = tasks_of(graphs, batch, np.random.default_rng(batch))
        plain, ours = PlainEnvironment(graphs, store, 4), NavigationEnvironment(graphs, store.rows)
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for round_ in range(args.rounds + 1):
            began = time.process_time()
            expected = plain_walk(plain, tasks, args.max_actions)
            middle = time.process_time()
            repeats = 20  # one walk is too short for the clock
            for _ in range(repeats):
                found = our_walk(ours, tasks, args.max_actions)
            if abs(found - expected) > 1e-6:
                raise RuntimeError(f"rewards differ: plain {expected}, ours {found}")
            if round_:  # the first round warms the caches
                times["plain"].append(middle - began)
                times["ours"].append((time.process_time() - middle) / repeats)
        rates = {name: batch / statistics.median(own) for name, own in times.items()}
        ratio = rates["ours"] / rates["plain"]
        for name, own in times.items():
            spread = (max(own) - min(own)) / statistics.median(own)
            print(f"B={batch:3} {name:6} {rates[name]:10,.0f} episodes/s  spread {spread:.0%}")
        print(f"B={batch:3} ratio {ratio:.1f} (target {TARGET:g})")
        rows.append({"batch": batch, "ratio": ratio, "episodes_per_s": rates, "seconds": times})
        title = f"environment side of teacher walks, B = {batch}"
        plain, ours = rates["plain"], rates["ours"]
        lines.append(headline(title, plain, ours, "episodes/s", ratio, target=TARGET))
    write_record(args.json, "environment_side", lines, cases=rows)


if __name__ == "__main__":
    main()
