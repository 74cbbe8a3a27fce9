"""Write docs/benchmarks.md from the benchmarks' records, or docs/results.md from the reports.

    python tools/collect.py benchmarks
    python tools/collect.py results --bin .venv/bin --runs runs

Standard library only; `make bench` and `make report` call it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"optimus": "optimus", "fq-gan": "fqgan", "prevalent": "prevalent"}
HEADER = ("benchmark", "plain", "ours", "ratio", "target", "", "floor", "share", "memory")


def git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return done.stdout.strip()


def origin() -> str:
    """Commit, date and machine of what is collected."""
    changed = " with uncommitted changes" if git("status", "--porcelain", "-uno") else ""
    commit = git("rev-parse", "--short", "HEAD") or "unknown commit"
    return f"Collected at {commit}{changed}, on {processor()}, Python {platform.python_version()}."


def processor() -> str:
    """The name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.machine()


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    return f"{value:,.0f}{unit}" if value >= 1000 else f"{value:.3g}{unit}"


def row_of(record: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table; a floor's share is of our time."""
    unit = f" {record.get('unit', 's')}"
    target, ratio, floor = record.get("target"), record["ratio"], record.get("floor")
    # Without a ratio, what ours adds was too little to be measured.
    met = "" if target is None else "met" if ratio is None or ratio >= target else "**missed**"
    return (
        record["what"],
        number(record.get("plain"), unit),
        number(record.get("ours"), unit),
        number(ratio),
        number(target),
        met,
        number(floor, unit),
        "" if floor is None else f"{floor / record['ours']:.0%}",
        "" if record.get("memory_ratio") is None else f"{record['memory_ratio']:.0%}",
    )


def benchmarks(_: argparse.Namespace) -> str:
    """All records below ``*/benchmarks/results``; raises ``SystemExit`` where there is none."""
    parts = [
        "# Benchmarks",
        "The plain way (the straightforward implementation the authors used, made anew in each "
        "benchmark) against ours, in turn in one run. *Floor*: our time if it were nothing but its "
        "matrix products and convolutions at the best speed of a large product on the same core; "
        "*share*: floor / ours; *memory*: our peak / the plain one. Each project's "
        "`docs/benchmarks.md` describes the configurations and says what bounds the rest.",
        origin(),
    ]
    for project in COMMANDS:
        rows = []
        for path in sorted((ROOT / project / "benchmarks" / "results").glob("*.json")):
            content = json.loads(path.read_text())
            rows += [row_of(record) for record in content.get("headline", [])]
        page = f"[{project}/docs/benchmarks.md](../{project}/docs/benchmarks.md)"
        state = table(HEADER, rows) + "\n\n" if rows else ""
        parts.append(f"## {project}\n\n{state}Benchmarks without a row here: {page}.")
    return "\n\n".join(parts) + "\n"


def results(options: argparse.Namespace) -> str:
    """The reports of all projects, one below the other, and the curves of the runs."""
    parts = [
        "# Published figures and ours",
        "A figure in the column *published* is the paper's, with the confidence with which it is "
        "known; *ours* is `not run` where the row's script was not run. Random or small features "
        "and toy data give figures that compare with no paper.",
        origin(),
    ]
    for project, command in COMMANDS.items():
        words = [str(options.bin / command), "report", "--runs", str(options.runs)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT / project)
        if done.returncode:
            sys.exit(f"{' '.join(words)} failed: {done.stderr.strip()}")
        text = re.sub(r"^#+ Published figures and ours\n", "", done.stdout.strip())
        highest = min(map(len, re.findall(r"^#+(?= )", text, flags=re.MULTILINE)), default=3)
        deeper = "#" * (3 - highest)
        text = re.sub(r"^(#+ )", rf"{deeper}\1", text.strip(), flags=re.MULTILINE)
        parts.append(f"## {project}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["benchmarks", "results"])
    parser.add_argument("--bin", type=Path, default=Path(sys.executable).parent)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    options = parser.parse_args()
    options.runs = options.runs.resolve()
    text = benchmarks(options) if options.what == "benchmarks" else results(options)
    target = ROOT / "docs" / f"{options.what}.md"
    target.write_text(text)
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
