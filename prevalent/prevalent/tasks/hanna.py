"""Options of ``prevalent train-hanna``; the presets are in `assistance_presets`."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..agents.hanna import AssistanceAgent, SearchConfig
from ..config import TINY_MODEL, TOY_MODEL, ModelConfig
from ..curves import Means, draw_scores
from ..data.features import DeviceFeatures
from ..data.hanna import (
    AssistanceTask,
    SpaceTokenizer,
    read_routes,
    read_tasks,
    references,
    resolve_split,
)
from ..data.instructions import SHUFFLE_SEED, BatchOrder
from ..data.results import Results, score_results
from ..data.tokenizers import WordPieceTokenizer, read_vocabulary
from ..environments.hanna import Anna, AssistanceEnvironment
from ..environments.navigation import Episode, check_tasks
from ..models.hanna import AssistanceConfig
from ..models.prevalent import PrevalentModel
from ..optimizer import OptimizerConfig
from ..released.checkpoints import load_model, read_weights
from ..released.snapshots import (
    as_options,
    check_fit,
    find_agent,
    load_agent,
    read_agent_config,
    save_agent,
)
from ..runtime.checkpoint import Checkpoint, Progress
from ..runtime.command import parse_preset
from ..runtime.distributed import World, barrier, choose_device, gather_objects, start
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import check_finite, check_weights
from ..runtime.rundir import open_run, read_config
from ..runtime.signals import StopSignal
from ..simulator.graph import Graphs
from .navigation import AgentRun, open_place, settle


@dataclass(frozen=True)
class HannaRun(AgentRun):
    """Train the agent that looks for objects and can ask for help."""

    run_dir: Path = Path("runs/hanna")
    """Folder of checkpoints, logs and snapshots; the same command continues there."""
    angle_layout: Literal["interleaved", "block"] = "block"
    """Order of the angle features; pre-training and HANNA use ``block``."""
    words: Path = Path("hanna/vocab.txt")
    """Word vocabulary of ``words`` encoders, relative to the data folder."""
    wordpieces: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary of ``dic``, relative to the data folder; a pre-trained folder that holds
    a ``vocab.txt`` has precedence."""
    max_length: int = 50
    """Longest text in words or word pieces."""
    held_out: tuple[str, ...] = (
        "val_seen_env_seen_anna",
        "val_seen_env_unseen_anna",
        "val_unseen",
    )
    """Splits to evaluate; the end of a seen one says whether ANNA tells routes of training."""
    pretrained: Path | None = None
    """Pre-trained encoder (``RUN/model`` of ``prevalent pretrain``, or a converted checkpoint);
    None starts one of the ``--bert`` sizes from random weights."""
    batch_size: int = 32
    """Episodes of one process and one roll-out."""
    max_steps: int = 30_000
    """Optimizer steps."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("adam", lr=1e-4, weight_decay=5e-4)
    )
    """No gradient is clipped, whatever ``max_norm`` says."""
    model: AssistanceConfig = field(default_factory=AssistanceConfig)
    bert: ModelConfig = field(default_factory=ModelConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained is not None and self.model.encoder != "dic":
            raise ValueError("--pretrained needs --model.encoder dic; add it or drop --pretrained")
        if self.load_optimizer:
            raise ValueError("--load-optimizer is not for HANNA; the state stays in checkpoints")


RUNS = Path("runs/hanna")
EVERY = 300  # steps between evaluations

ANNA = HannaRun(run_dir=RUNS / "anna", log_every=100, eval_every=EVERY, save_every=EVERY)
PREVALENT = replace(
    ANNA,
    run_dir=RUNS / "prevalent",
    pretrained=Path("runs/pretrain/base/model"),
    model=AssistanceConfig(encoder="dic"),
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
    model=AssistanceConfig(
        hidden_size=64, num_heads=4, dropout=0.1, ask_size=16, angle_size=32, reset="own"
    ),
    bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
    search=SearchConfig(train_length=12, eval_length=20),
)
TINY_AGENT = AssistanceConfig(
    encoder="dic", hidden_size=8, num_heads=2, dropout=0.1, ask_size=4, angle_size=4
)


def _searching(name: str, **changes) -> HannaRun:
    return replace(ANNA, run_dir=RUNS / name, search=replace(ANNA.search, **changes))


def _built(name: str, **changes) -> HannaRun:
    return replace(ANNA, run_dir=RUNS / name, model=replace(ANNA.model, **changes))


HANNA_PRESETS: dict[str, tuple[str, HannaRun]] = {
    "anna": ("Table 4, ANNA: the base agent, trained words", ANNA),
    "prevalent": ("Table 4, PREVALENT: its text layers, frozen, in both networks", PREVALENT),
    "no-assistance": (
        "Table 4, no assistance: never asks",
        _searching("no-assistance", ask="never"),
    ),
    "perfect-interpretation": (
        "Table 4, perfect assistance interpretation: follows routes without an error",
        _searching("perfect-interpretation", perfect_interpretation=True),
    ),
    "prevalent-mlm-only": (
        "ablation: encoder pre-trained without action prediction",
        replace(
            PREVALENT,
            run_dir=RUNS / "prevalent-mlm-only",
            pretrained=Path("runs/pretrain/mlm-only/model"),
        ),
    ),
    "ask-every-5": ("HANNA: asks every five steps", _searching("ask-every-5", ask="every")),
    "random-ask": ("HANNA: asks at a fifth of the steps", _searching("random-ask", ask="random")),
    "vision-only": (
        "HANNA: sees where a route ends but not its words",
        _searching("vision-only", vision_only=True),
    ),
    "no-reason": ("HANNA: decides to ask without reasons", _built("no-reason", reasons=False)),
    "no-sim-attend": (
        "HANNA: without the memory of similar situations",
        _built("no-sim-attend", similar_situations=False),
    ),
    "no-reset-inter": ("HANNA: never forgets a subtask", _built("no-reset-inter", reset="never")),
    "no-curious": (
        "HANNA: imitation without curiosity",
        _searching("no-curious", curiosity=0.0),
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
            search=SearchConfig(train_length=4, eval_length=4),
        ),
    ),
}


TRAIN_EVALUATION_BATCHES = 20
LOSSES = ("loss", "navigation", "asking", "requests")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-hanna prevalent --batch-size 16``."""
    train_hanna(parse_preset(HANNA_PRESETS, argv, "prevalent train-hanna"))


