"""HANNA: agents that look for objects and ask for help (Sec. 4.3), ``prevalent train-hanna``.

The paper trains with batches of 32, otherwise as the base agent (Nguyen & Daumé III, EMNLP 2019).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .. import loop
from ..agents.hanna import HannaAgent, HannaRolloutConfig
from ..agents.rollout import EpisodeBatches
from ..config import TINY_MODEL, TOY_MODEL, unused_options
from ..data.hanna import (
    HannaTask,
    SpaceTokenizer,
    read_routes,
    read_tasks,
    references,
    resolve_split,
)
from ..data.results import Results, check_goals, score_results
from ..data.tokenizers import WordPieceTokenizer, read_vocabulary
from ..environments.hanna import Anna, HannaEnvironment
from ..environments.navigation import Episode, check_tasks
from ..models.hanna import HannaConfig
from ..models.prevalent import PrevalentModel
from ..old_runs import upgrade
from ..optimizer import OptimizerConfig
from ..released.checkpoints import read_weights
from ..released.snapshots import (
    check_fit,
    find_agent,
    load_agent,
    open_snapshot,
    read_agent_config,
)
from ..runtime.distributed import World, choose_device
from ..runtime.run_folder import Run, RunFolder
from ..simulator.graph import Graphs
from .navigation import (
    FIXED,
    AgentTraining,
    TaskData,
    Walks,
    bert_of_snapshot,
    describe_bert,
    find_vocabulary,
    gather_results,
    open_bert,
    open_scenes,
    options_of_snapshot,
    place_toy_world,
    renamed_options,
    seeded,
    shuffled,
)
from .options import ReaderRun
from .starting import parse_start

KIND = "hanna"
HannaTokenizer = SpaceTokenizer | WordPieceTokenizer


@dataclass(frozen=True)
class HannaRun(ReaderRun):
    """Train the agent that looks for objects and can ask for help."""

    run_dir: Path = Path("runs/hanna")
    angle_layout: Literal["interleaved", "block"] = "block"
    """Order of the angle features; pre-training and HANNA use ``block``."""
    words: Path = Path("hanna/vocab.txt")
    """Word vocabulary of ``words`` encoders, relative to the data folder."""
    max_length: int = 50
    held_out: tuple[str, ...] = (
        "val_seen_env_seen_anna",
        "val_seen_env_unseen_anna",
        "val_unseen",
    )
    """Splits to evaluate; the end of a seen one says whether ANNA tells routes of training."""
    batch_size: int = 32
    max_steps: int = 30_000
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("adam", lr=1e-4, weight_decay=5e-4)
    )
    """No gradient is clipped, whatever ``max_norm`` says."""
    model: HannaConfig = field(default_factory=HannaConfig)
    rollout: HannaRolloutConfig = field(default_factory=HannaRolloutConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained is not None and self.model.encoder != "dic":
            raise ValueError("--pretrained needs --model.encoder dic; add it or drop --pretrained")
        if self.load_optimizer:
            raise ValueError("--load-optimizer is not for HANNA; the state stays in checkpoints")

    def unused(self) -> dict[str, str]:
        """Options of this task that the run would record and not use; see `unused_options`."""
        found = super().unused() | self.rollout.unused()
        if self.model.encoder == "words":
            found["--model.update-language"] = (
                "--model.encoder words always learns; drop it, or give dic"
            )
        return found | {"--optimizer.max-norm": "HANNA clips no gradient; drop it"}


RUNS = Path("runs/hanna")
EVERY = 300  # steps between evaluations

ANNA = HannaRun(run_dir=RUNS / "anna", log_every=100, eval_every=EVERY, save_every=EVERY)
PREVALENT = replace(
    ANNA,
    run_dir=RUNS / "prevalent",
    pretrained=Path("runs/pretrain/base/model"),
    model=HannaConfig(encoder="dic"),
)
TOY = HannaRun(
    run_dir=RUNS / "toy",
    world="toy",
    held_out=("val_unseen",),
    batch_size=64,
    max_steps=300,
    log_every=20,
    eval_every=100,
    save_every=100,
    optimizer=OptimizerConfig("adam", lr=1e-3),
    model=HannaConfig(
        hidden_size=64, num_heads=4, dropout=0.1, ask_size=16, angle_size=32, reset="own"
    ),
    bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
    rollout=HannaRolloutConfig(train_length=12, eval_length=20),
)
TINY_AGENT = HannaConfig(
    encoder="dic", hidden_size=8, num_heads=2, dropout=0.1, ask_size=4, angle_size=4
)


def _walking(name: str, **changes) -> HannaRun:
    return replace(ANNA, run_dir=RUNS / name, rollout=replace(ANNA.rollout, **changes))


def _built(name: str, **changes) -> HannaRun:
    return replace(ANNA, run_dir=RUNS / name, model=replace(ANNA.model, **changes))


HANNA_PRESETS: dict[str, tuple[str, HannaRun]] = {
    "anna": ("Table 3, ANNA: the base agent, trained words", ANNA),
    "prevalent": ("Table 3, PREVALENT: its text layers, frozen, in both networks", PREVALENT),
    "no-assistance": (
        "Table 3, no assistance: never asks",
        _walking("no-assistance", ask="never"),
    ),
    "perfect-interpretation": (
        "Table 3, perfect assistance interpretation: follows routes without an error",
        _walking("perfect-interpretation", perfect_interpretation=True),
    ),
    "prevalent-mlm-only": (
        "Table 7: encoder pre-trained without action prediction",
        replace(
            PREVALENT,
            run_dir=RUNS / "prevalent-mlm-only",
            pretrained=Path("runs/pretrain/mlm-only/model"),
        ),
    ),
    "ask-every-5": ("HANNA: asks every five steps", _walking("ask-every-5", ask="every")),
    "random-ask": ("HANNA: asks at a fifth of the steps", _walking("random-ask", ask="random")),
    "vision-only": (
        "HANNA: sees where a route ends but not its words",
        _walking("vision-only", vision_only=True),
    ),
    "no-reason": ("HANNA: decides to ask without reasons", _built("no-reason", reasons=False)),
    "no-sim-attend": (
        "HANNA: without the memory of similar situations",
        _built("no-sim-attend", similar_situations=False),
    ),
    "no-reset-inter": ("HANNA: never forgets a subtask", _built("no-reset-inter", reset="never")),
    "no-curious": (
        "HANNA: imitation without curiosity",
        _walking("no-curious", curiosity=0.0),
    ),
    "hanna-toy": ("toy houses made by code, a few minutes on a CPU", TOY),
    "hanna-smoke": (
        "toy houses, a few steps: does everything run",
        replace(
            TOY,
            run_dir=RUNS / "smoke",
            toy_houses=1,
            held_out=("val_seen_env_unseen_anna", "val_unseen"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            model=TINY_AGENT,
            bert=TINY_MODEL,
            rollout=HannaRolloutConfig(train_length=4, eval_length=4),
        ),
    ),
}


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-hanna prevalent --batch-size 16``."""
    words = renamed_options(argv, {"--search.": "--rollout."})
    train_hanna(parse_start(TASK, HANNA_PRESETS, words, "prevalent train-hanna"))


