"""Learning curves from a run's records; needs the optional package matplotlib."""

from __future__ import annotations

from pathlib import Path

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
