"""Scores of checked results against their references, for the three tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.assistance import mean_assistance_scores, mean_request_scores, score_assistance
from ..metrics.dialog import PathType, mean_dialog_scores, score_dialog
from ..metrics.navigation import mean_scores, score_path
from ..simulator.graph import Graphs
from .results import PATH_FIELDS, Reference, Task


def score_results(
    results: Mapping[str, Mapping[str, Any]],
    references: Sequence[Reference],
    graphs: Graphs,
    task: Task = "r2r",
    *,
    path_type: PathType = "trusted_path",
) -> dict[str, float]:
    """Mean scores of checked results under the task's metric names.

    Raises ``ValueError`` where a dialog of NDH has no goals (test split).
    """
    views = {scan: graphs.by_name(scan) for scan in {reference.scan for reference in references}}
    present = [reference for reference in references if reference.id in results]

    def walk(reference: Reference) -> list[str]:
        return [step[0] for step in results[reference.id][PATH_FIELDS[task]]]

    if task == "r2r":
        return mean_scores(
            score_path(walk(one), one.item["path"], views[one.scan].distance) for one in present
        )
    if task == "ndh":
        hidden = next((one.id for one in present if "end_panos" not in one.item), None)
        if hidden is not None:
            raise ValueError(
                f"dialog {hidden} has no goals to score against (a test split); write the "
                "leaderboard's file with `prevalent submit --task ndh`"
            )
        return mean_dialog_scores(
            score_dialog(walk(one), one.item, views[one.scan].distance, path_type)
            for one in present
        )
    scores = mean_assistance_scores(
        score_assistance(
            results[one.id], [path[-1] for path in one.item["paths"]], views[one.scan].distance
        )
        for one in present
    )
    return scores | mean_request_scores(results[one.id] for one in present)
