"""Write docs/benchmarks.md from the benchmarks' records, or docs/results.{md,html} from the reports.

    python tools/collect.py benchmarks
    python tools/collect.py results --runs runs

`make bench` and `make report` call it. The benchmarks need the standard library only, the results an
environment with the three packages.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"optimus": "optimus", "fq-gan": "fqgan", "prevalent": "prevalent"}
HEADER = (
    "benchmark",
    "plain",
    "ours",
    "ratio",
    "target",
    "",
    "floor",
    "share",
    "memory",
)


def git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True
    )
    return done.stdout.strip()


def origin() -> str:
    """Commit, date and machine of what is collected."""
    changed = (
        " with uncommitted changes" if git("status", "--porcelain", "-uno") else ""
    )
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
    met = (
        ""
        if target is None
        else "met"
        if ratio is None or ratio >= target
        else "**missed**"
    )
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
    """A summary of all tables, then the reports of the projects; the same as a page beside it."""
    from optimus.runtime.report import LEGEND, in_short, markdown, page, summary_table

    comparisons = []
    for project, command in COMMANDS.items():
        report = importlib.import_module(f"{command}.report")
        config = report.ReportConfig(
            runs=next(
                (one for one in (ROOT / project / "runs", options.runs) if one.is_dir()),
                Path("runs"),
            ),
            published=ROOT / project / "published",
            evidence=ROOT / project / "evidence",
        )
        comparisons.append((project, report.comparison(config)))
    target = ROOT / "docs" / "results.html"
    target.write_text(page(comparisons, origin()))
    summaries = [
        (project, summary)
        for project, comparison in comparisons
        for summary in comparison.summaries()
    ]
    parts = [
        "# Published figures and ours",
        f"{in_short(comparisons)} How far each table is met and what the rest needs, with the command "
        "for the project's folder; the same can be sorted and filtered in "
        "[results.html](results.html), one file without network.",
        summary_table(summaries) + "\n" + LEGEND,
        origin(),
        "![The page](pictures/report.png)",
    ]
    for project, comparison in comparisons:
        parts.append(f"## {project}\n\n{markdown(comparison, level=2)}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["benchmarks", "results"])
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs", help="where PROJECT/runs is not"
    )
    options = parser.parse_args()
    options.runs = options.runs.resolve()
    text = benchmarks(options) if options.what == "benchmarks" else results(options)
    target = ROOT / "docs" / f"{options.what}.md"
    target.write_text(text)
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
