"""Simulator speed in agent-steps per second, on one core.

The C++ figures are those of MatterSim built with g++ -O3, rendering off, on two Xeon cores with
AVX-512 (medians): they are quoted, not measured here.

    python benchmarks/simulator.py [--connectivity data/connectivity]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from records import default_connectivity, headline, write_record

from prevalent.environments.navigation import Episode, NavigationEnvironment
from prevalent.simulator import Graphs, Simulator
from prevalent.simulator.graph import candidates_of

CPP = {  # steps/s of the C++ simulator: single-environment API, batched API
    ("rotate", 1): (166_000, 89_300),
    ("rotate", 64): (210_300, 147_100),
    ("state and move", 1): (148_900, 87_600),
    ("state and move", 64): (163_200, 131_900),
}
TARGET = 500_000  # steps/s of 64 agents with their states
START_UP = {"warm distances": 1.0, "cold distances": 3.0}  # seconds that loading may take


def rate(work: Callable[[], None], count: int, rounds: int) -> tuple[float, float, float]:
    """Units per CPU second of ``work``: median, best, and the spread over rounds as a fraction."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    middle = statistics.median(times)
    return count / middle, count / min(times), (max(times) - min(times)) / middle


def loop_rotate(simulator: Simulator, batch: int, steps: int) -> None:
    index, right, level = np.zeros(batch, np.int64), np.ones(batch), np.zeros(batch)
    for _ in range(steps):
        simulator.step(index, right, level)


def loop_moves(simulator: Simulator, batch: int, steps: int) -> None:
    """Read the navigable list; every third step moves to its second entry where there is one."""
    right, level, stay = np.ones(batch), np.zeros(batch), np.zeros(batch, np.int64)
    for t in range(steps):
        seen = simulator.navigable()
        simulator.step(np.minimum(seen.count - 1, 1) if t % 3 == 0 else stay, right, level)


def loop_panorama(environment: NavigationEnvironment, steps: int) -> None:
    """Candidates, angles, teacher, distance and a move per step."""
    seen = environment.observe()
    for t in range(steps):
        seen = environment.step(t % np.maximum(seen.count, 1))
    environment.begin(environment.tasks)


def start_up(folder: Path) -> dict[str, float]:
    """Seconds to load all scans with all distances, without and with the disk cache."""
    result = {}
    with tempfile.TemporaryDirectory() as cache:
        for kind in ("cold", "warm"):
            began = time.perf_counter()
            graphs = Graphs.load(folder, cache_dir=Path(cache))
            result[f"{kind} distances"] = time.perf_counter() - began
            candidates_of(graphs)
            result[f"{kind} distances and candidates"] = time.perf_counter() - began
    return result


def against_cpp(what: str, speed: float) -> dict[str, Any]:
    """The line of 64 agents; the plain way is the faster of the two quoted figures."""
    plain = max(CPP.get((what, 64), (TARGET,)))
    known = (what, 64) in CPP
    title = f"simulator, {what}, B = 64 ({'C++ as quoted' if known else f'{TARGET:,}/s wanted'})"
    more = {} if what == "rotate" else {"target": TARGET / plain}
    return headline(title, plain if known else None, speed, "/s", speed / plain, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connectivity", type=Path, default=default_connectivity())
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    seconds = start_up(args.connectivity)
    for name, value in seconds.items():
        print(f"start-up, {name}: {value:.2f} s")
    graphs = Graphs.load(args.connectivity)
    rng = np.random.default_rng(0)
    rows = []
    lines = [
        headline(f"start-up, {name} ({most:g} s allowed)", None, seconds[name], "s",
                 most / seconds[name], target=1.0)
        for name, most in START_UP.items()
    ]  # fmt: skip
    head = f"{'what':16} {'B':>5} {'steps/s':>12} {'best':>12} {'spread':>7}"
    print(f"{head} {'C++ v1':>9} {'C++ v2':>9}")
    for batch in args.batch_sizes:
        scans = rng.choice(graphs.scans, batch)
        ends = [rng.choice(graphs.connected(scan), 2) for scan in scans]
        simulator, environment = Simulator(graphs), NavigationEnvironment(graphs)
        simulator.start(np.array([a for a, _ in ends]), 0.0)
        names = graphs.viewpoints
        environment.reset([Episode(graphs.scan_of(a), (names[a], names[b])) for a, b in ends])
        steps = min(max(60, 60_000 // batch), 6_000)
        for what, work in (
            ("rotate", partial(loop_rotate, simulator, batch, steps)),
            ("state and move", partial(loop_moves, simulator, batch, steps)),
            ("panoramic step", partial(loop_panorama, environment, steps)),
        ):
            speed, best, spread = rate(work, batch * steps, args.rounds)
            plain = CPP.get((what, batch), (None, None))
            shown = [f"{p:,}" if p else "-" for p in plain]
            found = f"{what:16} {batch:5} {speed:12,.0f} {best:12,.0f} {spread:7.0%}"
            print(f"{found} {shown[0]:>9} {shown[1]:>9}")
            rows.append({"what": what, "batch": batch, "steps_per_s": speed, "spread": spread})
            rows[-1] |= {"best": best, "cpp_single": plain[0], "cpp_batched": plain[1]}
            if batch == 64:
                lines.append(against_cpp(what, speed))
    write_record(args.json, "simulator", lines, start_up_s=seconds, cases=rows)


if __name__ == "__main__":
    main()
