"""``prevalent train-hanna PRESET``: agents that look for objects and ask for help (Sec. 4.3)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from .agents.assistance import AssistanceAgent
from .agents.assistance_build import (
    AssistanceTokenizer,
    AssistanceWorld,
    build_assistance_agent,
    find_assistance_vocabulary,
    open_assistance_tokenizer,
    open_assistance_world,
    save_assistance_agent,
)
from .agents.assistance_runs import TaskBatches, score_searches, search_tasks
from .agents.build import settle
from .agents.means import Means
from .assistance_options import HannaRun
from .assistance_presets import HANNA_PRESETS
from .curves import draw_scores
from .data.assistance import AssistanceTask, resolve_split
from .data.instructions import SHUFFLE_SEED
from .optimizer import check_weights
from .runtime.checkpoint import Checkpoint, Progress
from .runtime.command import parse_preset
from .runtime.distributed import World, barrier, start
from .runtime.logs import Logs
from .runtime.precision import check_finite
from .runtime.rundir import open_run
from .runtime.signals import StopSignal

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
