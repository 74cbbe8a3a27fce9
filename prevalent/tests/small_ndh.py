"""Small dialogs and agents in small houses made by code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from prevalent.agents.ndh import NDHAgent, NDHConfig, NDHRolloutConfig
from prevalent.agents.rollout import Batch
from prevalent.data.ndh import to_dialog
from prevalent.data.tokenizers import DialogWordTokenizer
from prevalent.environments.low_level import LowLevelEnvironment
from prevalent.environments.panorama import NDHEnvironment
from prevalent.optimizer import OptimizerConfig
from tests.factories import tasks_in
from tests.small_agents import make_bert, make_world

SMALL = NDHConfig(
    hidden_size=8,
    encoder_size=5,
    word_size=6,
    action_size=4,
    attention_size=7,
    angle_size=4,
    dropout=0.0,
    encoder_dropout=0.0,
)
WORDS = DialogWordTokenizer(["go", "left", "right", "past", "the", "sofa", "bed", "lamp"], 12)
TURNS = (
    ("navigator", "left or right"),
    ("oracle", "go past the lamp"),
    ("navigator", "the bed ?"),
    ("oracle", "go left past the bed"),
)


def make_item(number, scan, path, target="sofa", turns=4, plan=None):
    """A record in the form of the official files."""
    said = [{"nav_idx": 0, "role": role, "message": text} for role, text in TURNS[:turns]]
    return {
        "inst_idx": number,
        "scan": scan,
        "target": target,
        "start_pano": {"heading": 0.5, "elevation": 17.0, "pano": path[0]},
        "dialog_history": said,
        "player_path": list(path),
        "planner_path": list(plan or path),
        "end_panos": [path[-1]],
    }


def make_dialogs(graphs, count=4, seed=0):
    """Dialogs about random walks, of 0, 2 or 4 turns."""
    return [
        to_dialog(make_item(i, task.scan, task.path, turns=2 * (i % 3)), "trusted_path")
        for i, task in enumerate(tasks_in(graphs, count, seed))
    ]


def make_dialog_batch(environment, count=4, seed=0) -> Batch:
    dialogs = make_dialogs(environment.graphs, count, seed)
    tokens = [WORDS.encode_dialog(one.turns, one.target, "all") for one in dialogs]
    return Batch(dialogs, np.stack(tokens))


def make_agent(*, lr=1e-3, walk=None, image_dim=10, max_actions=6, **changes) -> NDHAgent:
    """An agent of any kind with random weights, in train mode."""
    torch.manual_seed(0)
    navigation, features = make_world()
    features.layout = "block"
    config = replace(SMALL, **changes)
    kind = LowLevelEnvironment if config.actions == "low-level" else NDHEnvironment
    rows = {navigation.graphs.long_id(n): n for n in range(len(navigation.graphs.viewpoints))}
    return NDHAgent(
        config,
        kind(navigation.graphs, rows),
        features,
        max_actions=max_actions,
        vocab_size=len(WORDS),
        bert=make_bert(image_dim, dropout=0.0, attention_dropout=0.0)
        if config.encoder == "dic"
        else None,
        walk=walk or NDHRolloutConfig(),
        optimizer=OptimizerConfig("adamax", lr=lr),
    ).train()
