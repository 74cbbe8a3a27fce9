"""Small agents in small houses made by code."""

from dataclasses import replace

import numpy as np
import torch

from prevalent.agents.follower import Follower, FollowerConfig
from prevalent.agents.rollout import Batch, RolloutConfig
from prevalent.agents.speaker import Speaker, SpeakerConfig
from prevalent.config import ModelConfig
from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.tokenizers import WordTokenizer, build_vocabulary
from prevalent.environments.navigation import NavigationEnvironment
from prevalent.models.prevalent import PrevalentModel
from prevalent.optimizer import OptimizerConfig
from tests.factories import make_graphs, random_scan, tasks_in

TEXTS = ("walk past the red door", "turn left and stop", "go up the stairs then wait by the bed")
TOKENIZER = WordTokenizer(build_vocabulary(TEXTS, min_count=1), max_length=12)
SMALL = FollowerConfig(
    hidden_size=8,
    word_size=6,
    action_size=4,
    encoder_size=5,
    angle_size=4,
    dropout=0.0,
    encoder_dropout=0.0,
    feature_dropout=0.0,
)


def make_world(width=6, angle_size=4):
    """Two random scans with features."""
    graphs = make_graphs(one=random_scan(1), two=random_scan(2))
    names = [graphs.long_id(node) for node in range(len(graphs.viewpoints))]
    store = synthetic_features(names, width)
    return NavigationEnvironment(graphs, store.rows), DeviceFeatures(store, angle_size=angle_size)


def make_batch(environment, count=5, seed=0):
    """Random walks with one of three texts each."""
    tasks = tasks_in(environment.graphs, count, seed)
    return Batch(tasks, np.stack([TOKENIZER.encode(TEXTS[i % 3]) for i in range(count)]))


def make_bert(image_dim=10, **changes):
    config = ModelConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=8,
        num_heads=2,
        intermediate_size=16,
        num_language_layers=2,
        num_cross_layers=2,
        image_dim=image_dim,
        max_positions=16,
    )
    return PrevalentModel(replace(config, **changes))


def make_follower(encoder="lstm", *, walk=None, optimizer=None, seed=0, **changes):
    """A follower of any kind with random weights, in train mode."""
    torch.manual_seed(seed)
    environment, features = make_world()
    return Follower(
        replace(SMALL, encoder=encoder, **changes),
        environment,
        features,
        vocab_size=len(TOKENIZER),
        bert=None if encoder == "lstm" else make_bert(),
        walk=walk or RolloutConfig(max_actions=6),
        optimizer=optimizer or OptimizerConfig("rms", lr=1e-3),
    ).train()


def make_speaker(environment=None, features=None, **changes):
    """A speaker with random weights, in train mode."""
    torch.manual_seed(0)
    if environment is None:
        environment, features = make_world()
    config = SpeakerConfig(
        hidden_size=8, word_size=6, dropout=0.0, feature_dropout=0.0, angle_size=4, max_decode=9
    )
    return Speaker(replace(config, **changes), environment, features, TOKENIZER).train()