def train_hanna(config: HannaRun) -> AssistanceAgent:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs, ``curve.png`` and ``snapshots/`` in ``run_dir``.

    Raises:
        FloatingPointError: a loss is not finite; the earlier checkpoints are kept.
        Stopped: a signal asked to stop; a checkpoint of this step was written.
    """
    with (
        start(config.device, seed=config.seed, deterministic=config.deterministic) as world,
        open_run(config.run_dir, config) as run_dir,
        StopSignal() as stop,
    ):
        total_steps = config.max_steps
        config = settle(config, run_dir, world)
        data = open_assistance_world(config, (*config.train, *config.held_out), world.device)
        vocabulary = find_assistance_vocabulary(config)
        tokenizer = open_assistance_tokenizer(config, vocabulary)
        held_out = open_held_out(config, data)
        agent = build_assistance_agent(config, data, tokenizer)
        helper = helper_of(config.train)
        batches = open_batches(config, data, world)
        progress, means = Progress(), Means(world.device, LOSSES)
        parts = {**agent.parts(), "order": batches}
        checkpoint = Checkpoint(run_dir, **parts, progress=progress, means=means)
        checkpoint.load_latest()

        with Logs(run_dir, total_steps, progress.step) as logs:
            if progress.step == 0:
                logs.text(summarize(config, data, tokenizer, held_out))
            while progress.step < total_steps:
                losses = agent.learn(next(batches), helper)
                agent.update()
                means.add(losses)
                progress.step += 1
                logs.advance(progress.step)

                stopping = stop.requested(progress.step)
                ended = progress.step == total_steps
                evaluating = ended or progress.step % config.eval_every == 0
                saving = stopping or ended or progress.step % config.save_every == 0
                if ended or progress.step % config.log_every == 0:
                    scalars = means.take()
                    check_finite(progress.step, **scalars)
                    logs.log(progress.step, **scalars)
                if evaluating or saving:
                    check_finite(progress.step, loss=losses["loss"])
                    check_weights(progress.step, checkpoint.parts)
                if evaluating:
                    scores = evaluate_splits(agent, held_out, data, config.batch_size, world)
                    if scores:
                        logs.log(progress.step, **scores)
                    names = ["last", *update_best(progress, scores, held_out)]
                    for name in names if world.is_main else ():
                        folder = run_dir / "snapshots" / name
                        save_assistance_agent(folder, agent, config, vocabulary)
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                logs.text(draw_scores(run_dir, "success_rate", "spl"))
            barrier()
    return agent


def helper_of(splits: Sequence[str]) -> str:
    """The routes that help all of ``splits``; ``ValueError`` where they differ."""
    helpers = {resolve_split(name)[1] for name in splits}
    if len(helpers) > 1:
        raise ValueError(
            f"--train {' '.join(splits)} mixes splits that ANNA helps with different routes; give "
            "splits of the same kind"
        )
    return helpers.pop()


def open_batches(config: HannaRun, data: AssistanceWorld, world: World) -> TaskBatches:
    """Endless batches of the training splits, shuffled once as the authors do."""
    tasks = data.tasks(config.train)
    random.Random(SHUFFLE_SEED).shuffle(tasks)
    return TaskBatches(tasks, config.batch_size, world)


def open_held_out(config: HannaRun, data: AssistanceWorld) -> dict[str, Sequence[AssistanceTask]]:
    """The splits to evaluate; of those that are also trained on, 20 batches."""
    most = TRAIN_EVALUATION_BATCHES * config.batch_size
    return {
        name: data.splits[name][:most] if name in config.train else data.splits[name]
        for name in config.held_out
    }


def evaluate_splits(
    agent: AssistanceAgent,
    held_out: Mapping[str, Sequence[AssistanceTask]],
    data: AssistanceWorld,
    batch_size: int,
    world: World,
) -> dict[str, float]:
    """``SPLIT/METRIC`` of greedy walks, the same on every rank."""
    scores = {}
    for name, tasks in held_out.items():
        results = search_tasks(agent, tasks, name, batch_size, world)
        for metric, value in score_searches(results, tasks, data.graphs).items():
            scores[f"{name}/{metric}"] = value
    return scores


def update_best(
    progress: Progress,
    scores: Mapping[str, float],
    held_out: Mapping[str, Sequence[AssistanceTask]],
) -> list[str]:
    """Names of the snapshots that ``scores`` beat: by SPL, of a split and of all tasks together."""
    marks = {f"best_{name}": scores[f"{name}/spl"] for name in held_out if scores}
    if len(marks) > 1:
        total = sum(len(tasks) for tasks in held_out.values())
        weighted = [scores[f"{name}/spl"] * len(tasks) for name, tasks in held_out.items()]
        marks["best_combined"] = sum(weighted) / total
    beaten = [name for name, value in marks.items() if value > getattr(progress, name, -1.0)]
    for name in beaten:
        setattr(progress, name, marks[name])
    return beaten


def summarize(
    config: HannaRun,
    data: AssistanceWorld,
    tokenizer: AssistanceTokenizer,
    held_out: Mapping[str, Sequence[AssistanceTask]],
) -> str:
    """What the run learns from, in one line."""
    sizes = ", ".join(f"{name} {len(tasks)}" for name, tasks in held_out.items())
    seen = "random stand-ins" if config.features is None else str(Path(config.features).name)
    return (
        f"{len(data.tasks(config.train))} tasks, {len(data.graphs.scans)} scans, "
        f"{len(tokenizer)} words; features: {seen}, {data.features.image_width} wide; evaluated on "
        f"{sizes}"
    )


KIND = "assistance agent"
AssistanceTokenizer = SpaceTokenizer | WordPieceTokenizer


@dataclass(frozen=True)
class AssistanceWorld:
    """Scans, what is seen in them, ANNA, and the tasks of every split."""

    graphs: Graphs
    features: DeviceFeatures
    environment: AssistanceEnvironment
    splits: Mapping[str, Sequence[AssistanceTask]]

    def tasks(self, names: Iterable[str]) -> list[AssistanceTask]:
        """Those of several splits, one after the other."""
        return [one for name in names for one in self.splits[name]]


def open_assistance_world(
    config: HannaRun, splits: Iterable[str], device: torch.device
) -> AssistanceWorld:
    """Read ``splits``, their scans, routes and features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    read = {name: read_tasks(config.data_dir, name) for name in dict.fromkeys(splits)}
    graphs, features, rows = open_place(config, read, config.model.angle_size, device)
    paths = ((one, path) for tasks in read.values() for one in tasks for path in one.paths)
    check_tasks(graphs, (Episode(one.scan, path, id=one.id) for one, path in paths))
    anna = Anna(graphs, read_routes(config.data_dir, graphs.scans), config.search.start_radius)
    return AssistanceWorld(graphs, features, AssistanceEnvironment(graphs, anna, rows), read)


