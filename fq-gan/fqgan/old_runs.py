"""Runs and weights of version 0.1, whose ``config.json`` does not say what it belongs to.

They are recognised by a key that only one kind has, and get the options that have come since, with
the values that mean what the older version did.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARKS = {"biggan": "bn_eps", "ugatit": "domain_names", "stylegan2": "mapping"}


def upgrade(plain: dict[str, Any]) -> dict[str, Any]:
    """A ``config.json`` of a run or of a folder of weights in today's form.

    One that has no mark comes back as it is: without ``kind``.
    """
    kind = next((name for name, mark in MARKS.items() if mark in plain), None)
    if kind is None:
        return plain
    if "quantizer" in plain:
        plain = {**plain, "quantizer": {"codebook_start": "random", **plain["quantizer"]}}
    if "run_dir" not in plain:
        return {"kind": f"{kind}-weights", **plain}
    plain = {"kind": kind, "patience": 0, **plain}
    if kind == "ugatit":
        return plain
    return {**plain, "scoring": {"moments": "", **plain["scoring"]}}


def upgrade_progress(state: Mapping[str, Any], best_metric: str) -> dict[str, Any]:
    """The ``progress`` of a checkpoint: its ``best`` was one number, lower being better for FID."""
    if isinstance(state.get("best", {}), dict):
        return dict(state)
    value = state["best"] if best_metric == "inception_score" else -state["best"]
    return {**state, "best": {"best": value} if state["best_saved"] else {}}
