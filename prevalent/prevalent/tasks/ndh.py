"""Options of ``prevalent train-ndh``; the presets are in `dialog_presets`."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..agents.ndh import DialogAgent, DialogConfig, DialogWalk
from ..agents.rollout import Batch, EpisodeBatches, Episodes, Feedback
from ..config import TINY_MODEL, TOY_MODEL, ModelConfig
from ..curves import Means, draw_scores
from ..data.features import DeviceFeatures
from ..data.instructions import SHUFFLE_SEED
from ..data.ndh import (
    Dialog,
    DialogTokenizer,
    Tags,
    encode_dialogs,
    open_dialog_pieces,
    open_dialog_words,
    read_dialogs,
)
from ..data.results import Results, score_results
from ..data.tokenizers import DIALOG_LENGTHS, History
from ..environments.low_level import LowLevelEnvironment
from ..environments.panorama import DialogEnvironment
from ..metrics.navigation import PathType
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

PLAN_ACTIONS, WALK_ACTIONS, LOW_LEVEL_WALK_ACTIONS = 20, 40, 80
"""Most actions of an episode along the oracle's plan, along longer paths, and along these where
turning takes steps too."""


LOW_LEVEL_LENGTHS = {**DIALOG_LENGTHS, "nav_q_oracle_ans": 120, "all": 720}
"""Longest texts of the Seq2Seq baseline; `DIALOG_LENGTHS` has those of PREVALENT."""


DialogFeedback = Literal["mixed", "teacher", "argmax", "sample"]


@dataclass(frozen=True)
class NDHRun(AgentRun):
    """Train the agent that follows a dialog."""

    shortest_text: ClassVar[int] = 0

    run_dir: Path = Path("runs/ndh")
    """Folder of checkpoints, logs and snapshots; the same command continues there."""
    angle_layout: Literal["interleaved", "block"] = "block"
    """Order of the angle features; pre-training and NDH use ``block``."""
    path_type: PathType = "trusted_path"
    """Whose path is right: ``planner_path`` (Oracle), ``player_path`` (Navigator) or
    ``trusted_path`` (Mixed: the navigator's where it reaches the end of the plan)."""
    history: History = "all"
    """What is read: ``none``, the ``target``, the last answer (``oracle_ans``) with its question
    (``nav_q_oracle_ans``), or ``all`` that was said; the last three with the target."""
    max_length: int = 0
    """Longest text in words or word pieces, its end is kept; 0: as the authors for the history."""
    tags: Tags = "authors"
    """Special word pieces: ``authors`` misses the brackets of two tags, ``whole`` has them."""
    keep_first: bool = False
    """Keep [CLS] in front of a text that is cut; the authors lose it."""
    wordpieces: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary of ``dic``, relative to the data folder; a pre-trained folder that holds
    a ``vocab.txt`` has precedence."""
    pretrained: Path | None = None
    """Pre-trained encoder (``RUN/model`` of ``prevalent pretrain``, or a converted checkpoint);
    None starts one of the ``--bert`` sizes from random weights."""
    feedback: DialogFeedback = "mixed"
    """Whose actions are walked while training, always told the teacher's: the ``teacher``'s, the
    best (``argmax``), drawn ones (``sample``), or at each step the first or the last (``mixed``)"""
    sample_ratio: float = 0.2
    """``mixed``: share of drawn steps."""
    batch_size: int = 20
    """Episodes of one process and one roll-out."""
    max_steps: int = 20_000
    """Optimizer steps."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "adamax", lr=5e-5, weight_decay=5e-4, max_norm=math.inf
        )
    )
    model: DialogConfig = field(default_factory=DialogConfig)
    bert: ModelConfig = field(default_factory=ModelConfig)
    walk: DialogWalk = field(default_factory=DialogWalk)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sample_ratio <= 1:
            raise ValueError(f"--sample-ratio must be in [0, 1], got {self.sample_ratio}")
        if self.pretrained is not None and self.model.encoder != "dic":
            raise ValueError("--pretrained needs --model.encoder dic; add it or drop --pretrained")

    @property
    def text_length(self) -> int:
        """L, longest text in words or word pieces."""
        lengths = LOW_LEVEL_LENGTHS if self.model.actions == "low-level" else DIALOG_LENGTHS
        return self.max_length or lengths[self.history]

    @property
    def max_actions(self) -> int:
        """Most actions of an episode."""
        if self.walk.max_actions:
            return self.walk.max_actions
        if self.path_type == "planner_path":
            return PLAN_ACTIONS
        low_level = self.model.actions == "low-level"
        return LOW_LEVEL_WALK_ACTIONS if low_level else WALK_ACTIONS


