"""``prevalent train-ndh PRESET``: agents that follow a dialog (Sec. 4.2)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from .agents.build import settle
from .agents.dialog import DialogAgent
from .agents.dialog_build import (
    DialogEpisodes,
    DialogWorld,
    build_dialog_agent,
    find_dialog_vocabulary,
    open_dialog_tokenizer,
    open_dialog_world,
    open_dialogs,
    save_dialog_agent,
)
from .agents.dialog_runs import score_dialog_walks, walk_dialog_split
from .agents.episodes import EpisodeBatches
from .agents.means import Means
from .agents.rollout import Batch, Feedback
from .curves import draw_scores
from .data.dialogs import DialogTokenizer
from .data.instructions import SHUFFLE_SEED
from .dialog_options import NDHRun
from .dialog_presets import NDH_PRESETS
from .optimizer import check_weights
from .runtime.checkpoint import Checkpoint, Progress
from .runtime.command import parse_preset
from .runtime.distributed import World, barrier, start
from .runtime.logs import Logs
from .runtime.precision import check_finite
from .runtime.rundir import open_run
from .runtime.signals import StopSignal

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