def train_hanna(config: HannaRun) -> HannaAgent:
    """Run ``config`` to its last step, as ``loop.train`` does; leaves ``snapshots/`` there too."""
    return loop.train(TASK, config).agent  # type: ignore[attr-defined]


class Searches(NamedTuple):
    """Tasks that batches are drawn from."""

    instructions: Sequence[HannaTask]

    def batch(self, index: Sequence[int]) -> list[HannaTask]:
        return [self.instructions[i] for i in index]


class HannaTraining(AgentTraining):
    """An agent, the tasks it learns from, and the splits it is evaluated on."""

    losses = ("loss", "navigation", "asking", "requests")

    def __init__(self, config: HannaRun, world: World, folder: RunFolder) -> None:
        here = place_toy_world(config, folder)
        self.helper = helper_of(here.train)
        self.data = open_tasks(here, (*here.train, *here.held_out), world.device)
        vocabulary = find_vocabulary(here, words=here.model.encoder == "words")
        tokenizer = open_tokenizer(here, vocabulary)
        self.held_out = self.data.held_out(here)
        for name, tasks in self.held_out.items():
            check_goals(references(tasks), "hanna", name)
        agent = build_agent(here, self.data, tokenizer)
        tasks = shuffled(self.data.items(here.train))
        self.batches = EpisodeBatches(Searches(tasks), here.batch_size, world)
        super().__init__(
            config,
            world,
            agent,
            {"order": self.batches},
            vocabulary=vocabulary,
            summary=f"{len(tasks)} tasks, {len(tokenizer)} words, "
            f"{self.data.describe(here, self.held_out)}",
        )

    def learn(self) -> dict[str, Tensor]:
        losses = self.agent.learn(next(self.batches), self.helper)
        self.agent.update()
        return losses

    def evaluate(self) -> dict[str, float]:
        scores = {}
        for name, tasks in self.held_out.items():
            results = walk_split(self.agent, tasks, name, self.config.batch_size, self.world)
            for metric, value in score_walks(results, tasks, self.data.graphs).items():
                scores[f"{name}/{metric}"] = value
        return scores

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """SPL of all tasks together and of each split."""
        goals = {f"best_{name}": scores[f"{name}/spl"] for name in self.held_out if scores}
        if len(goals) < 2:
            return goals
        sizes = {name: len(tasks) for name, tasks in self.held_out.items()}
        weighted = [scores[f"{name}/spl"] * size for name, size in sizes.items()]
        return {"best_combined": sum(weighted) / sum(sizes.values()), **goals}

    def snapshot(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "model": asdict(self.agent.config),
            "bert": describe_bert(self.agent.modules["nav_module"].encoder),
            "rollout": asdict(self.agent.search),
            "max_length": self.config.max_length,
        }


