"""Small HANNA agents in small houses made by code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from prevalent.agents.hanna import HannaAgent, HannaRolloutConfig
from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.hanna import HannaTask, Route, SpaceTokenizer
from prevalent.environments.hanna import Anna, HannaEnvironment
from prevalent.models.hanna import HannaConfig
from prevalent.optimizer import OptimizerConfig
from tests.factories import make_graphs, random_scan

WORDS = ("<PAD>", "<UNK>", "<EOS>", "find", "the", "bed", "walk", "past", "door", "stop")
TOKENIZER = SpaceTokenizer(WORDS, max_length=8)
SMALL = HannaConfig(hidden_size=8, num_heads=2, num_layers=1, dropout=0.0, ask_size=4, angle_size=4)


def make_routes(graphs, per_scan=30, seed=0, splits=("train_seen",)):
    """Shortest ways between random places, told by one sentence; one for each split."""
    rng, routes = np.random.default_rng(seed), []
    for scan in graphs.scans:
        for number in range(per_scan):
            a, b = rng.choice(graphs.nodes_of(scan), 2, replace=False)
            path = tuple(graphs.viewpoints[n] for n in graphs.path(a, b))
            for split in splits:
                name, view = f"{scan}{number}{split}", int(rng.integers(36))
                routes.append(Route(name, scan, path, view, split, "walk past the door"))
    return routes


def make_tasks(graphs, count=5, seed=0):
    """Searches for one of two random places."""
    rng, tasks = np.random.default_rng(seed), []
    for i in range(count):
        scan = graphs.scans[i % len(graphs.scans)]
        start, *goals = rng.choice(graphs.nodes_of(scan), 3, replace=False)
        names = graphs.viewpoints
        tasks.append(
            HannaTask(
                id=f"{i}_0",
                scan=scan,
                start=names[start],
                heading=float(rng.uniform(0, 6)),
                goals=tuple(names[goal] for goal in goals),
                text="find the bed",
                paths=tuple(tuple(names[n] for n in graphs.path(start, g)) for g in goals),
            )
        )
    return tasks


def make_world(width=6, routes=None):
    """Two random scans with features and routes."""
    graphs = make_graphs(one=random_scan(1), two=random_scan(2))
    store = synthetic_features([graphs.long_id(n) for n in range(len(graphs.viewpoints))], width)
    anna = Anna(graphs, make_routes(graphs) if routes is None else routes)
    features = DeviceFeatures(store, angle_size=4, layout="block")
    return HannaEnvironment(graphs, anna, store.rows), features


def make_agent(*, search=None, seed=0, bert=None, precision="fp32", **changes):
    """An agent with random weights, in train mode."""
    torch.manual_seed(seed)
    environment, features = make_world()
    return HannaAgent(
        replace(SMALL, **changes),
        environment,
        features,
        TOKENIZER.encode,
        vocab_size=len(TOKENIZER),
        max_length=TOKENIZER.max_length,
        bert=bert,
        optimizer=OptimizerConfig("adam", lr=1e-3),
        search=search or HannaRolloutConfig(train_length=6, eval_length=8),
        precision=precision,
    ).train()
