"""Walks of a trained agent over a split, and their scores by path type."""

import pytest

from prevalent.runtime.distributed import World
from prevalent.tasks.ndh import open_dialog_agent, score_dialog_walks, train_ndh, walk_dialog_split
from tests.test_train_ndh import SEQ2SEQ, dialog_run


def test_a_run_is_opened_and_walked_whatever_the_batch(toy_world, tmp_path):
    train_ndh(dialog_run(toy_world, tmp_path, max_steps=1, model=SEQ2SEQ))
    agent, world, episodes, config = open_dialog_agent(tmp_path, "val_unseen@5", device="cpu")
    assert config.path_type == "trusted_path"
    results = walk_dialog_split(agent, episodes, 2)
    assert list(results) == [one.id for one in episodes.instructions]
    assert walk_dialog_split(agent, episodes, 5, World(0, 1, agent.features.device)) == results
    progress = {
        path_type: score_dialog_walks(results, episodes, world.graphs, path_type)
        for path_type in ("planner_path", "player_path", "trusted_path")
    }
    assert len({row["dist_to_end_reduction"] for row in progress.values()}) == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        open_dialog_agent(tmp_path, "val_unseen")