TASK = loop.Task(
    kind=KIND,
    config=HannaRun,
    open=HannaTraining,
    fixed=(*FIXED, "wordpieces", "model", "bert"),
    upgrade=upgrade,
    unused=unused_options,
)


def helper_of(splits: Sequence[str]) -> str:
    """The routes that help all of ``splits``; ``ValueError`` where they differ."""
    helpers = {resolve_split(name)[1] for name in splits}
    if len(helpers) > 1:
        raise ValueError(
            f"--train {' '.join(splits)} mixes splits that ANNA helps with different routes; give "
            "splits of the same kind"
        )
    return helpers.pop()


def open_tasks(
    config: HannaRun, splits: Iterable[str], device: torch.device
) -> TaskData[HannaTask]:
    """Read ``splits``, their scans, routes and features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    read = {name: read_tasks(config.data_dir, name) for name in dict.fromkeys(splits)}
    graphs, features, rows = open_scenes(config, read, config.model.angle_size, device)
    paths = ((one, path) for tasks in read.values() for one in tasks for path in one.paths)
    check_tasks(graphs, (Episode(one.scan, path, id=one.id) for one, path in paths))
    routes = read_routes(config.data_dir, graphs.scans)
    anna = Anna(graphs, routes, config.rollout.start_radius)
    return TaskData(graphs, features, HannaEnvironment(graphs, anna, rows), read)


def open_tokenizer(config: HannaRun, vocabulary: Path) -> HannaTokenizer:
    """The tokenizer that suits the encoder."""
    if config.model.encoder == "dic":
        return WordPieceTokenizer(vocabulary, config.max_length)
    return SpaceTokenizer(read_vocabulary(vocabulary), config.max_length)


def build_agent(
    config: HannaRun, data: TaskData[HannaTask], tokenizer: HannaTokenizer
) -> HannaAgent:
    """An agent with the same weights on every rank, from scratch or from ``start_from``."""
    with seeded(config.seed):
        bert = None
        if config.model.encoder == "dic":
            bert = open_bert(config, len(tokenizer), width=None, max_length=config.max_length)
        agent = make_agent(config, data, tokenizer, bert)
    if config.start_from is not None:
        load_weights(config.start_from, agent.modules)
    return agent.train()


def make_agent(
    config: HannaRun,
    data: TaskData[HannaTask],
    tokenizer: HannaTokenizer,
    bert: PrevalentModel | None,
) -> HannaAgent:
    """The agent that ``config`` describes."""
    return HannaAgent(
        config.model,
        data.environment,
        data.features,
        tokenizer.encode,
        vocab_size=len(tokenizer),
        max_length=config.max_length,
        bert=bert,
        optimizer=config.optimizer,
        search=config.rollout,
        precision=config.precision,
    )


def load_weights(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Load an agent into ``modules``: a run, a snapshot, or a ``.ckpt`` of the authors' code.

    Raises ``ValueError`` where a tensor does not fit.
    """
    path = find_agent(path)
    if path.is_dir():
        read_agent_config(path, KIND)
        load_agent(path, modules)
        return
    content = read_weights(path, [Namespace])  # their options: names and plain values
    if "model_state_dict" not in content:
        raise ValueError(
            f"{path} is no checkpoint of HANNA's code: it has no model_state_dict; give NAME_last."
            "ckpt or the like"
        )
    states: dict[str, dict[str, Tensor]] = {name: {} for name in modules}
    for key, value in content["model_state_dict"].items():
        name, _, tensor = key.partition(".")
        if name not in states:
            raise ValueError(
                f"{path} does not fit: it has {key}, this agent consists of {', '.join(states)}"
            )
        states[name][tensor] = value
    for name, module in modules.items():
        check_fit(name, module, states[name], path)
    for name, module in modules.items():
        module.load_state_dict(states[name])