def find_assistance_vocabulary(config: HannaRun) -> Path:
    """The file of the agent's vocabulary."""
    if config.model.encoder == "words":
        return config.data_dir / config.words
    own = None if config.pretrained is None else config.pretrained / "vocab.txt"
    return own if own is not None and own.is_file() else config.data_dir / config.wordpieces


def open_assistance_tokenizer(config: HannaRun, vocabulary: Path) -> AssistanceTokenizer:
    """The tokenizer that suits the encoder."""
    if config.model.encoder == "dic":
        return WordPieceTokenizer(vocabulary, config.max_length)
    return SpaceTokenizer(read_vocabulary(vocabulary), config.max_length)


def build_assistance_agent(
    config: HannaRun, world: AssistanceWorld, tokenizer: AssistanceTokenizer
) -> AssistanceAgent:
    """An agent with the same weights on every rank, from scratch or from ``start_from``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        bert = None
        if config.model.encoder == "dic":
            bert = open_assistance_bert(config, len(tokenizer))
        agent = AssistanceAgent(
            config.model,
            world.environment,
            world.features,
            tokenizer.encode,
            vocab_size=len(tokenizer),
            max_length=config.max_length,
            bert=bert,
            optimizer=config.optimizer,
            search=config.search,
            precision=config.precision,
        )
    if config.start_from is not None:
        load_assistance_weights(config.start_from, agent.modules)
    return agent.train()


def open_assistance_bert(config: HannaRun, num_words: int) -> PrevalentModel:
    """The pre-trained encoder, or one of the ``--bert`` sizes with random weights.

    Raises ``ValueError`` where it knows another vocabulary or shorter texts.
    """
    if config.pretrained is None:
        return PrevalentModel(replace(config.bert, vocab_size=num_words))
    bert = load_model(config.pretrained).bert
    if bert.config.vocab_size != num_words:
        raise ValueError(
            f"--pretrained {config.pretrained} knows {bert.config.vocab_size} word pieces, the "
            f"vocabulary {find_assistance_vocabulary(config)} has {num_words}; give the vocabulary "
            "it was trained with as --wordpieces"
        )
    if bert.config.max_positions < config.max_length:
        raise ValueError(
            f"--max-length {config.max_length} exceeds the {bert.config.max_positions} positions "
            f"of --pretrained {config.pretrained}; lower it"
        )
    return bert


def load_assistance_weights(
    path: Path, modules: Mapping[str, nn.Module], snapshot: str = "best_val_unseen"
) -> None:
    """Load an agent into ``modules``: a run, a snapshot, or a ``.ckpt`` of the authors' code.

    Raises ``ValueError`` where a tensor does not fit.
    """
    path = find_agent(path, snapshot)
    if path.is_dir():
        load_agent(path, modules)
        return
    with torch.serialization.safe_globals([Namespace]):  # their options: names and plain values
        content = read_weights(path)
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


def save_assistance_agent(
    folder: Path, agent: AssistanceAgent, config: HannaRun, vocabulary: Path
) -> None:
    """Write weights, sizes and vocabulary, all that `load_assistance_agent` needs but the data."""
    bert = getattr(agent.modules["nav_module"].encoder, "bert", None)
    content = {
        "kind": KIND,
        "model": asdict(agent.config),
        "bert": None if bert is None else asdict(bert.config),
        "search": asdict(agent.search),
        "max_length": config.max_length,
    }
    save_agent(folder, agent.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def load_assistance_agent(
    folder: Path, config: HannaRun, splits: Sequence[str], device: torch.device
) -> tuple[AssistanceAgent, AssistanceWorld]:
    """The agent of a snapshot folder in eval mode, and its world.

    Args:
        folder: written by `save_assistance_agent`.
        config: of its run; data and features are read from where it says.
        splits: to open.
        device: to run on.
    """
    content = read_agent_config(folder, KIND)
    model = as_options(AssistanceConfig, content["model"])  # type: ignore[type-var]
    search = as_options(SearchConfig, content["search"])  # type: ignore[type-var]
    config = replace(
        config, model=model, search=search, pretrained=None, max_length=content["max_length"]
    )
    world = open_assistance_world(config, splits, device)
    tokenizer = open_assistance_tokenizer(config, folder / "vocab.txt")
    bert = None
    if content["bert"] is not None:
        bert = PrevalentModel(as_options(ModelConfig, content["bert"]))
    agent = AssistanceAgent(
        model,
        world.environment,
        world.features,
        tokenizer.encode,
        vocab_size=len(tokenizer),
        max_length=config.max_length,
        bert=bert,
        search=search,
        precision=config.precision,
    )
    load_agent(folder, agent.modules)
    return agent.train(False), world


class TrainedAssistance(NamedTuple):
    agent: AssistanceAgent
    world: AssistanceWorld
    tasks: Sequence[AssistanceTask]
    config: HannaRun


class TaskBatches:
    """Endless batches of tasks; N processes share out batches of N times the size."""

    def __init__(self, tasks: Sequence[AssistanceTask], batch_size: int, world: World) -> None:
        self.tasks, self.world = tasks, world
        self.order = BatchOrder(len(tasks), batch_size * world.size)

    def __iter__(self) -> Iterator[list[AssistanceTask]]:
        return self

    def __next__(self) -> list[AssistanceTask]:
        return [self.tasks[i] for i in next(self.order)[self.world.rank :: self.world.size]]

    def state_dict(self) -> dict[str, Any]:
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["order"]) != len(self.tasks):
            raise ValueError(
                f"the checkpoint goes through {len(state['order'])} tasks, the data now has "
                f"{len(self.tasks)}; give the same --train, or a new --run-dir"
            )
        self.order.load_state_dict(state)


def open_assistance_agent(
    run_dir: Path,
    split: str,
    *,
    snapshot: str = "best_val_unseen",
    data_dir: Path | None = None,
    device: str = "auto",
) -> TrainedAssistance:
    """The agent of a run's snapshot and the tasks of ``split``.

    ``data_dir`` takes the place of the run's own data folder.

    Raises ``FileNotFoundError`` or ``ValueError`` where the run, the snapshot or data is missing.
    """
    config, chosen = read_config(HannaRun, run_dir), choose_device(device)
    folder = find_agent(run_dir, snapshot)
    config = settle(config, run_dir, World(0, 1, chosen))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    agent, world = load_assistance_agent(folder, config, [split], chosen)
    return TrainedAssistance(agent, world, world.splits[split], config)


def search_tasks(
    agent: AssistanceAgent,
    tasks: Sequence[AssistanceTask],
    split: str,
    batch_size: int,
    world: World | None = None,
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = list(tasks) if world is None else list(tasks[world.rank :: world.size])
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    records = agent.act(batches, resolve_split(split)[1])
    gathered = [record for part in gather_objects(records) for record in part]
    by_id = {record["instr_id"]: record for record in gathered}
    return {one.id: by_id[one.id] for one in tasks}


def score_searches(
    results: Results, tasks: Sequence[AssistanceTask], graphs: Graphs
) -> dict[str, float]:
    """Mean scores under the metric names of HANNA."""
    return score_results(results, references(tasks), graphs, "hanna")
