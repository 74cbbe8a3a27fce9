"""What a run leaves to read: ``metrics.jsonl``, ``log.txt``, TensorBoard events, a progress bar."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from .distributed import is_main
from .files import json_text, spell_infinite, write_atomically
from .random_state import unchanged_random_state

ReportTo = Literal["none", "wandb", "wandb-offline"]
WANDB = "wandb.json"
"""Keeps the name under which Weights & Biases knows a run."""


def check_report_to(report_to: ReportTo) -> None:
    """Raise ``ImportError`` where what ``--report-to`` asks for is not installed."""
    if report_to != "none" and importlib.util.find_spec("wandb") is None:
        raise ImportError(
            f"--report-to {report_to} needs the package wandb, which is an extra: give "
            "`pip install wandb`, or leave the option out"
        )


class Logs:
    """Writer of a run's records; on ranks other than 0 every method does nothing.

    ``metrics.jsonl`` holds no time, so two runs of one seed write the same bytes. Rows that were
    written after the checkpoint that a killed run continues from are dropped.

    Args:
        run_dir: the run's folder.
        total_steps: the last step, for the progress bar.
        first_step: the step that the run continues from.
        unit: what a step counts.
        rows: how many rows there were at the checkpoint; without it, those up to ``first_step``.
        headline: the scalars that lines for people show, also as ``NAME/PART``; all where a row
            has none of them. ``metrics.jsonl`` has everything.
        report_to: where rows go besides; ``wandb-offline`` leaves them in ``RUN/wandb`` for
            `wandb sync`.
    """

    def __init__(
        self,
        run_dir: str | Path,
        total_steps: int,
        first_step: int = 0,
        unit: str = "step",
        rows: int | None = None,
        headline: Sequence[str] = (),
        report_to: ReportTo = "none",
    ) -> None:
        self.active, self.rows = is_main(), rows or 0
        if not self.active:
            return
        from tensorboardX import SummaryWriter
        from tqdm import tqdm

        folder = Path(run_dir)
        metrics = folder / "metrics.jsonl"
        if metrics.exists():
            kept = [row for row in _read_rows(metrics) if row["step"] <= first_step][:rows]
            write_atomically(metrics, "".join(json_text(row) + "\n" for row in kept))
            self.rows = len(kept)
        self._wandb = None if report_to == "none" else _open_wandb(folder, report_to)
        self._metrics = metrics.open("a", buffering=1)
        self._events = SummaryWriter(str(folder / "events"), purge_step=first_step + 1)
        self._handler = logging.FileHandler(folder / "log.txt")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logging.getLogger().addHandler(self._handler)
        self._total, self._headline = total_steps, headline
        self._bar = tqdm(total=total_steps, initial=first_step, unit=unit, disable=None)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is not None:
            self.text(f"{type(error).__name__}: {error}", show=False)
        self.close()

    def advance(self, step: int) -> None:
        """Move the progress bar to ``step``."""
        if self.active and not self._bar.disable:
            self._bar.update(step - self._bar.n)

    def log(self, step: int, **scalars: Any) -> None:
        """Record scalars (numbers or tensors of one element) at ``step``; null if not finite."""
        if not self.active:
            return
        row = {name: float(value) for name, value in scalars.items() if value is not None}
        self._metrics.write(json_text({"step": step, **row}) + "\n")
        self.rows += 1
        for name, value in row.items():
            self._events.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(row, step=step)
        known = [name for name in row if name.split("/")[0] in self._headline] or list(row)
        summary = "  ".join(f"{name} {row[name]:.4g}" for name in known)
        self.text(f"step {step}/{self._total}  {summary}", show=bool(self._bar.disable))
        if not self._bar.disable:
            self._bar.set_postfix_str(summary[:100])
            self.advance(step)

    def text(self, message: str, *, show: bool = True) -> None:
        """Write a line to ``log.txt`` and, if ``show``, to the terminal."""
        if not self.active:
            return
        record = logging.LogRecord("run", logging.INFO, "", 0, message, None, None)
        self._handler.emit(record)
        if show:
            self._bar.write(message, file=sys.stderr)

    def close(self) -> None:
        if self.active:
            self.active = False
            self._bar.close()
            self._metrics.close()
            self._events.close()
            if self._wandb is not None:
                self._wandb.finish()
            logging.getLogger().removeHandler(self._handler)
            self._handler.close()


def _open_wandb(run_dir: Path, report_to: ReportTo) -> Any:
    """The run of Weights & Biases that belongs to ``run_dir``: a run that goes on is the same one.

    Its project is ``WANDB_PROJECT``, else the name of this package.
    """
    import wandb

    note, config = run_dir / WANDB, run_dir / "config.json"
    if not note.exists():
        write_atomically(note, json_text({"id": uuid.uuid4().hex[:12]}) + "\n")
    try:
        with unchanged_random_state():
            return wandb.init(
                project=os.environ.get("WANDB_PROJECT") or __name__.partition(".")[0],
                name=run_dir.resolve().name,
                id=json.loads(note.read_text())["id"],
                resume="allow",
                dir=str(run_dir),
                config=json.loads(config.read_text()) if config.exists() else None,
                mode="offline" if report_to == "wandb-offline" else None,
                settings=wandb.Settings(silent=True),
            )
    except (wandb.Error, ValueError, KeyError) as error:
        raise OSError(
            f"--report-to {report_to} could not open a run ({error}); log in with `wandb login`, "
            f"or give --report-to wandb-offline, which writes to {run_dir / 'wandb'} alone"
        ) from error


def read_metrics(run_dir: str | Path) -> list[dict[str, float]]:
    """Rows of ``metrics.jsonl``, without the numbers that were not finite (null there).

    A last line cut short by a kill is left out.
    """
    rows = _read_rows(Path(run_dir) / "metrics.jsonl")
    finite = (spell_infinite(row, lambda _: None) for row in rows)  # NaN stood in older files
    return [{name: value for name, value in row.items() if value is not None} for row in finite]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows
