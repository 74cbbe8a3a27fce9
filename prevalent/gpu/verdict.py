"""One process a project: checks on a device, one printed table, one record.

The same file in the three projects; what is checked stands in `check.py` beside it. A check gives a
value and perhaps a limit; one that fails or raises does not end the others, and one that this
machine cannot make says so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Check:
    """A line of the table."""

    name: str
    value: str
    floor: str  # what it is held against
    passed: bool | None  # None: it says something and has no limit, or it was not run
    seconds: float


class NotHere(Exception):
    """This machine cannot make the check; the text says why."""


class Verdict:
    """The checks of one project on one device, within a time.

    Args:
        project: its name.
        device: ``cuda`` or ``cpu``.
        seconds: after which no further check begins.
        work: an empty folder for runs.
    """

    def __init__(self, project: str, device: torch.device, seconds: float, work: Path) -> None:
        self.project, self.device, self.seconds, self.work = project, device, seconds, work
        self.checks: list[Check] = []
        self._began = time.monotonic()

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def check(
        self, name: str, measure: Callable[[], Any], *, limit: float | None = None,
        unit: str = "", more: bool = False,
    ) -> Any:  # fmt: skip
        """Run ``measure``; its result must not be above ``limit`` (with ``more``: not below).

        A result that is no number only has to come. Returns it, or None.
        """
        began, value, passed, shown = time.monotonic(), None, None, ""
        if began - self._began > self.seconds:
            shown = f"not run: the {self.seconds:.0f} s are over"
        else:
            try:
                with contextlib.redirect_stderr(io.StringIO()) as printed:
                    value = measure()
                number = isinstance(value, int | float) and not isinstance(value, bool)
                shown = f"{value:.4g}{unit}" if number else str(value)
                passed = True
                if number and limit is not None:
                    passed = value >= limit if more else value <= limit
                elif number:
                    passed = None
            except NotHere as reason:
                shown = f"not run: {reason}"
            except BaseException as error:  # the other checks go on
                if isinstance(error, KeyboardInterrupt):
                    raise
                text = " ".join(str(error).split()) or type(error).__name__
                last = (printed.getvalue().strip().splitlines() or [""])[-1]
                shown = f"{type(error).__name__}: {text} {last}"[:300]
                passed = False
        floor = "" if limit is None else f"{'>=' if more else '<='} {limit:g}{unit}"
        check = Check(name, shown, floor, passed, round(time.monotonic() - began, 2))
        self.checks.append(check)
        print(f"{self.project}: {name}: {check.value}", file=sys.stderr, flush=True)
        return value

    def table(self) -> str:
        """Check, value, floor, pass."""
        words = {True: "yes", False: "**NO**", None: ""}
        rows = [("check", "value", "floor", "pass"), ("---",) * 4]
        rows += [
            (one.name, one.value.replace("|", "/"), one.floor, words[one.passed])
            for one in self.checks
        ]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def record(self) -> dict[str, Any]:
        """All that has to be known of the machine, and the checks."""
        return {
            "project": self.project,
            **machine(self.device),
            "seconds": round(time.monotonic() - self._began, 1),
            "checks": [asdict(check) for check in self.checks],
        }


def machine(device: torch.device) -> dict[str, Any]:
    """Device, driver and versions."""
    found: dict[str, Any] = {"device": platform.processor() or platform.machine(), "driver": None}
    if device.type == "cuda":
        found = {"device": torch.cuda.get_device_name(device), "driver": _driver()}
    return {
        **found,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "transformers": _version("transformers"),
        "python": platform.python_version(),
        "commit": _printed("git", "-C", str(FOLDER), "rev-parse", "--short", "HEAD"),
        "date": time.strftime("%Y-%m-%d"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    return _printed("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def _printed(*words: str) -> str | None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


# Ways to measure


def milliseconds(step: Callable[[], Any], device: torch.device, *, steps: int, warm: int) -> float:
    """The median of ``steps`` calls after ``warm`` others, each waited for."""
    times = []
    for number in range(warm + steps):
        wait(device)
        began = time.perf_counter()
        step()
        wait(device)
        if number >= warm:
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gib(step: Callable[[], Any], device: torch.device) -> float:
    """The largest allocation of one call, in GiB."""
    if device.type != "cuda":
        raise NotHere("peak memory is counted on a CUDA device")
    torch.cuda.reset_peak_memory_stats(device)
    step()
    wait(device)
    return torch.cuda.max_memory_allocated(device) / 2**30


def busy(step: Callable[[], Any], device: torch.device) -> float:
    """Share of a step's time, in percent, in which the device computes or copies."""
    if device.type != "cuda":
        raise NotHere("kernels are timed on a CUDA device")
    step()
    wait(device)
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        began = time.perf_counter()
        step()
        wait(device)
        seconds = time.perf_counter() - began
    spent = sum(event.self_device_time_total for event in profile.key_averages())  # microseconds
    return 1e-4 * spent / seconds


