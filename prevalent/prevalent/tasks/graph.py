"""Room-to-Room with a graph-based agent, ``prevalent train-graph``.

Chen et al., "Think Global, Act Local" (CVPR 2022), on our pre-trained encoders: pre-training on
masked words and the next step of annotated paths, then imitation of an expert along the agent's own
walks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .. import loop
from ..agents.graph import GraphAgent, GraphWalk
from ..agents.rollout import Batch, Episodes
from ..config import READING_MODEL, TINY_MODEL, unused_options
from ..data.datasets import WalkData
from ..data.instructions import Instruction
from ..data.objects import DeviceObjects, ObjectStore
from ..data.tokenizers import WordPieceTokenizer
from ..data.triplets import Masked, mask_words
from ..models.prevalent import PrevalentModel
from ..old_runs import upgrade
from ..optimizer import OptimizerConfig
from ..released.snapshots import load_weights, open_snapshot
from ..runtime.distributed import World, choose_device
from ..runtime.options import ADDED, at_least
from ..runtime.run_folder import Run, RunFolder
from .navigation import (
    FIXED,
    AgentTraining,
    TaskData,
    Walks,
    bert_of_snapshot,
    find_vocabulary,
    open_batches,
    open_bert,
    open_held_out,
    open_instructions,
    options_of_snapshot,
    place_toy_world,
    score_splits,
    seeded,
    success_goals,
    unseen_first,
    walk_split,
)
from .options import WalkRun
from .starting import parse_start

KIND = "graph"


@dataclass(frozen=True)
class GraphConfig:
    """The graph-based agent beside its encoder."""

    num_panorama_layers: int = 2
    """Self-attention layers among the views of a place."""
    angle_size: int = 128
    """A, width of angle features."""
    separate_sentences: bool = True
    """Put a [SEP] behind every sentence, as pre-training does."""
    update_language: bool = True
    """Train the text layers of the transformer."""
    update_cross: bool = True
    """Train its image fusion."""

    def __post_init__(self) -> None:
        at_least(self, "model", num_panorama_layers=0, angle_size=4)


@dataclass(frozen=True)
class GraphRun(WalkRun):
    """Train the graph-based agent."""

    angle_layout: Literal["interleaved", "block"] = "block"
    """Order of the angle features; pre-training uses ``block``."""
    imitation_weight: float = 0.2
    """Weight of imitation along the annotated path (0.2 in the paper's fine-tuning)."""
    expert_weight: float = 1.0
    """Weight of imitation of the expert along the agent's own walks; 0: none."""
    scales_weight: float = 0.0
    """Weight of the same losses of the coarse and of the fine scale alone."""
    objects: Path | None = field(default=None, metadata=ADDED)
    """REVERIE: features of objects, relative to the data folder, an HDF5 file of DUET's form; the
    agent names one of them where it stops. None: it names none."""
    object_weight: float = field(default=1.0, metadata=ADDED)
    """Weight of naming the right object at the goal."""
    masked_words: float = 0.0
    """Share of the words that are guessed at the end of a path, as in pre-training; 0: none."""
    model: GraphConfig = field(default_factory=GraphConfig)
    rollout: GraphWalk = field(default_factory=GraphWalk)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, imitation_weight=0, expert_weight=0, scales_weight=0)
        if not 0 <= self.masked_words < 1:
            raise ValueError(f"--masked-words must be in [0, 1), got {self.masked_words}")
        at_least(self, object_weight=0)
        if self.objects is not None and self.data != "reverie":
            raise ValueError(
                f"--objects is for --data reverie, got --data {self.data}; drop --objects"
            )
        if not (self.imitation_weight or self.expert_weight or self.masked_words):
            raise ValueError(
                "--imitation-weight 0, --expert-weight 0 and --masked-words 0 leave nothing to "
                "learn from; give one of them"
            )

    def unused(self) -> dict[str, str]:
        """Options of this task that the run would record and not use; see `unused_options`."""
        found = super().unused()
        if self.objects is None:
            found["--object-weight"] = "no object is named; give --objects, or drop it"
        if not (self.imitation_weight or self.expert_weight):
            found["--scales-weight"] = "nobody is imitated; give --imitation-weight, or drop it"
        return found


RUNS = Path("runs/graph")
PRETRAIN = GraphRun(
    run_dir=RUNS / "pretrain",
    pretrained=Path("runs/pretrain/base/model"),
    imitation_weight=1.0,
    expert_weight=0.0,
    scales_weight=1.0,
    masked_words=0.15,
    train=("train", "./data/r2r/aug_paths.json"),
    batch_size=32,
    max_steps=100_000,
    log_every=100,
    eval_every=2000,
    save_every=2000,
    optimizer=OptimizerConfig("adam", lr=5e-5),
)
TOY = GraphRun(
    run_dir=RUNS / "toy",
    world="toy",
    toy_houses=240,
    train=("train@50",),
    held_out=("val_seen@60", "val_unseen@200"),
    batch_size=16,
    max_steps=200,
    imitation_weight=1.0,
    log_every=20,
    eval_every=100,
    save_every=100,
    optimizer=OptimizerConfig("adam", lr=1e-3),
    rollout=GraphWalk(max_actions=10),
    model=GraphConfig(num_panorama_layers=0, angle_size=32),
    bert=READING_MODEL,
)
REVERIE = replace(
    PRETRAIN,
    run_dir=RUNS / "reverie-pretrain",
    data="reverie",
    train=("train",),
    objects=Path("features/objects.hdf5"),
    max_length=100,
)