RUNS = Path("runs/ndh")
ADAMAX = OptimizerConfig("adamax", lr=5e-4, weight_decay=5e-4, max_norm=math.inf)

ORACLE = NDHRun(
    run_dir=RUNS / "prevalent-oracle",
    pretrained=Path("runs/pretrain/base/model"),
    path_type="planner_path",
    batch_size=15,
    optimizer=ADAMAX,
)
NAVIGATOR = replace(ORACLE, run_dir=RUNS / "prevalent-navigator", path_type="player_path")
MIXED = replace(ORACLE, run_dir=RUNS / "prevalent-mixed", path_type="trusted_path")
ANSWER = replace(ORACLE, run_dir=RUNS / "prevalent-oracle-answer", history="oracle_ans")
SEQ2SEQ = NDHRun(
    run_dir=RUNS / "seq2seq-oracle",
    path_type="planner_path",
    feedback="sample",
    batch_size=100,
    optimizer=OptimizerConfig("adam", lr=1e-4, weight_decay=5e-4, max_norm=math.inf),
    model=DialogConfig(
        encoder="lstm",
        actions="low-level",
        hidden_size=512,
        bidirectional=False,
        dropout=0.5,
    ),
)
SMALL_AGENT = DialogConfig(
    hidden_size=128,
    attention_size=64,
    top_lstm=False,
    dropout=0.3,
    encoder_dropout=0.3,
    update_language=True,
    update_cross=True,
)
TOY_AGENT = DialogConfig(
    hidden_size=64,
    encoder_size=64,
    attention_size=64,
    top_lstm=False,
    dropout=0.1,
    encoder_dropout=0.1,
    angle_size=32,
    update_language=True,
    update_cross=True,
)
TINY_AGENT = DialogConfig(
    hidden_size=8, encoder_size=6, word_size=6, attention_size=8, angle_size=4, update_cross=True
)

