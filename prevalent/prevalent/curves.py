"""Learning curves from a run's records (needs the optional package matplotlib), and means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .runtime.distributed import reduce_sum
from .runtime.logs import read_metrics


def draw_scores(run_dir: Path, *panels: str) -> str:
    """Draw the training loss and each of ``panels`` over steps into ``run_dir/curve.png``.

    A panel ``spl`` shows every record ``SPLIT/spl``. Returns a line for the log.
    """
    try:
        import matplotlib
    except ImportError:
        return "no curve.png: matplotlib is not installed (pip install 'prevalent-vln[plots]')"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(run_dir)
    figure, axes = pyplot.subplots(
        1, 1 + len(panels), figsize=(5 * (1 + len(panels)), 4), layout="constrained"
    )
    for axis, panel in zip(axes.flat, ("loss", *panels), strict=True):
        names = sorted({name for row in rows for name in row if name.split("/")[-1] == panel})
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            label = name.removesuffix(f"/{panel}") if "/" in name else "train"
            axis.plot(*zip(*points, strict=True), marker=".", label=label)
        axis.set(title=panel.replace("_", " "), xlabel="step")
        if names:
            axis.legend()
    path = Path(run_dir) / "curve.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return f"curve: {path}"


class Means:
    """Mean losses since the last record; part of the checkpoint, so that records repeat exactly.

    Args:
        device: of the losses.
        names: of the losses that may occur.
    """

    def __init__(self, device: torch.device, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(2, len(self.names), device=device)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step (no synchronisation)."""
        for i, name in enumerate(self.names):
            if name in losses:
                self.sums[0, i] += losses[name].detach()
                self.sums[1, i] += 1

    def take(self) -> dict[str, float]:
        """The means over all ranks of what occurred; starts anew."""
        totals, counts = reduce_sum(self.sums.clone()).tolist()
        self.sums.zero_()
        pairs = zip(self.names, totals, counts, strict=True)
        return {name: total / count for name, total, count in pairs if count}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums.copy_(state["sums"])
