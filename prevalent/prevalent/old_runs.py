"""The ``config.json`` of version 0.1, which did not say what kind of run it belonged to."""

from __future__ import annotations

from typing import Any

KINDS = {
    "predict_action": "pretraining",
    "eval_batch_size": "r2r",
    "aug": "r2r",
    "path_type": "ndh",
    "search": "hanna",
    "speaker": "speaker",  # of Room-to-Room, the last to ask: a follower may have one
}
"""A key that the options of one kind alone have."""
ADDED = {"keep": 2, "patience": 0, "deterministic": False, "feature_columns": ""}
"""Options that have come since, with the value that is what version 0.1 did."""
ADDED_TO_KIND: dict[str, dict[str, Any]] = {
    "pretraining": {"action_target": "rank"},
    "r2r": {"data": "r2r", "eval_batch_size": 100, "teacher": "goal"},
}
ADDED_TO_MODEL = {"r2r": {"separate_sentences": False}}
RENAMED = {"ndh": ("walk", "rollout"), "hanna": ("search", "rollout")}


def upgrade(plain: dict[str, Any]) -> dict[str, Any]:
    """``plain`` with its kind and all options of today; unchanged where no kind fits."""
    kind = next((kind for key, kind in KINDS.items() if key in plain), None)
    if kind is None:
        return plain
    old, new = RENAMED.get(kind, ("", ""))
    options = {new if name == old else name: value for name, value in plain.items()}
    if kind in ADDED_TO_MODEL:
        options["model"] = {**ADDED_TO_MODEL[kind], **options["model"]}
    return {"kind": kind, **ADDED, **ADDED_TO_KIND.get(kind, {}), **options}
