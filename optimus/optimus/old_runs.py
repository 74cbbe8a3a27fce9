"""The ``config.json`` of version 0.1, which did not say what kind of run it belonged to."""

from __future__ import annotations

from typing import Any

KINDS = {
    "objective": "language-model",
    "fusion": "dialog",
    "control": "label-control",
    "fractions": "classifier",
}
"""A key that the options of one kind alone have."""
ADDED = {"eval_every": 0, "patience": 0, "deterministic": False}
"""Options that have come since, with the value that says what version 0.1 did."""
ADDED_DATA: dict[str, dict[str, Any]] = {"label-control": {"valid": None}}
"""Likewise in the group ``data`` of one kind."""
ADDED_MODEL = {
    "pooling": "default",
    "start": "fresh",
    "start_sentences": 2000,
    "weights": "pretrained",
    "lora_rank": 16,
    "train_encoder": "full",
    "train_decoder": "full",
    "checkpointing": False,
}
ADDED_OPTIMIZER = {"new_lr": 0.0}
"""Likewise in the groups ``model`` and ``optimizer`` of every kind."""


def upgrade(plain: dict[str, Any]) -> dict[str, Any]:
    """``plain`` with its kind and all options of today; unchanged where no kind fits."""
    kinds = [kind for key, kind in KINDS.items() if key in plain]
    if len(kinds) != 1:
        return plain
    data = {**ADDED_DATA.get(kinds[0], {}), **plain.get("data", {})}
    groups = {"data": data}
    for name, added in (("model", ADDED_MODEL), ("optimizer", ADDED_OPTIMIZER)):
        if isinstance(plain.get(name), dict):
            groups[name] = {**added, **plain[name]}
    return {"kind": kinds[0], **ADDED, **plain, **groups}