def synchronisations(step: Callable[[], Any], device: torch.device) -> str:
    """How often the host waits in a step, and the lines where it does."""
    if device.type != "cuda":
        raise NotHere("CUDA reports them; the tests count them on a CPU")
    step()
    wait(device)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines = [f"{Path(one.filename).name}:{one.lineno}" for one in found]
    several = [f"{name} x {lines.count(name)}" for name in dict.fromkeys(lines)]
    return f"{len(lines)}: {', '.join(several) or 'none'}"


def command(main: Callable[[Sequence[str]], Any], words: str) -> str:
    """Run a command of the project in this process; raises where it does not end well."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main(words.split())
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"`{words}` ended with status {ended.code}") from None
    return "runs"


def apart(one: Any, other: Any) -> float:
    """Largest difference of two tensors, or of all tensors of two sequences, over 1 + |other|."""
    pairs = [(one, other)] if isinstance(one, torch.Tensor) else list(zip(one, other, strict=True))
    return max(
        float(((a.double().cpu() - b.double().cpu()).abs() / (1 + b.double().cpu().abs())).max())
        for a, b in pairs
    )


def tests_for_devices(device: torch.device) -> str:
    """The tests marked ``gpu``, recorded cases among them; on a CPU those recorded cases alone."""
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    words += ["-m", "gpu"] if device.type == "cuda" else ["-m", "golden", "-k", "cpu"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=FOLDER, timeout=120)
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    if done.returncode:
        raise RuntimeError(last)
    return last


@contextlib.contextmanager
def _device(name: str) -> Iterator[torch.device]:
    if name == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: PyTorch sees no CUDA device here; --device cpu runs the same code")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield torch.device(name)


def main(project: str, fill: Callable[[Verdict], None]) -> None:
    """Make the checks of ``fill``, print the table, write the record; status 1 if one failed."""
    parser = argparse.ArgumentParser(description=f"Check {project} on the device of this machine.")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=140, help="no check begins after them")
    parser.add_argument("--output", type=Path, help="the record; by default evidence/gpu.json")
    options = parser.parse_args()
    with _device(options.device) as device, tempfile.TemporaryDirectory() as scratch:
        verdict = Verdict(project, device, options.seconds, Path(scratch))
        here = os.getcwd()
        os.chdir(scratch)  # presets write below the present folder
        try:
            fill(verdict)
        finally:
            os.chdir(here)
        record = verdict.record()
    print(verdict.table())
    failed = [check.name for check in verdict.checks if check.passed is False]
    unseen = sum(check.value.startswith("not run") for check in verdict.checks)
    print(f"\n{record['device']}: {len(failed)} failed, {unseen} not run, {record['seconds']} s")
    # A CPU is no evidence of a device: there the record goes beside the runs.
    where = FOLDER / ("evidence/gpu.json" if device.type == "cuda" else "runs/gpu_on_cpu.json")
    target = options.output or where
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(1 if failed else 0)