NDH_PRESETS: dict[str, tuple[str, NDHRun]] = {
    "prevalent-oracle": ("Table 3, PREVALENT, Oracle: learns the oracle's plans", ORACLE),
    "prevalent-navigator": ("Table 3, PREVALENT, Navigator: learns the human's ways", NAVIGATOR),
    "prevalent-mixed": (
        "Table 3, PREVALENT, Mixed: the human's way where it can be trusted",
        MIXED,
    ),
    "seq2seq-oracle": ("Table 3, Seq2Seq, Oracle", SEQ2SEQ),
    "seq2seq-navigator": (
        "Table 3, Seq2Seq, Navigator",
        replace(SEQ2SEQ, run_dir=RUNS / "seq2seq-navigator", path_type="player_path"),
    ),
    "seq2seq-mixed": (
        "Table 3, Seq2Seq, Mixed",
        replace(SEQ2SEQ, run_dir=RUNS / "seq2seq-mixed", path_type="trusted_path"),
    ),
    "prevalent-oracle-answer": ("ablation: reads the last answer alone, Oracle", ANSWER),
    "prevalent-mlm-only": (
        "ablation: the same with an encoder pre-trained without action prediction",
        replace(
            ANSWER,
            run_dir=RUNS / "prevalent-mlm-only",
            pretrained=Path("runs/pretrain/mlm-only/model"),
        ),
    ),
    "prevalent-without-pretraining": (
        "ablation: PREVALENT, Mixed, its encoder from random weights and trained throughout",
        replace(
            MIXED,
            run_dir=RUNS / "prevalent-without-pretraining",
            pretrained=None,
            model=DialogConfig(update_language=True, update_cross=True),
        ),
    ),
    "ndh-small": (
        "small agent with random stand-in features, trained on val seen; a few minutes on a CPU",
        NDHRun(
            run_dir=RUNS / "small",
            features=None,
            standin_dim=4,
            train=("val_seen",),
            held_out=("val_unseen",),
            max_length=80,
            batch_size=16,
            max_steps=1200,
            log_every=40,
            eval_every=400,
            save_every=200,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            walk=DialogWalk(max_actions=10, reuse_text=True),
            model=SMALL_AGENT,
            bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
        ),
    ),
    "demo": (
        "toy houses made by code, a minute on a CPU",
        NDHRun(
            run_dir=RUNS / "demo",
            world="toy",
            path_type="planner_path",
            history="oracle_ans",
            batch_size=16,
            max_steps=100,
            log_every=10,
            eval_every=100,
            save_every=50,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            walk=DialogWalk(max_actions=8, reuse_text=True),
            model=TOY_AGENT,
            bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
        ),
    ),
    "ndh-smoke": (
        "toy houses, a few steps: does everything run",
        NDHRun(
            run_dir=RUNS / "smoke",
            world="toy",
            toy_houses=1,
            held_out=("val_seen@3", "val_unseen@3"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            optimizer=OptimizerConfig("adam"),
            walk=DialogWalk(max_actions=4),
            model=TINY_AGENT,
            bert=replace(TINY_MODEL, max_positions=300),
        ),
    ),
}


TRAIN_EVALUATION_BATCHES = 20
LOSSES = ("loss", "action_loss", "actions", "encoder_norm", "decoder_norm")
GOAL_PROGRESS = "dist_to_end_reduction"


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-ndh prevalent-mixed --batch-size 32``."""
    train_ndh(parse_preset(NDH_PRESETS, argv, "prevalent train-ndh"))


def train_ndh(config: NDHRun) -> DialogAgent:
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
        data = open_dialog_world(config, (*config.train, *config.held_out), world.device)
        vocabulary = find_dialog_vocabulary(config)
        tokenizer = open_dialog_tokenizer(config, vocabulary)
        held_out = open_held_out(config, data, tokenizer)
        agent = build_dialog_agent(config, data, tokenizer)
        batches = open_batches(config, data, tokenizer, world)
        progress, means = Progress(), Means(world.device, LOSSES)
        parts = {**agent.parts(), "order": batches}
        checkpoint = Checkpoint(run_dir, **parts, progress=progress, means=means)
        checkpoint.load_latest()

        with Logs(run_dir, total_steps, progress.step) as logs:
            if progress.step == 0:
                logs.text(summarize(config, data, tokenizer, held_out))
            while progress.step < total_steps:
                losses = train_step(agent, next(batches), config, progress.step)
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
                    scores = evaluate_splits(agent, held_out, data, config, world)
                    if scores:
                        logs.log(progress.step, **scores)
                    names = ["last", *update_best(progress, scores)]
                    for name in names if world.is_main else ():
                        save_dialog_agent(run_dir / "snapshots" / name, agent, config, vocabulary)
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                logs.text(draw_scores(run_dir, GOAL_PROGRESS, "success_rate"))
            barrier()
    return agent


def open_batches(
    config: NDHRun, data: DialogWorld, tokenizer: DialogTokenizer, world: World
) -> EpisodeBatches:
    """Endless batches of the training splits, shuffled once as the authors do.

    Raises ``ValueError`` where a dialog has no path to learn.
    """
    dialogs = data.dialogs(config.train)
    if not all(one.has_paths for one in dialogs):
        raise ValueError(
            f"--train {' '.join(config.train)} holds dialogs without paths (a test split); there "
            "is nothing to learn from them"
        )
    random.Random(SHUFFLE_SEED).shuffle(dialogs)
    return EpisodeBatches(open_dialogs(config, dialogs, tokenizer), config.batch_size, world)


def open_held_out(
    config: NDHRun, data: DialogWorld, tokenizer: DialogTokenizer
) -> dict[str, DialogEpisodes]:
    """The splits to evaluate; of those that are also trained on, 20 batches."""
    held_out = {}
    for name in config.held_out:
        dialogs = data.splits[name]
        if name in config.train:
            dialogs = dialogs[: TRAIN_EVALUATION_BATCHES * config.batch_size]
        held_out[name] = open_dialogs(config, dialogs, tokenizer)
    return held_out


def train_step(agent: DialogAgent, batch: Batch, config: NDHRun, step: int) -> dict[str, Tensor]:
    """One optimizer step on one batch (see ``--feedback``)."""
    losses = agent.imitate(batch, feedback_of(config, agent.max_actions, step))
    return {**losses, **agent.update()}


def feedback_of(config: NDHRun, max_actions: int, step: int) -> Feedback | list[Feedback]:
    """Who acts in an episode; ``mixed`` draws for every action of the whole batch.

    Drawn from the step alone, so that all processes agree and a resumed run does too.
    """
    if config.feedback != "mixed":
        return config.feedback
    drawn = np.random.default_rng([config.seed, step]).random(max_actions) < config.sample_ratio
    return ["sample" if one else "teacher" for one in drawn]


def evaluate_splits(
    agent: DialogAgent,
    held_out: Mapping[str, DialogEpisodes],
    data: DialogWorld,
    config: NDHRun,
    world: World,
) -> dict[str, float]:
    """``SPLIT/METRIC`` of greedy walks, the same on every rank."""
    scores = {}
    for name, episodes in held_out.items():
        results = walk_dialog_split(agent, episodes, config.batch_size, world)
        found = score_dialog_walks(results, episodes, data.graphs, config.path_type)
        for metric, value in found.items():
            scores[f"{name.partition('@')[0]}/{metric.replace(' ', '_')}"] = value
    return scores


def update_best(progress: Progress, scores: Mapping[str, float]) -> list[str]:
    """Names of the snapshots that ``scores`` beat.

    ``best_SPLIT`` by success, as for Room-to-Room, and ``best_SPLIT_progress`` by goal progress.
    """
    marks = {}
    for name, value in scores.items():
        split, _, metric = name.rpartition("/")
        if metric in ("success_rate", GOAL_PROGRESS):
            ending = "" if metric == "success_rate" else "_progress"
            marks[f"best_{split.split('/')[-1]}{ending}"] = value
    beaten = [name for name, value in marks.items() if value > getattr(progress, name, -np.inf)]
    for name in beaten:
        setattr(progress, name, marks[name])
    return beaten


def summarize(
    config: NDHRun,
    data: DialogWorld,
    tokenizer: DialogTokenizer,
    held_out: Mapping[str, DialogEpisodes],
) -> str:
    """What the run learns from, in one line."""
    train = len(data.dialogs(config.train))
    sizes = ", ".join(f"{name} {len(episodes)}" for name, episodes in held_out.items())
    seen = "random stand-ins" if config.features is None else str(Path(config.features).name)
    return (
        f"{train} dialogs, {len(data.graphs.scans)} scans, {len(tokenizer)} words; reads "
        f"{config.history}, learns the {config.path_type}; features: {seen}, "
        f"{data.features.image_width} wide; evaluated on {sizes}"
    )


WORDS = "embeddings.word_embeddings.weight"
KIND = "dialog agent"


@dataclass(frozen=True)
class DialogEpisodes(Episodes):
    """Dialogs of a split with their encoded texts."""

    instructions: Sequence[Dialog]  # type: ignore[assignment]


@dataclass(frozen=True)
class DialogWorld:
    """Scans, what is seen in them, and the dialogs of every split."""

    graphs: Graphs
    features: DeviceFeatures
    environment: DialogEnvironment | LowLevelEnvironment
    splits: Mapping[str, Sequence[Dialog]]

    def dialogs(self, names: Iterable[str]) -> list[Dialog]:
        """Those of several splits, one after the other."""
        return [one for name in names for one in self.splits[name]]


def open_dialog_world(config: NDHRun, splits: Iterable[str], device: torch.device) -> DialogWorld:
    """Read ``splits``, their scans and features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    read = {
        name: read_dialogs(config.data_dir, name, config.path_type)
        for name in dict.fromkeys(splits)
    }
    place = open_place(config, read, config.model.angle_size, device)
    kind = LowLevelEnvironment if config.model.actions == "low-level" else DialogEnvironment
    return DialogWorld(place.graphs, place.features, kind(place.graphs, place.rows), read)


def find_dialog_vocabulary(config: NDHRun) -> Path:
    """The file of the agent's vocabulary."""
    if config.model.encoder == "lstm":
        return config.data_dir / config.words
    own = None if config.pretrained is None else config.pretrained / "vocab.txt"
    return own if own is not None and own.is_file() else config.data_dir / config.wordpieces


def open_dialog_tokenizer(config: NDHRun, vocabulary: Path) -> DialogTokenizer:
    """The tokenizer that suits the encoder."""
    if config.model.encoder == "lstm":
        return open_dialog_words(vocabulary, config.text_length)
    return open_dialog_pieces(
        vocabulary, config.text_length, tags=config.tags, keep_first=config.keep_first
    )


def open_dialogs(
    config: NDHRun, dialogs: Sequence[Dialog], tokenizer: DialogTokenizer
) -> DialogEpisodes:
    """``dialogs`` with what the agent reads of them."""
    return DialogEpisodes(dialogs, encode_dialogs(dialogs, tokenizer, config.history))


def build_dialog_agent(
    config: NDHRun, world: DialogWorld, tokenizer: DialogTokenizer
) -> DialogAgent:
    """An agent with the same weights on every rank, from scratch or from ``start_from``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        bert = None
        if config.model.encoder == "dic":
            bert = open_dialog_bert(config, world.features.width, len(tokenizer))
        agent = DialogAgent(
            config.model,
            world.environment,
            world.features,
            max_actions=config.max_actions,
            vocab_size=len(tokenizer),
            bert=bert,
            optimizer=config.optimizer,
            walk=config.walk,
            precision=config.precision,
        )
    if config.start_from is not None:
        load_dialog_weights(config.start_from, agent.modules)
    return agent.train()


def open_dialog_bert(config: NDHRun, width: int, num_words: int) -> PrevalentModel:
    """The pre-trained encoder with new rows for the tags, or one with random weights.

    Raises ``ValueError`` where it knows another vocabulary or shorter texts.
    """
    if config.pretrained is None:
        return PrevalentModel(replace(config.bert, vocab_size=num_words, image_dim=width))
    bert = load_model(config.pretrained).bert
    added = num_words - bert.config.vocab_size
    if added not in (0, 3):
        raise ValueError(
            f"--pretrained {config.pretrained} knows {bert.config.vocab_size} word pieces, the "
            f"vocabulary {find_dialog_vocabulary(config)} has {num_words - 3}; give the vocabulary "
            "it was trained with as --wordpieces"
        )
    if bert.config.max_positions < config.text_length:
        raise ValueError(
            f"--max-length {config.text_length} exceeds the {bert.config.max_positions} positions "
            f"of --pretrained {config.pretrained}; lower it"
        )
    return extend_vocabulary(bert, num_words)


def extend_vocabulary(bert: PrevalentModel, num_words: int) -> PrevalentModel:
    """A copy of ``bert`` with ``num_words`` word embeddings; the new rows are random."""
    wider = PrevalentModel(replace(bert.config, vocab_size=num_words))
    state = dict(bert.state_dict())
    known = state.pop(WORDS)
    wider.load_state_dict(state, strict=False)
    with torch.no_grad():
        wider.embeddings.word_embeddings.weight[: len(known)] = known
    return wider


def load_dialog_weights(
    path: Path, modules: Mapping[str, nn.Module], snapshot: str = "best_val_unseen"
) -> None:
    """Load an agent into ``modules``: a run, a snapshot, or the authors' file of an encoder.

    The authors save encoder and decoder as ``NAME_enc_iter_N`` and ``NAME_dec_iter_N``; either may
    be named.

    Raises:
        FileNotFoundError: the other of the two files is missing.
        ValueError: a tensor does not fit.
    """
    path = find_agent(path, snapshot)
    if path.is_dir():
        load_agent(path, modules)
        return
    for name, module in modules.items():
        part = file_of(path, name)
        state = {k.removeprefix("module."): v for k, v in read_weights(part).items()}
        check_fit(name, module, state, part)
        module.load_state_dict(state)


def file_of(path: Path, name: str) -> Path:
    """The authors' file of the encoder or decoder (``name``) that belongs to ``path``."""
    part = path.with_name(path.name.replace("_enc_", "_dec_").replace("_dec_", f"_{name[:3]}_"))
    if not part.is_file():
        raise FileNotFoundError(
            f"{part} does not exist; put the {name} of {path.name} beside it under this name"
        )
    return part


def save_dialog_agent(folder: Path, agent: DialogAgent, config: NDHRun, vocabulary: Path) -> None:
    """Write weights, sizes and vocabulary, all that `load_dialog_agent` needs beside the data."""
    bert = getattr(agent.modules["encoder"], "bert", None)
    content = {
        "kind": KIND,
        "model": asdict(agent.config),
        "bert": None if bert is None else asdict(bert.config),
        "walk": asdict(agent.walk),
        "history": config.history,
        "max_length": config.text_length,
        "path_type": config.path_type,
    }
    save_agent(folder, agent.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def load_dialog_agent(
    folder: Path, config: NDHRun, splits: Sequence[str], device: torch.device
) -> tuple[DialogAgent, DialogWorld, DialogTokenizer]:
    """The agent of a snapshot folder in eval mode, its world and its tokenizer.

    Args:
        folder: written by `save_dialog_agent`.
        config: of its run; data and features are read from where it says.
        splits: to open.
        device: to run on.
    """
    content = read_agent_config(folder, KIND)
    model = as_options(DialogConfig, content["model"])  # type: ignore[type-var]
    config = replace(config, model=model, pretrained=None, max_length=content["max_length"])
    world = open_dialog_world(config, splits, device)
    tokenizer = open_dialog_tokenizer(config, folder / "vocab.txt")
    bert = None
    if content["bert"] is not None:
        bert = PrevalentModel(as_options(ModelConfig, content["bert"]))
    agent = DialogAgent(
        model,
        world.environment,
        world.features,
        max_actions=config.max_actions,
        vocab_size=len(tokenizer),
        bert=bert,
        walk=as_options(DialogWalk, content["walk"]),  # type: ignore[type-var]
        precision=config.precision,
    )
    load_agent(folder, agent.modules)
    return agent.train(False), world, tokenizer


class TrainedDialogAgent(NamedTuple):
    agent: DialogAgent
    world: DialogWorld
    episodes: DialogEpisodes
    config: NDHRun


def open_dialog_agent(
    run_dir: Path,
    split: str,
    *,
    snapshot: str = "best_val_unseen",
    data_dir: Path | None = None,
    device: str = "auto",
) -> TrainedDialogAgent:
    """The agent of a run's snapshot and the dialogs of ``split``.

    ``data_dir`` takes the place of the run's own data folder.

    Raises ``FileNotFoundError`` or ``ValueError`` where the run, the snapshot or data is missing.
    """
    config, chosen = read_config(NDHRun, run_dir), choose_device(device)
    folder = find_agent(run_dir, snapshot)
    config = settle(config, run_dir, World(0, 1, chosen))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    agent, world, tokenizer = load_dialog_agent(folder, config, [split], chosen)
    episodes = open_dialogs(config, world.splits[split], tokenizer)
    return TrainedDialogAgent(agent, world, episodes, config)


def walk_dialog_split(
    agent: DialogAgent, episodes: DialogEpisodes, batch_size: int, world: World | None = None
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = episodes if world is None else episodes.part(world.rank, world.size)
    records = agent.act(mine.batches(batch_size))
    gathered = [record for part in gather_objects(records) for record in part]
    by_id = {str(record["inst_idx"]): record for record in gathered}
    return {one.id: by_id[one.id] for one in episodes.instructions}


def score_dialog_walks(
    results: Results, episodes: DialogEpisodes, graphs: Graphs, path_type: PathType
) -> dict[str, float]:
    """Mean scores under the metric names of CVDN.

    Raises ``ValueError`` where a dialog has no goals (test split).
    """
    references = [one.reference for one in episodes.instructions]
    return score_results(results, references, graphs, "ndh", path_type=path_type)
