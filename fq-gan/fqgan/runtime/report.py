"""The comparison as Markdown, and as one HTML page that sorts and filters and loads nothing."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .comparison import STATES, Comparison, Line, State, Summary, compare, difference
from .files import write_atomically
from .published import (
    Figure,
    Record,
    Result,
    Table,
    find_folder,
    markdown_table,
    read_evidence,
    read_tables,
)

LEGEND = (
    "*met*: of the published protocol, and equal to the printed digits, or the published figure "
    "lies in the range of our seeds or within two standard deviations; *differs*: of the published "
    "protocol, but neither; *run otherwise*: of another protocol, so that the two do not compare; "
    "the last columns say what they and those *not run* need. GPU hours: the scripts' estimates "
    "for 24 GB, reckoned at 30 TFLOP/s where they have none, or others' on the GPU named."
)
LONG = 40  # letters of a cell from which on its column is given room
REST = ("the rest needs", "GPU hours", "command")
COLOURS: dict[State, str] = {
    "met": "#2e7d32",
    "differs": "#c62828",
    "run otherwise": "#f9a825",
    "not run": "#cfd8dc",
}
STYLE = """
:root { --ink: #1c2733; --soft: #5b6b7a; --line: #dde3e9; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #f6f8fa; margin: 0; }
main { max-width: 1560px; margin: 0 auto; padding: 24px 28px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; }
p, .soft { color: var(--soft); margin: 4px 0 10px; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.scroll { overflow: auto; max-height: 78vh; padding: 0; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; padding: 5px 7px; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { position: sticky; top: 0; background: #eef2f6; cursor: pointer; white-space: nowrap;
  user-select: none; }
th::after { content: " \\2195"; color: #a9b6c2; }
th.up::after { content: " \\2191"; color: var(--ink); }
th.down::after { content: " \\2193"; color: var(--ink); }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font-size: 12.5px; background: #eef2f6; padding: 1px 4px; border-radius: 4px;
  overflow-wrap: anywhere; display: inline-block; min-width: 190px; }
td.long { min-width: 180px; }
.state { display: inline-block; padding: 0 8px; border-radius: 10px; color: #fff;
  white-space: nowrap; font-size: 12.5px; }
.tools { display: flex; flex-wrap: wrap; gap: 8px; margin: 10px 0; align-items: center; }
input, select { font: inherit; padding: 5px 8px; border: 1px solid var(--line); border-radius: 6px;
  background: #fff; }
input { flex: 1; min-width: 220px; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
"""
SCRIPT = """
for (const box of document.querySelectorAll("section.list")) {
  const body = box.querySelector("tbody"), rows = [...body.rows];
  const words = box.querySelector("input"), picks = [...box.querySelectorAll("select")];
  const count = box.querySelector(".count");
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = wanted.every(word => text.includes(word)) && picks.every(
        pick => !pick.value || row.cells[pick.dataset.column].textContent === pick.value);
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  words.addEventListener("input", show);
  picks.forEach(pick => pick.addEventListener("change", show));
  [...box.querySelectorAll("th")].forEach((head, column) => head.addEventListener("click", () => {
    const up = !head.classList.contains("up");
    box.querySelectorAll("th").forEach(other => other.classList.remove("up", "down"));
    head.classList.add(up ? "up" : "down");
    const value = row => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const order = (a, b) => typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b), "en", {numeric: true});
    rows.sort((a, b) => (up ? 1 : -1) * order(value(a), value(b)));
    body.append(...rows);
  }));
  show();
}
"""


RUNS = Path("runs")


@dataclass(frozen=True)
class ReportConfig:
    """Put the published figures and ours side by side."""

    runs: Path = RUNS
    """Folder searched for evaluations of runs: scripts/A/B.sh writes runs/A/B."""
    published: Path | None = None
    """Folder of the published figures; by default those of this project."""
    evidence: Path | None = None
    """Folder of our recorded results; by default those of this project."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["--out"])] = None
    """File to write: Markdown, or a page if its name ends in .html; by default standard output."""

    def __post_init__(self) -> None:
        if self.runs != RUNS and not self.runs.is_dir():
            raise FileNotFoundError(
                f"--runs {self.runs} is no folder; give the one of the runs, or leave it out"
            )


def open_comparison(
    config: ReportConfig, runs: Iterable[Result] = (), notes: Sequence[str] = ()
) -> Comparison:
    """The published figures with the recorded results and those of ``runs``.

    Raises:
        FileNotFoundError: there are no published figures.
    """
    published = config.published or find_folder("published")
    tables = read_tables(published)
    if not tables:
        raise FileNotFoundError(f"--published {published} holds no *.toml with figures")
    records = read_evidence(config.evidence or find_folder("evidence"))
    return compare(tables, records, runs, notes)


def write_report(config: ReportConfig, comparison: Comparison, project: str) -> None:
    """Write what ``config.output`` names, or print Markdown."""
    if config.output is None:
        print(markdown(comparison), end="")
    elif config.output.suffix in (".html", ".htm"):
        write_atomically(config.output, page([(project, comparison)]))
    else:
        write_atomically(config.output, markdown(comparison))


def in_short(comparisons: Iterable[tuple[str, Comparison]]) -> str:
    """One sentence."""
    summaries = [summary for _, comparison in comparisons for summary in comparison.summaries()]
    counts = sum((summary.counts for summary in summaries), Counter[State]())
    return (
        f"Of {counts.total()} published figures in {len(summaries)} tables {counts['met']} are "
        f"met, {counts['differs']} differ by the paper's protocol, {counts['run otherwise']} were "
        f"run by another one, and {counts['not run']} were not run."
    )


def open_figures(counts: Counter[State]) -> int:
    """Figures that nobody here has run by the published protocol."""
    return counts["run otherwise"] + counts["not run"]


def summary_table(summaries: Iterable[tuple[str, Summary]]) -> str:
    """A line for each (project, table), and their sum."""
    rows, sums = [], Counter[str]()
    for project, (table, count, counts) in summaries:
        sums.update({"rows": count} | dict(counts))
        name = f"{project} {table.label}".strip()
        cells = [counts[state] or "" for state in STATES]
        rest = [table.needs, table.hours, f"`{table.command}`" if table.command else ""]
        rest = rest if open_figures(counts) else ["", "", ""]
        rows.append([name, table.title, count, counts.total(), *cells, *rest])
    total = sum(sums[state] for state in STATES)
    rows.append(
        ["**all**", "", sums["rows"], total, *(sums[state] for state in STATES), "", "", ""]
    )
    head = ["table", "what", "rows", "figures", *STATES, *REST]
    return markdown_table(head, rows)


def markdown(comparison: Comparison, level: int = 1) -> str:
    """Summary, every table of the papers with ours, and our results that have no place there."""
    mark, parts = "#" * level, []
    summaries = [("", summary) for summary in comparison.summaries()]
    if level == 1:
        short = in_short([("", comparison)])
        parts += ["# Published figures and ours", short, summary_table(summaries) + "\n" + LEGEND]
    for table, lines in comparison.tables:
        parts.append(f"{mark}# {table.label}: {table.title}")
        parts.append(_matrix(table))
        parts.append(_sources(table))
        if compared := [_compared(line) for line in lines if line.state in ("met", "differs")]:
            head = ["row", "data", "metric", "published", "ours", "difference", "", "evidence"]
            parts.append(markdown_table(head, compared))
    if comparison.elsewhere:
        parts.append(f"{mark}# Ours, by other protocols or of no published row")
        parts.append(_elsewhere(comparison.elsewhere))
    if comparison.records:
        parts.append(f"{mark}# Where ours come from")
        parts.append(_provenance(comparison.records))
    parts += comparison.notes
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _matrix(table: Table) -> str:
    metrics = list(dict.fromkeys(figure.metric for figure in table.figures))
    columns = sorted(
        {(figure.data, figure.metric) for figure in table.figures},
        key=lambda column: (table.data.index(column[0]), metrics.index(column[1])),
    )
    cells = {figure.key[1:]: figure for figure in table.figures}
    rows = [
        [row, *(cells.get((row, *column), "") for column in columns)]
        for row in dict.fromkeys(figure.row for figure in table.figures)
    ]
    return markdown_table(["published", *(", ".join(column) for column in columns)], rows)


def _sources(table: Table) -> str:
    """Where the figures were read, by which protocol they are, and what is to be said of rows."""
    told: tuple[tuple[str, Callable[[Figure], str]], ...] = (
        ("Source", lambda figure: f"{figure.source} ({figure.confidence})"),
        ("Protocol", lambda figure: figure.protocol),
        ("Note", lambda figure: figure.note),
    )
    lines = []
    for name, word in told:
        groups: dict[str, list[Figure]] = {}
        for figure in table.figures:
            groups.setdefault(word(figure), []).append(figure)
        most = "" if name == "Note" else max(groups, key=lambda text: len(groups[text]))
        parts = [most] if most else []
        parts += [
            f"{_whose(groups[text], table)}{text}" for text in groups if text not in ("", most)
        ]
        if parts:
            lines.append(f"- {name}: {'; '.join(parts)}.")
    return "\n".join(lines)


def _whose(figures: Sequence[Figure], table: Table) -> str:
    """The rows that ``figures`` fill, with their data sets if they fill a part; empty for all."""
    if len(figures) == len(table.figures):
        return ""
    names = []
    for row in dict.fromkeys(figure.row for figure in figures):
        own = [figure for figure in figures if figure.row == row]
        whole = len(own) == sum(figure.row == row for figure in table.figures)
        part = "" if whole else f" on {', '.join(dict.fromkeys(one.data for one in own))}"
        names.append(row + part)
    return f"{', '.join(names)}: "


def _compared(line: Line) -> list[object]:
    ours = [result for result in line.ours if not result.differs]
    figure = line.figure
    return [
        figure.row,
        figure.data,
        figure.metric,
        figure,
        "; ".join(map(str, ours)),
        difference(line),
        line.state,
        ", ".join(dict.fromkeys(result.evidence for result in ours)),
    ]


def _elsewhere(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        place = f"{result.table}, {result.published}" if result.published else ""
        rows.append(
            [result.row, result.data, result.metric, result, place, result.differs, result.evidence]
        )
    head = [
        "ours",
        "data",
        "metric",
        "value",
        "nearest published row",
        "why it differs",
        "evidence",
    ]
    return markdown_table(head, rows)


def _provenance(records: Sequence[Record]) -> str:
    head = ["evidence", "what", "command", "commit", "date", "seeds", "machine", "data", "protocol"]
    return markdown_table(
        head,
        (
            [
                record.id,
                record.title,
                f"`{record.command}`",
                record.commit,
                record.date,
                record.seeds,
                record.machine,
                record.checksum,
                record.protocol,
            ]
            for record in records
        ),
    )


def page(comparisons: Sequence[tuple[str, Comparison]], origin: str = "") -> str:
    """The page for one project or for several; ``origin`` says what it was made from."""
    parts = [
        "<h1>Published figures and ours</h1>",
        f"<p>{_inline(LEGEND)}</p>",
        f"<p>{html.escape(origin)}</p>" if origin else "",
        "<h2>Summary</h2>",
        f"<p>{html.escape(in_short(comparisons))}</p>",
        _bars(comparisons),
        _summary_list(comparisons),
        "<h2>Ours less the published figure, where the protocol is the paper's</h2>",
        _differences(comparisons),
        "<h2 id='figures'>Every published figure</h2>",
        _figure_list(comparisons),
        "<h2 id='ours'>Ours, by other protocols or of no published row</h2>",
        _elsewhere_list(comparisons),
        "<h2 id='evidence'>Where ours come from</h2>",
        _record_list(comparisons),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Published figures and ours</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _inline(text: str) -> str:
    words = html.escape(text).split("*")
    return "".join(f"<b>{word}</b>" if i % 2 else word for i, word in enumerate(words))


def _cell(content: object, value: object = None) -> str:
    text = html.escape(str(content))
    if value is None:
        return f'<td class="long">{text}</td>' if len(text) > LONG else f"<td>{text}</td>"
    return f'<td class="number" data-value="{value}">{text}</td>'


def _state(state: State) -> str:
    ink = ";color:#37474f" if state in ("not run", "run otherwise") else ""
    return f'<td><span class="state" style="background:{COLOURS[state]}{ink}">{state}</span></td>'


def _list(head: Sequence[str], rows: Iterable[str], picks: Mapping[int, Iterable[str]]) -> str:
    chosen = ""
    for column, choices in picks.items():
        options = "".join(f"<option>{html.escape(one)}</option>" for one in dict.fromkeys(choices))
        name = html.escape(head[column])
        chosen += (
            f'<select data-column="{column}" aria-label="{name}">'
            f'<option value="">any {name}</option>{options}</select>'
        )
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        '<section class="list"><div class="tools">'
        f'<input type="search" placeholder="words to find" aria-label="words to find">{chosen}'
        '<span class="count soft"></span></div><div class="card scroll">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _summary_list(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    head = ("project", "table", "what", "rows", "figures", *STATES, *REST)
    rows = []
    for project, comparison in comparisons:
        for table, count, counts in comparison.summaries():
            rest = open_figures(counts) > 0
            command = f"<code>{html.escape(table.command)}</code>" if table.command and rest else ""
            rows.append(
                _cell(project)
                + _cell(table.label)
                + _cell(table.title)
                + _cell(count, count)
                + _cell(counts.total(), counts.total())
                + "".join(_cell(counts[state] or "", counts[state]) for state in STATES)
                + _cell(table.needs if rest else "")
                + _cell(table.hours if rest else "")
                + f"<td>{command}</td>"
            )
    return _list(head, rows, {0: [project for project, _ in comparisons]})


def _figure_list(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    head = (
        "project",
        "table",
        "row",
        "data",
        "metric",
        "published",
        "ours",
        "difference",
        "state",
        "confidence",
        "protocol",
        "source",
        "evidence",
    )
    rows, tables = [], []
    for project, comparison in comparisons:
        for table, lines in comparison.tables:
            tables.append(table.label)
            rows += [_figure_row(project, line) for line in lines]
    picks = {0: [project for project, _ in comparisons], 1: tables, 8: STATES}
    return _list(head, rows, picks)


def _figure_row(project: str, line: Line) -> str:
    figure = line.figure
    ours = [result for result in line.ours if not result.differs]
    note = "; ".join(word for word in (figure.protocol, figure.note) if word)
    words = (project, figure.table, figure.row, figure.data, figure.metric)
    return (
        "".join(_cell(word) for word in words)
        + _cell(figure, figure.value)
        + (_cell("; ".join(map(str, ours)), ours[0].value) if ours else _cell(""))
        + _cell(difference(line))
        + _state(line.state)
        + "".join(_cell(word) for word in (figure.confidence, note, figure.source))
        + _cell(", ".join(dict.fromkeys(result.evidence for result in line.ours)))
    )


def _elsewhere_list(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    head = (
        "project",
        "ours",
        "data",
        "metric",
        "value",
        "published row",
        "why it differs",
        "evidence",
    )
    rows, evidence = [], []
    for project, comparison in comparisons:
        for result in comparison.elsewhere:
            evidence.append(result.evidence)
            place = f"{result.table}, {result.published}" if result.published else ""
            rows.append(
                "".join(_cell(one) for one in (project, result.row, result.data, result.metric))
                + _cell(result, result.value)
                + "".join(_cell(one) for one in (place, result.differs, result.evidence))
            )
    return _list(head, rows, {0: [project for project, _ in comparisons], 7: evidence})


def _record_list(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    head = (
        "project",
        "evidence",
        "what",
        "command",
        "commit",
        "date",
        "seeds",
        "machine",
        "data",
        "protocol",
        "note",
    )
    rows = []
    for project, comparison in comparisons:
        for one in comparison.records:
            told = (
                one.commit,
                one.date,
                one.seeds,
                one.machine,
                one.checksum,
                one.protocol,
                one.note,
            )
            rows.append(
                "".join(_cell(word) for word in (project, one.id, one.title))
                + f"<td><code>{html.escape(one.command)}</code></td>"
                + "".join(_cell(word) for word in told)
            )
    return _list(head, rows, {0: [project for project, _ in comparisons]})


def _bars(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    """A bar a table: its figures by state, as shares, with their number behind."""
    left, width, height = 470, 560, 21
    shapes, y = [], 26
    x = left
    for state in STATES:
        shapes.append(f'<rect x="{x}" y="4" width="12" height="12" fill="{COLOURS[state]}"/>')
        shapes.append(f'<text x="{x + 17}" y="14">{state}</text>')
        x += 130
    for project, comparison in comparisons:
        for table, _, counts in comparison.summaries():
            name = html.escape(f"{project} {table.label}: {table.title}".strip())
            name = name if len(name) <= 70 else name[:68] + "…"
            shapes.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{name}</text>')
            place = float(left)
            for state in STATES:
                part = width * counts[state] / max(1, counts.total())
                shapes.append(
                    f'<rect x="{place:.1f}" y="{y + 2}" width="{part:.1f}" height="{height - 6}" '
                    f'fill="{COLOURS[state]}"><title>{counts[state]} {state}</title></rect>'
                )
                place += part
            shapes.append(f'<text x="{left + width + 8}" y="{y + 14}">{counts.total()}</text>')
            y += height
    return _picture(left + width + 50, y + 4, shapes, "figures of every table by state")


def _differences(comparisons: Sequence[tuple[str, Comparison]]) -> str:
    """A dot a figure of the paper's protocol: relative difference in per cent, cut at 10."""
    lines = [
        (project, line)
        for project, comparison in comparisons
        for _, table_lines in comparison.tables
        for line in table_lines
        if line.state in ("met", "differs") and line.figure.value
    ]
    if not lines:
        return '<p class="card">No figure was run by the protocol of its paper.</p>'
    left, width, height, limit = 430, 560, 19, 10.0
    shapes, y = [], 26
    for tick in (-10, -5, 0, 5, 10):
        x = left + width * (tick + limit) / (2 * limit)
        shapes.append(
            f'<text x="{x}" y="14" text-anchor="middle">{tick or 0:{"+" if tick else ""}} %</text>'
        )
        bottom = 26 + height * len(lines)
        shapes.append(
            f'<path d="M{x} 20V{bottom}" stroke="{"#90a4ae" if tick == 0 else "#e3e9ee"}"/>'
        )
    for project, line in lines:
        figure, ours = line.figure, next(one for one in line.ours if not one.differs)
        share = 100 * float((ours.value - figure.value) / abs(figure.value))
        x = left + width * (max(-limit, min(limit, share)) + limit) / (2 * limit)
        name = html.escape(
            f"{project} {figure.table}, {figure.row}, {figure.data}, {figure.metric}"
        )
        name = name if len(name) <= 70 else name[:68] + "…"
        told = html.escape(f"published {figure}, ours {ours}")
        shapes.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{name}</text>')
        shapes.append(
            f'<circle cx="{x:.1f}" cy="{y + 9}" r="5" fill="{COLOURS[line.state]}">'
            f"<title>{told}</title></circle>"
        )
        shapes.append(f'<text x="{left + width + 14}" y="{y + 13}">{told}</text>')
        y += height
    return _picture(left + width + 300, y + 6, shapes, "differences in per cent")


def _picture(width: int, height: int, shapes: Sequence[str], label: str) -> str:
    return (
        f'<div class="card"><svg viewBox="0 0 {width} {height}" width="100%" role="img" '
        f'aria-label="{label}">{"".join(shapes)}</svg></div>'
    )