class TrainedAgent(NamedTuple):
    agent: HannaAgent
    data: TaskData[HannaTask]
    tasks: Sequence[HannaTask]
    config: HannaRun
    step: int | None  # that the agent was saved at


def open_agent(
    run: Run,
    split: str,
    *,
    snapshot: str | None = None,
    step: int | None = None,
    data_dir: Path | None = None,
    device: str = "auto",
) -> TrainedAgent:
    """The agent of a run in eval mode and the tasks of ``split``, as `tasks.r2r.open_agent`."""
    saved = open_snapshot(run.folder, KIND, snapshot, step)
    config = options_of_snapshot(run, saved, HannaConfig, HannaRolloutConfig, data_dir)
    data = open_tasks(config, [split], choose_device(device))
    tokenizer = open_tokenizer(config, saved.vocabulary)
    agent = make_agent(config, data, tokenizer, bert_of_snapshot(saved.content))
    saved.load(agent.modules)
    return TrainedAgent(agent.train(False), data, data.splits[split], config, saved.step)


def walk_agent(trained: TrainedAgent, split: str, batch_size: int) -> Walks:
    """Walk the agent's tasks of ``split``."""
    agent, data, tasks, config, step = trained
    results = walk_split(agent, tasks, split, batch_size)
    return Walks(results, references(tasks), data.graphs, config.data_dir, step=step)


def walk_split(
    agent: HannaAgent,
    tasks: Sequence[HannaTask],
    split: str,
    batch_size: int,
    world: World | None = None,
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = list(tasks) if world is None else list(tasks[world.rank :: world.size])
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    records = agent.act(batches, resolve_split(split)[1])
    return gather_results(records, (one.id for one in tasks), "hanna")


def score_walks(results: Results, tasks: Sequence[HannaTask], graphs: Graphs) -> dict[str, float]:
    """Mean scores of ``results`` under the metric names of HANNA."""
    return score_results(results, references(tasks), graphs, "hanna")
