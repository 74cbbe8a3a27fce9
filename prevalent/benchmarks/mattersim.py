"""The drop-in for MatterSim: start-up, memory and speed of many simulators.

The plain way gives every simulator its own graphs and tables; ours shares them. The C++ figures
are those of MatterSim built with g++ -O3, rendering off (medians on two Xeon cores), quoted.

    python benchmarks/mattersim.py [--connectivity data/connectivity] [--simulators 64]
"""

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from records import default_connectivity, headline, write_record

import prevalent.MatterSim as MatterSim
import prevalent.MatterSim.v1 as MatterSimV1
from prevalent.simulator import Simulator
from prevalent.simulator.graph import load_graphs

CPP = {"one environment each": 148_900, "one batch": 131_900}  # steps/s with states, B = 64


def resident() -> float:
    """Resident memory of this process in MB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def configured(kind: Any, folder: Path, batch: int = 1) -> Any:
    """A simulator as most code bases set it."""
    simulator = kind()
    simulator.setNavGraphPath(str(folder))
    simulator.setRenderingEnabled(False)
    simulator.setDiscretizedViewingAngles(True)
    simulator.setCameraResolution(640, 480)
    simulator.setCameraVFOV(math.radians(60))
    if batch > 1:
        simulator.setBatchSize(batch)
    simulator.initialize()
    return simulator


def start_shared(folder: Path, count: int) -> list[Any]:
    return [configured(MatterSimV1.Simulator, folder) for _ in range(count)]


def start_apart(folder: Path, count: int) -> list[Any]:
    return [Simulator(load_graphs(folder)) for _ in range(count)]


STARTS = {"shared": start_shared, "apart": start_apart}


def start(way: str, folder: Path, count: int) -> tuple[float, float]:
    """Seconds and MB of starting ``count`` simulators in this process."""
    before, began = resident(), time.perf_counter()
    simulators = STARTS[way](folder, count)
    seconds = time.perf_counter() - began
    assert len(simulators) == count
    return seconds, resident() - before


def start_anew(way: str, args: argparse.Namespace, count: int) -> tuple[float, float]:
    """The median seconds and MB of ``start`` in fresh processes."""
    words = [sys.executable, __file__, "--only", way, "--simulators", str(count)]
    words += ["--connectivity", str(args.connectivity)]
    found = []
    for _ in range(args.rounds):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found.append([float(word) for word in done.stdout.split()[-2:]])
    seconds, memory = zip(*found, strict=True)
    return statistics.median(seconds), statistics.median(memory)


def speed(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Agent-steps per CPU second: read the states, turn right, every third step move."""
    singles = start_shared(folder, count)
    batch = configured(MatterSim.Simulator, folder, count)
    scans = sorted(load_graphs(folder).scans)
    scans = [scans[i % len(scans)] for i in range(count)]
    for simulator, scan in zip(singles, scans, strict=True):
        simulator.newEpisode(scan)
    batch.newRandomEpisode(scans)
    right, level, found = [1.0] * count, [0.0] * count, {}
    times: dict[str, list[float]] = {name: [] for name in CPP}
    for _ in range(rounds + 1):  # the first round fills the caches
        began = time.process_time()
        for t in range(100):
            for simulator in singles:
                places = simulator.getState().navigableLocations
                simulator.makeAction(int(t % 3 == 0 and len(places) > 1), 1.0, 0.0)
        times["one environment each"].append(time.process_time() - began)
        began = time.process_time()
        for t in range(100):
            states = batch.getState()
            moves = [int(t % 3 == 0 and len(one.navigableLocations) > 1) for one in states]
            batch.makeAction(moves, right, level)
        times["one batch"].append(time.process_time() - began)
    for name, seconds in times.items():
        found[name] = 100 * count / statistics.median(seconds[1:])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connectivity", type=Path, default=None)
    parser.add_argument("--simulators", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=list(STARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.connectivity = args.connectivity or default_connectivity()
    load_graphs(args.connectivity)  # so that the disk cache is there
    if args.only:
        print(*start(args.only, args.connectivity, args.simulators))
        return
    count = args.simulators
    seconds, memory = start_anew("shared", args, count)
    plain_seconds, plain_memory = start_anew("apart", args, count)
    lines = [
        headline(f"start-up of {count} simulators", plain_seconds, seconds, "s",
                 plain_seconds / seconds, memory_ratio=plain_memory / memory),
        headline(f"memory of {count} simulators", plain_memory, memory, "MB",
                 plain_memory / memory),
    ]  # fmt: skip
    for name, ours in speed(args.connectivity, count, 3 * args.rounds).items():
        title = f"MatterSim's interface, {name}, B = {count} (C++ as quoted)"
        lines.append(headline(title, CPP[name], ours, "/s", ours / CPP[name]))
    for line in lines:
        plain, ours = line["plain"], line["ours"]
        print(
            f"{line['what']:70} {plain:12,.2f} {ours:12,.2f} {line['unit']:3} {line['ratio']:7.2f}"
        )
    write_record(args.json, "mattersim", lines)


if __name__ == "__main__":
    main()
