"""``prevalent train-r2r PRESET``: imitation and reinforcement on Room-to-Room (Sec. 4.1)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .agent_config import FollowerConfig
from .agent_options import R2RRun
from .agent_presets import R2R_PRESETS
from .agents.build import (
    AgentWorld,
    build_follower,
    find_vocabulary,
    load_speaker,
    open_tokenizer,
    open_world,
    save_follower,
    settle,
)
from .agents.episodes import EpisodeBatches, Episodes, Tokenizer
from .agents.follower import Follower, add_losses
from .agents.means import Means
from .agents.rollout import Batch
from .agents.speaker import Speaker, back_translate, feature_noise
from .agents.validation import score_walks, walk_split
from .curves import draw_scores
from .data.instructions import SHUFFLE_SEED
from .optimizer import check_weights
from .runtime.checkpoint import Checkpoint, Progress
from .runtime.command import parse_preset
from .runtime.distributed import World, barrier, start
from .runtime.logs import Logs
from .runtime.precision import check_finite
from .runtime.rundir import open_run
from .runtime.signals import StopSignal

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
