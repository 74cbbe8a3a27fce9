"""Learning curves from a run's records; needs the optional package matplotlib."""

from __future__ import annotations

from pathlib import Path

from .runtime.logs import read_metrics


def draw_scores(run_dir: Path, *panels: str) -> str:
    """Draw each of ``panels`` over steps into ``run_dir/curve.png``; returns a line for the log.

    A panel ``spl`` shows every record ``SPLIT/spl``, dashed the last ``SPLIT/spl_chance``.
    """
    try:
        import matplotlib
    except ImportError:
        return "no curve.png: matplotlib is not installed (pip install 'prevalent-vln[plots]')"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(run_dir)
    size = (5 * len(panels), 4)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=size, layout="constrained", squeeze=False
    )
    for axis, panel in zip(axes.flat, panels, strict=True):
        names = sorted({name for row in rows for name in row if name.split("/")[-1] == panel})
        for number, name in enumerate(names):
            points = [(row["step"], row[name]) for row in rows if name in row]
            label = name.removesuffix(f"/{panel}") if "/" in name else "train"
            axis.plot(*zip(*points, strict=True), f"C{number}.-", label=label)
            chance = [row[f"{name}_chance"] for row in rows if f"{name}_chance" in row]
            if chance:
                axis.axhline(chance[-1], color=f"C{number}", linestyle="--", linewidth=0.8)
        axis.set(title=panel.replace("_", " "), xlabel="step")
        if names:
            axis.legend()
    path = Path(run_dir) / "curve.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return f"curve: {path}"
