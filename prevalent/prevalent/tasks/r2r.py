"""Part of agent_options."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..agents.follower import Follower, FollowerConfig, add_losses
from ..agents.rollout import Batch, EpisodeBatches, Episodes, RolloutConfig, Tokenizer
from ..agents.search import Mixture, choose_walks, search_split, tune_mixture
from ..agents.speaker import Speaker, back_translate, feature_noise
from ..config import READING_MODEL, SMALL_MODEL, TINY_MODEL, TOY_MODEL, ModelConfig
from ..curves import Means, draw_scores
from ..data.instructions import SHUFFLE_SEED
from ..data.results import Results, score_results
from ..data.tokenizers import WordPieceTokenizer
from ..models.prevalent import PrevalentModel
from ..objectives import WalkReward
from ..optimizer import OptimizerConfig
from ..released.checkpoints import load_model
from ..released.snapshots import as_options, find_agent, load_agent, read_agent_config, save_agent
from ..runtime.checkpoint import Checkpoint, Progress
from ..runtime.command import parse_preset
from ..runtime.distributed import World, barrier, choose_device, gather_objects, start
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import check_finite, check_weights
from ..runtime.rundir import open_run, read_config
from ..runtime.signals import StopSignal
from ..simulator.graph import Graphs
from .navigation import AgentRun, AgentWorld, load_weights, open_words, open_world, settle
from .speaker import load_speaker

Teaching = Literal["teacher", "student", "sample", "self-critical"]


@dataclass(frozen=True)
class R2RRun(AgentRun):
    """Train the agent that follows instructions."""

    wordpieces: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary of transformer encoders, relative to the data folder; a pre-trained
    folder that holds a ``vocab.txt`` has precedence."""
    pretrained: Path | None = None
    """Pre-trained encoder (``RUN/model`` of ``prevalent pretrain``, or a converted checkpoint);
    None starts a transformer encoder of the ``--bert`` sizes from random weights."""
    aug: tuple[str, ...] = ()
    """Augmented paths, as ``--train``: their own texts, or a speaker's where one is given. Paths of
    unseen houses make it pre-exploration."""
    speaker: Path | None = None
    """Speaker for back-translation: a run, a snapshot, or a file of the authors' code."""
    feedback: Teaching = "sample"
    """``teacher``: imitation; ``student``: imitation along sampled walks; ``sample``: imitation of
    one batch and reinforcement on the next (A2C); ``self-critical``: sampled walks against the
    agent's own greedy ones."""
    walk_reward: WalkReward = "spl_sc"
    """self-critical: success (``sr``) or SPL of a walk, less that of the greedy walk (``_sc``),
    credited to all actions or to the last one (``_last``)."""
    imitation_weight: float = 0.2
    """Weight of the imitation loss on true instructions."""
    aug_weight: float = 0.6
    """The same on augmented paths."""
    accumulate: bool = True
    """One step for a true and an augmented batch together; False: they take turns."""
    schedule_ratio: float = -1.0
    """0 to 1: share of steps that only reinforce, the others only imitate with weight 1."""
    eval_batch_size: int = 100
    """Episodes that walk together in an evaluation; no walk depends on it."""
    model: FollowerConfig = field(default_factory=FollowerConfig)
    bert: ModelConfig = field(default_factory=ModelConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("imitation_weight", "aug_weight"):
            if getattr(self, name) < 0:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must not be negative, got {getattr(self, name)}")
        if self.eval_batch_size < 1:
            raise ValueError(f"--eval-batch-size must be at least 1, got {self.eval_batch_size}")
        if self.schedule_ratio > 1:
            raise ValueError(f"--schedule-ratio must be at most 1, got {self.schedule_ratio}")
        if self.schedule_ratio >= 0 and self.feedback != "sample":
            raise ValueError("--schedule-ratio needs --feedback sample, or set it to -1")
        if self.speaker is not None and not self.aug:
            raise ValueError(
                "--speaker describes augmented paths, but --aug names none; give --aug "
                "./aug_paths.json (`prevalent prepare aug-paths`) or drop --speaker"
            )
        if self.pretrained is not None and self.model.encoder == "lstm":
            raise ValueError(
                "--pretrained needs a transformer encoder; add --model.encoder dic or drop it"
            )


RUNS = Path("runs/r2r")


PRETRAINED = Path("runs/pretrain/base/model")


AUG_PATHS = ("./data/r2r/aug_paths.json",)


ENVDROP = R2RRun(
    run_dir=RUNS / "envdrop",
    model=FollowerConfig(summary="max", feature_dropout=0.3),
    eval_every=2000,
    save_every=2000,
)


PREVALENT = R2RRun(
    run_dir=RUNS / "prevalent-listener",
    pretrained=PRETRAINED,
    batch_size=20,
    eval_every=2000,
    save_every=2000,
    model=FollowerConfig(encoder="dic", hidden_size=1024, summary="max", feature_dropout=0.4),
    optimizer=OptimizerConfig(lr=2e-5),
)


STAGE_1 = replace(
    PREVALENT,
    run_dir=RUNS / "prevalent-stage1",
    start_from=RUNS / "prevalent-listener",
    speaker=RUNS / "speaker",
    aug=AUG_PATHS,
    max_steps=100_000,
)


STAGE_2 = replace(
    STAGE_1,
    run_dir=RUNS / "prevalent-stage2",
    start_from=RUNS / "prevalent-stage1",
    batch_size=10,
    max_steps=20_000,
    optimizer=OptimizerConfig(lr=2e-6),
    model=replace(STAGE_1.model, update_cross=True),
)


MULTI = replace(
    PREVALENT,
    run_dir=RUNS / "prevalent-multi",
    batch_size=10,
    max_steps=70_000,
    optimizer=OptimizerConfig("adamax", lr=5e-5, weight_decay=5e-4),
    model=replace(PREVALENT.model, num_texts=3, dropout=0.4, update_cross=True),
    rollout=RolloutConfig(max_actions=8),
)


SMALL_AGENT = FollowerConfig(
    encoder="dic",
    hidden_size=128,
    encoder_size=128,
    action_size=32,
    dropout=0.3,
    encoder_dropout=0.3,
    feature_dropout=0.2,
)


TOY_AGENT = replace(
    SMALL_AGENT,
    hidden_size=64,
    encoder_size=64,
    action_size=16,
    angle_size=32,
    top_lstm=False,
    dropout=0.1,
    encoder_dropout=0.1,
    feature_dropout=0.1,
    update_language=True,
    update_cross=True,
)


TINY_AGENT = FollowerConfig(
    encoder="dic",
    hidden_size=8,
    encoder_size=6,
    action_size=4,
    word_size=6,
    angle_size=4,
    update_cross=True,
)


def _ablation(name: str, pretrained: str) -> R2RRun:
    return replace(
        PREVALENT, run_dir=RUNS / name, pretrained=Path(f"runs/pretrain/{pretrained}/model")
    )


R2R_PRESETS: dict[str, tuple[str, R2RRun]] = {
    "seq2seq": (
        "Table 2, Seq2Seq: student forcing alone (here with panoramic actions)",
        R2RRun(
            run_dir=RUNS / "seq2seq",
            feedback="student",
            imitation_weight=1.0,
            batch_size=100,
            max_steps=20_000,
            optimizer=OptimizerConfig("adam", weight_decay=5e-4),
            rollout=RolloutConfig(max_actions=20),
        ),
    ),
    "speaker-follower": (
        "Table 2, Speaker-Follower: student forcing on true and speaker-made instructions",
        R2RRun(
            run_dir=RUNS / "speaker-follower",
            feedback="student",
            imitation_weight=1.0,
            aug_weight=1.0,
            aug=AUG_PATHS,
            accumulate=False,
            batch_size=100,
            max_steps=50_000,
            optimizer=OptimizerConfig("adam", weight_decay=5e-4),
            rollout=RolloutConfig(max_actions=20),
        ),
    ),
    "envdrop": ("EnvDrop's agent before back-translation", ENVDROP),
    "envdrop-back-translation": (
        "Table 2, EnvDrop: continues envdrop on the speaker's words through dropped features",
        replace(
            ENVDROP,
            run_dir=RUNS / "envdrop-back-translation",
            start_from=RUNS / "envdrop",
            speaker=RUNS / "speaker",
            aug=AUG_PATHS,
            max_steps=200_000,
            model=replace(ENVDROP.model, feature_dropout=0.4),
        ),
    ),
    "envdrop-pre-exploration": (
        "EnvDrop after seeing the unseen houses: give paths sampled there as --aug",
        replace(
            ENVDROP,
            run_dir=RUNS / "envdrop-pre-exploration",
            start_from=RUNS / "envdrop-back-translation",
            speaker=RUNS / "speaker",
            aug=("./data/r2r/unseen_paths.json",),
            max_steps=20_000,
            model=replace(ENVDROP.model, feature_dropout=0.4),
        ),
    ),
    "prevalent-listener": (
        "PREVALENT before back-translation; where stage 1 begins (steps and rate are ours)",
        replace(PREVALENT, max_steps=40_000),
    ),
    "prevalent-stage1": ("Table 2, PREVALENT, feature-based: the encoder is frozen", STAGE_1),
    "prevalent-stage2": ("Table 2, PREVALENT: then fine-tuned with batch 10, rate 2e-6", STAGE_2),
    "prevalent-multi": (
        "Table 2 (M), PREVALENT: three instructions of a path read side by side",
        MULTI,
    ),
    "prevalent-multi-critical": (
        "Table 2 (M): then self-critical with the SPL of whole walks, rate 2e-5",
        replace(
            MULTI,
            run_dir=RUNS / "prevalent-multi-critical",
            start_from=RUNS / "prevalent-multi",
            feedback="self-critical",
            max_steps=65_000,
            optimizer=OptimizerConfig("adamax", lr=2e-5, weight_decay=5e-4),
        ),
    ),
    "prevalent-feature-based": (
        "ablation: the steps of stage 2 with the encoder still frozen",
        replace(STAGE_2, run_dir=RUNS / "prevalent-feature-based", model=STAGE_1.model),
    ),
    "prevalent-without-pretraining": (
        "ablation: the same agent, its encoder from random weights and trained throughout",
        replace(
            PREVALENT,
            run_dir=RUNS / "prevalent-without-pretraining",
            pretrained=None,
            model=replace(PREVALENT.model, update_language=True, update_cross=True),
        ),
    ),
    "prevalent-mlm-only": (
        "ablation: encoder pre-trained without action prediction",
        _ablation("prevalent-mlm-only", "mlm-only"),
    ),
    "prevalent-text-only": (
        "ablation: encoder pre-trained without images",
        _ablation("prevalent-text-only", "text-only"),
    ),
    "r2r-agent-small": (
        "small agent on R2R with random stand-in features, 10 minutes on one CPU core",
        R2RRun(
            run_dir=RUNS / "agent-small",
            features=None,
            pretrained=Path("runs/pretrain/r2r-small/model"),
            angle_layout="block",
            held_out=("val_seen@60", "val_unseen@60"),
            batch_size=16,
            max_steps=360,
            imitation_weight=1.0,
            log_every=20,
            eval_every=120,
            save_every=120,
            optimizer=OptimizerConfig("adam", lr=5e-4),
            rollout=RolloutConfig(max_actions=10, reuse_text=True),
            model=SMALL_AGENT,
            bert=SMALL_MODEL,
        ),
    ),
    "demo": (
        "toy houses made by code, half a minute on a CPU",
        R2RRun(
            run_dir=RUNS / "demo",
            world="toy",
            angle_layout="block",
            batch_size=16,
            max_steps=50,
            imitation_weight=1.0,
            log_every=10,
            eval_every=50,
            save_every=50,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            rollout=RolloutConfig(max_actions=8, reuse_text=True),
            model=TOY_AGENT,
            bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
        ),
    ),
    "toy": (
        "toy houses made by code, 50 annotated paths, a minute on a CPU; give --pretrained",
        R2RRun(
            run_dir=RUNS / "toy",
            world="toy",
            toy_houses=240,
            train=("train@50",),
            held_out=("val_seen@60", "val_unseen@200"),
            angle_layout="block",
            batch_size=16,
            max_steps=200,
            imitation_weight=1.0,
            log_every=20,
            eval_every=100,
            save_every=100,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            rollout=RolloutConfig(max_actions=8, reuse_text=True),
            model=replace(TOY_AGENT, separate_sentences=True),
            bert=READING_MODEL,
        ),
    ),
    "smoke": (
        "toy houses, a few steps: does everything run",
        R2RRun(
            run_dir=RUNS / "smoke",
            world="toy",
            toy_houses=1,
            held_out=("val_seen@2", "val_unseen@2"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            rollout=RolloutConfig(max_actions=3),
            model=TINY_AGENT,
            bert=TINY_MODEL,
        ),
    ),
}


Source = Callable[[], tuple[Batch, Tensor | None]]
"""The next batch and its environment dropout (D,), if any."""

TRAIN_EVALUATION_BATCHES = 20
LOSSES = (
    "loss",
    "imitation",
    "policy",
    "critic",
    "entropy",
    "actions",
    "encoder_norm",
    "decoder_norm",
    "reward",
    "greedy_reward",
)


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-r2r envdrop --batch-size 32``."""
    train_r2r(parse_preset(R2R_PRESETS, argv, "prevalent train-r2r"))


def train_r2r(config: R2RRun) -> Follower:
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
        data = open_world(config, (*config.train, *config.aug, *config.held_out), world.device)
        vocabulary = find_vocabulary(config)
        tokenizer = open_tokenizer(config.model, vocabulary, config.max_length)
        held_out = open_held_out(config, data, tokenizer)
        follower = build_follower(config, data, tokenizer)
        true = open_batches(config, data, tokenizer, config.train, world)
        lessons: list[tuple[Source, float]] = [
            (lambda: (next(true), None), config.imitation_weight)
        ]
        parts: dict[str, Any] = {**follower.parts(), "order": true}
        if config.aug:
            more = open_batches(config, data, tokenizer, config.aug, world)
            lessons.append((describe(config, data, tokenizer, more), config.aug_weight))
            parts["aug_order"] = more
        progress, means = Progress(), Means(world.device, LOSSES)
        checkpoint = Checkpoint(run_dir, **parts, progress=progress, means=means)
        checkpoint.load_latest()

        with Logs(run_dir, total_steps, progress.step) as logs:
            if progress.step == 0:
                logs.text(summarize(config, data, tokenizer, held_out))
            while progress.step < total_steps:
                losses = train_step(follower, lessons, config, progress.step)
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
                    scores = evaluate_splits(
                        follower, held_out, data, config.eval_batch_size, world
                    )
                    if scores:
                        logs.log(progress.step, **scores)
                    names = ["last", *update_best(progress, scores)]
                    for name in names if world.is_main else ():
                        folder = run_dir / "snapshots" / name
                        save_follower(folder, follower, vocabulary, config.max_length)
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                logs.text(draw_scores(run_dir, "success_rate", "spl"))
            barrier()
    return follower


def open_batches(
    config: R2RRun, data: AgentWorld, tokenizer: Tokenizer, splits: Sequence[str], world: World
) -> EpisodeBatches:
    """Endless batches of ``splits``, shuffled once as the authors do."""
    instructions = data.instructions(splits)
    random.Random(SHUFFLE_SEED).shuffle(instructions)
    num_texts = config.model.num_texts
    episodes = Episodes.encode(instructions, tokenizer, " ".join(splits), num_texts=num_texts)
    return EpisodeBatches(episodes, config.batch_size, world)


def open_held_out(config: R2RRun, data: AgentWorld, tokenizer: Tokenizer) -> dict[str, Episodes]:
    """The splits to evaluate; of those that are also trained on, 20 batches."""
    held_out = {}
    for name in config.held_out:
        num_texts = config.model.num_texts
        episodes = Episodes.encode(data.splits[name], tokenizer, name, num_texts=num_texts)
        if name in config.train:
            episodes = episodes.first(TRAIN_EVALUATION_BATCHES * config.batch_size)
        held_out[name] = episodes
    return held_out


def describe(
    config: R2RRun, data: AgentWorld, tokenizer: Tokenizer, batches: EpisodeBatches
) -> Source:
    """Augmented batches: with a speaker, described anew through fresh environment dropout."""
    if config.speaker is None:
        return lambda: (next(batches), None)
    words = config.data_dir / config.words
    speaker = load_speaker(config.speaker, data, words, max_length=config.max_length)
    return lambda: retell(speaker, next(batches), tokenizer, config.model)


def retell(
    speaker: Speaker, batch: Batch, tokenizer: Tokenizer, model: FollowerConfig
) -> tuple[Batch, Tensor]:
    """``batch`` with the speaker's words, and the environment dropout they were found under.

    An agent that reads M texts gets the speaker's M times.
    """
    features = speaker.features
    noise = feature_noise(features.image_width, model.feature_dropout, features.device)
    told = back_translate(speaker, batch.tasks, tokenizer, noise)
    if model.num_texts > 1:
        told = told._replace(tokens=told.tokens[:, None].repeat(model.num_texts, axis=1))
    return told, noise


def train_step(
    follower: Follower,
    lessons: Sequence[tuple[Source, float]],
    config: R2RRun,
    step: int,
) -> dict[str, Tensor]:
    """One optimizer step on one batch of each lesson, or, without ``accumulate``, in turn."""
    chosen = lessons if config.accumulate else [lessons[step % len(lessons)]]
    losses: dict[str, Tensor] = {}
    for source, weight in chosen:
        losses = add_losses(losses, learn(follower, source, weight, config, step))
    return {**losses, **follower.update()}


def learn(
    follower: Follower, source: Source, weight: float, config: R2RRun, step: int
) -> dict[str, Tensor]:
    """Add the gradients of one lesson (see ``--feedback``)."""
    if config.feedback == "student":
        batch, noise = source()
        return imitate_on_own_walk(follower, batch, weight, noise)
    if config.feedback == "self-critical":
        batch, noise = source()
        return follower.criticize(batch, config.walk_reward, noise=noise)
    imitates, reinforces = True, config.feedback == "sample"
    if config.schedule_ratio >= 0:
        # Drawn from the step alone, so that all processes agree and a resumed run does too.
        reinforces = np.random.default_rng([config.seed, step]).random() < config.schedule_ratio
        imitates, weight = not reinforces, 1.0
    imitates &= weight > 0
    if imitates and reinforces:
        (imitated, first), (sampled, second) = source(), source()
        return follower.imitate_and_reinforce(imitated, sampled, weight, noises=(first, second))
    if not imitates and not reinforces:
        return {}
    batch, noise = source()
    if imitates:
        return follower.imitate(batch, weight, noise=noise)
    return follower.reinforce(batch, noise=noise)


def imitate_on_own_walk(
    follower: Follower, batch: Batch, weight: float, noise: Tensor | None
) -> dict[str, Tensor]:
    """Student forcing: sample the walk, ask for the teacher's action at each place."""
    recorded = follower.rollout(batch, "sample", noise=noise)
    imitation = recorded.imitation / len(batch.tasks)
    loss = weight * imitation
    follower.updater.backward(loss)
    return {"loss": loss.detach(), "imitation": imitation.detach()}


def evaluate_splits(
    follower: Follower,
    held_out: Mapping[str, Episodes],
    data: AgentWorld,
    batch_size: int,
    world: World,
) -> dict[str, float]:
    """``SPLIT/METRIC`` of greedy walks, the same on every rank."""
    scores = {}
    for name, episodes in held_out.items():
        results = walk_split(follower, episodes, batch_size, world)
        for metric, value in score_walks(results, episodes, data.graphs).items():
            scores[f"{name.partition('@')[0]}/{metric}"] = value
    return scores


def update_best(progress: Progress, scores: Mapping[str, float]) -> list[str]:
    """Names of the snapshots that ``scores`` beat: per split, the sum, and SPL in unseen houses."""
    rates = {name: value for name, value in scores.items() if name.endswith("/success_rate")}
    marks = {f"best_{name.split('/')[-2]}": value for name, value in rates.items()}
    if len(rates) > 1:
        marks["best_sr_sum"] = sum(rates.values())
    if "val_unseen/spl" in scores:
        marks["best_spl_unseen"] = scores["val_unseen/spl"]
    beaten = [name for name, value in marks.items() if value > getattr(progress, name, -1.0)]
    for name in beaten:
        setattr(progress, name, marks[name])
    return beaten


def summarize(
    config: R2RRun, data: AgentWorld, tokenizer: Tokenizer, held_out: Mapping[str, Episodes]
) -> str:
    """What the run learns from, in one line."""
    train = len(data.instructions(config.train))
    aug = f", {len(data.instructions(config.aug))} augmented" if config.aug else ""
    sizes = ", ".join(f"{name} {len(episodes)}" for name, episodes in held_out.items())
    seen = "random stand-ins" if config.features is None else str(Path(config.features).name)
    return (
        f"{train} instructions{aug}, {len(data.graphs.scans)} scans, {len(tokenizer)} words; "
        f"features: {seen}, {data.features.image_width} wide; evaluated on {sizes}"
    )


def find_vocabulary(config: R2RRun) -> Path:
    """The file of the follower's vocabulary."""
    if config.model.encoder == "lstm":
        return config.data_dir / config.words
    own = None if config.pretrained is None else config.pretrained / "vocab.txt"
    return own if own is not None and own.is_file() else config.data_dir / config.wordpieces


def open_tokenizer(config: FollowerConfig, vocabulary: Path, max_length: int) -> Tokenizer:
    """The tokenizer that suits the encoder."""
    if config.encoder == "lstm":
        return open_words(vocabulary, max_length)
    separate = config.separate_sentences
    return WordPieceTokenizer(vocabulary, max_length, separate_sentences=separate)


def build_follower(config: R2RRun, world: AgentWorld, tokenizer: Tokenizer) -> Follower:
    """A follower with the same weights on every rank, from scratch or from ``start_from``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        bert = None
        if config.model.encoder != "lstm":
            bert = open_bert(config, world.features.width, len(tokenizer))
        follower = Follower(
            config.model,
            world.environment,
            world.features,
            vocab_size=len(tokenizer),
            bert=bert,
            optimizer=config.optimizer,
            walk=config.rollout,
            precision=config.precision,
        )
    if config.start_from is not None:
        optimizers = follower.optimizers if config.load_optimizer else None
        load_weights(config.start_from, follower.modules, optimizers)
    return follower.train()


def open_bert(config: R2RRun, width: int, num_words: int) -> PrevalentModel:
    """The pre-trained encoder, or one of the ``--bert`` sizes with random weights.

    Raises ``ValueError`` where the vocabulary of ``num_words`` does not fit it.
    """
    if config.pretrained is None:
        sizes = replace(config.bert, vocab_size=num_words, image_dim=width)
        return PrevalentModel(sizes)
    bert = load_model(config.pretrained).bert
    if bert.config.vocab_size != num_words:
        raise ValueError(
            f"--pretrained {config.pretrained} knows {bert.config.vocab_size} word pieces, the "
            f"vocabulary {find_vocabulary(config)} has {num_words}; give the vocabulary it was "
            "trained with as --wordpieces"
        )
    if bert.config.max_positions < config.max_length:
        raise ValueError(
            f"--max-length {config.max_length} exceeds the {bert.config.max_positions} positions "
            f"of --pretrained {config.pretrained}; lower it"
        )
    return bert


def save_follower(folder: Path, follower: Follower, vocabulary: Path, max_length: int) -> None:
    """Write weights, sizes and vocabulary, all that `load_follower` needs beside the data."""
    bert = getattr(follower.modules["encoder"], "bert", None)
    content = {
        "kind": "follower",
        "model": asdict(follower.config),
        "bert": None if bert is None else asdict(bert.config),
        "rollout": asdict(follower.walk),
        "max_length": max_length,
    }
    save_agent(folder, follower.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def load_follower(
    folder: Path, config: R2RRun, splits: Sequence[str], device: torch.device
) -> tuple[Follower, AgentWorld, Tokenizer]:
    """The follower of a snapshot folder in eval mode, its world and its tokenizer.

    Args:
        folder: written by `save_follower`.
        config: of its run; data and features are read from where it says.
        splits: to open.
        device: to run on.
    """
    content = read_agent_config(folder, "follower")
    model = as_options(FollowerConfig, content["model"])
    world = open_world(replace(config, model=model, pretrained=None), splits, device)
    tokenizer = open_tokenizer(model, folder / "vocab.txt", content["max_length"])
    bert = None
    if content["bert"] is not None:
        bert = PrevalentModel(as_options(ModelConfig, content["bert"]))
    follower = Follower(
        model,
        world.environment,
        world.features,
        vocab_size=len(tokenizer),
        bert=bert,
        walk=as_options(RolloutConfig, content["rollout"]),
        precision=config.precision,
    )
    load_agent(folder, follower.modules)
    return follower.train(False), world, tokenizer


class TrainedAgent(NamedTuple):
    follower: Follower
    world: AgentWorld
    episodes: Episodes
    tokenizer: Tokenizer
    config: R2RRun


class Walking(NamedTuple):
    """How a split is walked."""

    batch_size: int = 32
    beam: int = 0
    """Paths that a state-factored search collects; 0 walks greedily."""
    speaker: Path | None = None
    """Rescores the paths."""
    mixture: Mixture = Mixture()
    tune: bool = False
    """Choose the mixture that succeeds most often on this split."""
    forbid_revisits: bool = False
    """Greedy walks do not return to a place."""


def open_agent(
    run_dir: Path,
    split: str,
    *,
    snapshot: str = "best_val_unseen",
    data_dir: Path | None = None,
    device: str = "auto",
    alone: bool = False,
) -> TrainedAgent:
    """The follower of a run's snapshot and the episodes of ``split``.

    ``data_dir`` takes the place of the run's own data folder; ``alone`` has an agent that reads
    several instructions of a path read one of them only.

    Raises ``FileNotFoundError`` or ``ValueError`` where the run, the snapshot or data is missing.
    """
    config, chosen = read_config(R2RRun, run_dir), choose_device(device)
    folder = find_agent(run_dir, snapshot)
    config = settle(config, run_dir, World(0, 1, chosen))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    follower, world, tokenizer = load_follower(folder, config, [split], chosen)
    episodes = Episodes.encode(
        world.splits[split],
        tokenizer,
        f"the split {split!r}",
        num_texts=follower.config.num_texts,
        alone=alone,
    )
    return TrainedAgent(follower, world, episodes, tokenizer, config)


def walk_agent(agent: TrainedAgent, how: Walking) -> tuple[Results, Mixture | None]:
    """Results by id, and the mixture of scores that chose them if a search with a speaker did."""
    follower, world, episodes, _, config = agent
    if how.speaker is not None and not how.beam:
        raise ValueError("--speaker rescores the paths of a search; add --beam 20 or drop it")
    if how.tune and how.speaker is None:
        raise ValueError("--tune-alpha weighs a speaker against the follower; add --speaker RUN")
    if not how.beam:
        follower.walk = replace(follower.walk, forbid_revisits=how.forbid_revisits)
        return walk_split(follower, episodes, how.batch_size), None
    speaker = None
    if how.speaker is not None:
        words = config.data_dir / config.words
        speaker = load_speaker(how.speaker, world, words, max_length=config.max_length)
    found = search_split(follower, episodes, how.batch_size, how.beam, speaker)
    mixture = tune_mixture(found, episodes, world.graphs) if how.tune else how.mixture
    return choose_walks(found, mixture), mixture if speaker is not None else None


def walk_split(
    follower: Follower, episodes: Episodes, batch_size: int, world: World | None = None
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = episodes if world is None else episodes.part(world.rank, world.size)
    records = follower.act(mine.batches(batch_size))
    gathered = [record for part in gather_objects(records) for record in part]
    by_id = {record["instr_id"]: record for record in gathered}
    return {one.id: by_id[one.id] for one in episodes.instructions}


def score_walks(results: Results, episodes: Episodes, graphs: Graphs) -> dict[str, float]:
    """Mean scores of ``results`` under the metric names of R2R."""
    return score_results(results, episodes.references(), graphs, "r2r")