def fine_tuned(pretraining: GraphRun, run_dir: Path) -> GraphRun:
    """What follows ``pretraining``: the expert along the agent's own walks."""
    return replace(
        pretraining,
        run_dir=run_dir,
        start_from=pretraining.run_dir,
        train=("train",),
        batch_size=8,
        max_steps=20_000,
        eval_every=1000,
        save_every=1000,
        imitation_weight=0.2,
        expert_weight=1.0,
        scales_weight=0.0,
        masked_words=0.0,
        optimizer=OptimizerConfig("adam", lr=1e-5),
    )


PRESETS: dict[str, tuple[str, GraphRun]] = {
    "pretrain": ("masked words and the next step of annotated and augmented paths", PRETRAIN),
    "r2r": (
        "then the expert along the agent's own walks (the paper's fine-tuning, rate 1e-5)",
        fine_tuned(PRETRAIN, RUNS / "r2r"),
    ),
    "reverie-pretrain": (
        "REVERIE: masked words, the next step and the object of annotated paths; give --objects",
        REVERIE,
    ),
    "reverie": (
        "then the expert along the agent's own walks, and the object at the goal",
        fine_tuned(REVERIE, RUNS / "reverie"),
    ),
    "reverie-toy": (
        "toy houses with objects at every place, made by code",
        replace(
            TOY,
            run_dir=RUNS / "reverie-toy",
            data="reverie",
            objects=Path("objects.hdf5"),
            toy_houses=24,
            train=("train",),
            batch_size=32,
            max_steps=400,
            expert_weight=0.0,
            optimizer=OptimizerConfig("adam", lr=3e-3),
        ),
    ),
    "toy": (
        "toy houses made by code, 50 annotated paths, some minutes on a CPU; give --pretrained",
        TOY,
    ),
    "smoke": (
        "toy houses, a few steps: does everything run",
        replace(
            TOY,
            run_dir=RUNS / "smoke",
            toy_houses=1,
            train=("train",),
            held_out=("val_seen@2", "val_unseen@2"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            masked_words=0.15,
            rollout=GraphWalk(max_actions=7),
            model=GraphConfig(num_panorama_layers=1, angle_size=4),
            bert=TINY_MODEL,
        ),
    ),
}


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-graph r2r --batch-size 16``."""
    train_graph(parse_start(TASK, PRESETS, argv, "prevalent train-graph"))


def train_graph(config: GraphRun) -> GraphAgent:
    """Run ``config`` to its last step, as ``loop.train`` does; leaves ``snapshots/`` there too."""
    return loop.train(TASK, config).agent  # type: ignore[attr-defined]


class GraphTraining(AgentTraining):
    """The agent, the instructions it learns from, and the splits it is evaluated on."""

    losses: Sequence[str] = ("loss", "imitation", "expert", "words", "model_norm")  # type: ignore[misc]

    def __init__(self, config: GraphRun, world: World, folder: RunFolder) -> None:
        here = place_toy_world(config, folder)
        splits = (*here.train, *here.held_out)
        self.data = open_instructions(here, splits, here.model.angle_size, world.device)
        vocabulary = find_vocabulary(here, words=False)
        self.tokenizer = open_tokenizer(here, vocabulary)
        self.held_out = open_held_out(here, self.data, self.tokenizer, here.data)
        agent = build_agent(here, self.data, self.tokenizer)
        if here.objects is not None:
            self.losses = (*self.losses, "objects")
        self.batches = open_batches(here, self.data, self.tokenizer, here.train, world)
        summary = (
            f"{len(self.data.items(here.train))} instructions, {len(self.tokenizer)} words, "
            f"{self.data.describe(here, self.held_out)}"
        )
        orders = {"order": self.batches}
        super().__init__(config, world, agent, orders, vocabulary=vocabulary, summary=summary)

    def learn(self) -> dict[str, Tensor]:
        """One optimizer step on one batch."""
        config, batch = self.config, next(self.batches)
        losses = self.agent.learn(
            batch,
            taught=config.imitation_weight,
            explored=config.expert_weight,
            scales=config.scales_weight,
            objects=config.object_weight if config.objects is not None else 0.0,
            masked=self._mask(batch) if config.masked_words else None,
        )
        return {**losses, **self.agent.update()}

    def _mask(self, batch: Batch) -> Masked:
        """The texts of ``batch`` with words to guess."""
        tokens = torch.from_numpy(batch.tokens)
        return mask_words(tokens, self.tokenizer.codes, self.config.masked_words)

    def evaluate(self) -> dict[str, float]:
        return score_splits(self.agent, self.held_out, self.config, self.data.graphs, self.world)

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Success in each split."""
        return unseen_first(success_goals(scores))

    def snapshot(self) -> dict[str, Any]:
        agent: GraphAgent = self.agent
        return {
            "kind": KIND,
            "model": asdict(self.config.model),
            "bert": asdict(agent.model.bert.config),
            "rollout": asdict(agent.walk),
            "max_length": self.config.max_length,
        }


TASK = loop.Task(
    kind=KIND,
    config=GraphRun,
    open=GraphTraining,
    fixed=(*FIXED, "data", "wordpieces", "objects", "model", "bert"),
    upgrade=upgrade,
    unused=unused_options,
)


def open_tokenizer(config: GraphRun, vocabulary: Path) -> WordPieceTokenizer:
    """The word pieces of the encoder."""
    separate = config.model.separate_sentences
    return WordPieceTokenizer(vocabulary, config.max_length, separate_sentences=separate)


def build_agent(
    config: GraphRun, data: TaskData[Instruction], tokenizer: WordPieceTokenizer
) -> GraphAgent:
    """An agent with the same weights on every rank, from scratch or from ``start_from``."""
    with seeded(config.seed):
        width = data.features.width
        bert = open_bert(config, len(tokenizer), width=width, max_length=config.max_length)
        agent = make_agent(config, data, bert)
    if config.start_from is not None:
        optimizers = agent.optimizers if config.load_optimizer else None
        load_weights(config.start_from, KIND, agent.modules, optimizers)
    return agent.train()


def make_agent(config: GraphRun, data: TaskData[Instruction], bert: PrevalentModel) -> GraphAgent:
    """The agent that ``config`` describes."""
    model = config.model
    bert.config = replace(
        bert.config, update_language=model.update_language, update_cross=model.update_cross
    )
    if not model.update_language:
        bert.embeddings.requires_grad_(False)
        bert.lalayer.requires_grad_(False)
    if not model.update_cross:
        bert.addlayer.requires_grad_(False)
        bert.vision_encoder.requires_grad_(False)
    return GraphAgent(
        bert,
        data.environment,
        data.features,
        num_panorama_layers=model.num_panorama_layers,
        objects=open_objects(config, data),
        optimizer=config.optimizer,
        walk=config.rollout,
        precision=config.precision,
    )


def open_objects(config: GraphRun, data: TaskData[Instruction]) -> DeviceObjects | None:
    """What the agent sees of objects, if it sees any."""
    if config.objects is None:
        return None
    features = data.features
    path = config.data_dir / config.objects
    store = ObjectStore.open(path, data.graphs, features.image_width)
    return DeviceObjects(store, features.device, features.angle_size, features.layout)


class TrainedAgent(NamedTuple):
    agent: GraphAgent
    data: TaskData[Instruction]
    episodes: Episodes
    config: GraphRun
    left_out: int  # instructions of the split without a word
    step: int | None  # that the agent was saved at


def open_agent(
    run: Run,
    split: str,
    *,
    snapshot: str | None = None,
    step: int | None = None,
    data_dir: Path | None = None,
    data: WalkData | None = None,
    device: str = "auto",
) -> TrainedAgent:
    """The agent of a run, in eval mode, and the episodes of ``split``.

    Args:
        run: as `runs.open_run` gives it.
        split: to open.
        snapshot: which agent; None is the best one in unseen houses, or the last.
        step: the checkpoint to take instead.
        data_dir: in place of the run's own.
        data: data set in place of the run's own.
        device: to run on.

    Raises ``FileNotFoundError`` or ``ValueError`` where the snapshot or data is missing.
    """
    saved = open_snapshot(run.folder, KIND, snapshot, step)
    config = options_of_snapshot(run, saved, GraphConfig, GraphWalk, data_dir)
    config = replace(config, data=data or config.data)
    opened = open_instructions(config, [split], config.model.angle_size, choose_device(device))
    tokenizer = open_tokenizer(config, saved.vocabulary)
    bert = bert_of_snapshot(saved.content)
    assert bert is not None
    agent = make_agent(config, opened, bert)
    saved.load(agent.modules)
    items = opened.splits[split]
    episodes = Episodes.encode(items, tokenizer, f"the split {split!r}")
    left_out = len(items) - len(episodes)
    return TrainedAgent(agent.train(False), opened, episodes, config, left_out, saved.step)


def walk_agent(agent: TrainedAgent, batch_size: int) -> Walks:
    """Walk the agent's episodes."""
    results = walk_split(agent.agent, agent.episodes, batch_size, task=agent.config.data)
    references, graphs = agent.episodes.references(), agent.data.graphs
    return Walks(results, references, graphs, agent.config.data_dir, agent.left_out, agent.step)
