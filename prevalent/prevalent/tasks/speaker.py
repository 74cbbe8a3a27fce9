"""Part of agent_options."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..agents.rollout import EpisodeBatches, Episodes
from ..agents.speaker import Speaker, SpeakerConfig
from ..curves import draw_scores
from ..data.instructions import SHUFFLE_SEED, Instruction
from ..metrics.language import corpus_bleu
from ..optimizer import OptimizerConfig
from ..released.snapshots import (
    as_options,
    find_agent,
    load_agent,
    load_snapshot,
    read_agent_config,
    read_snapshot,
    save_agent,
)
from ..runtime.checkpoint import Checkpoint, Progress
from ..runtime.command import parse_preset
from ..runtime.distributed import World, barrier, gather_objects, reduce_mean, start
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import check_finite, check_weights
from ..runtime.rundir import open_run
from ..runtime.signals import StopSignal
from .navigation import AgentRun, AgentWorld, load_weights, open_words, open_world, settle


@dataclass(frozen=True)
class SpeakerRun(AgentRun):
    """Train the agent that describes paths."""

    eval_batches: int = 3
    """Batches of each split for loss and accuracy; captions are scored on all paths."""
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)


SPEAKER_PRESETS: dict[str, tuple[str, SpeakerRun]] = {
    "envdrop": (
        "the speaker of EnvDrop and PREVALENT",
        SpeakerRun(
            run_dir=Path("runs/r2r/speaker"),
            optimizer=OptimizerConfig("adam", lr=1e-4),
            eval_every=2000,
            save_every=2000,
        ),
    ),
    "r2r-speaker-small": (
        "small speaker on R2R with random stand-in features, a few minutes on a CPU",
        SpeakerRun(
            run_dir=Path("runs/r2r/speaker-small"),
            features=None,
            angle_layout="block",
            held_out=("val_seen@60", "val_unseen@60"),
            batch_size=32,
            max_steps=1000,
            eval_every=250,
            save_every=250,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            speaker=SpeakerConfig(hidden_size=128, word_size=64, dropout=0.3),
        ),
    ),
    "demo": (
        "toy houses made by code, a minute on a CPU",
        SpeakerRun(
            run_dir=Path("runs/r2r/speaker-demo"),
            world="toy",
            angle_layout="block",
            batch_size=32,
            max_steps=200,
            eval_every=100,
            save_every=100,
            optimizer=OptimizerConfig("adam", lr=3e-3),
            speaker=SpeakerConfig(
                hidden_size=64, word_size=32, dropout=0.1, feature_dropout=0.1, angle_size=32
            ),
        ),
    ),
    "smoke": (
        "toy houses, a few steps: does everything run",
        SpeakerRun(
            run_dir=Path("runs/r2r/speaker-smoke"),
            world="toy",
            toy_houses=1,
            held_out=("val_seen@2", "val_unseen@2"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            eval_batches=1,
            optimizer=OptimizerConfig("adam"),
            speaker=SpeakerConfig(hidden_size=8, word_size=6, angle_size=4, max_decode=6),
        ),
    ),
}


BEST_VALUE = {"bleu": 1.0, "loss": -1.0}  # sign with which more is better


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-speaker envdrop --batch-size 32``."""
    train_speaker(parse_preset(SPEAKER_PRESETS, argv, "prevalent train-speaker"))


def train_speaker(config: SpeakerRun) -> Speaker:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs, ``curve.png`` and ``snapshots/`` in ``run_dir``; the snapshot
    ``best_val_unseen``, which other commands take, is that of the best BLEU there.

    Raises as `train_r2r` does.
    """
    with (
        start(config.device, seed=config.seed, deterministic=config.deterministic) as world,
        open_run(config.run_dir, config) as run_dir,
        StopSignal() as stop,
    ):
        config = settle(config, run_dir, world)
        data = open_world(config, (*config.train, *config.held_out), world.device)
        words = config.data_dir / config.words
        speaker = build_speaker(config, data)
        batches = open_batches(config, data, speaker, world)
        progress, loss_sum = Progress(), LossSum(world.device)
        checkpoint = Checkpoint(
            run_dir, **speaker.parts(), order=batches, progress=progress, losses=loss_sum
        )
        checkpoint.load_latest()

        with Logs(run_dir, config.max_steps, progress.step) as logs:
            if progress.step == 0:
                size = len(batches.episodes)
                logs.text(f"{size} instructions, {speaker.tokenizer.vocab_size} words")
            while progress.step < config.max_steps:
                result = speaker.step(next(batches))
                loss_sum.add(result["loss"])
                progress.step += 1
                logs.advance(progress.step)

                stopping = stop.requested(progress.step)
                ended = progress.step == config.max_steps
                evaluating = ended or progress.step % config.eval_every == 0
                saving = stopping or ended or progress.step % config.save_every == 0
                if ended or progress.step % config.log_every == 0:
                    loss = loss_sum.take()
                    check_finite(progress.step, loss=loss)
                    logs.log(progress.step, loss=loss, decoder_norm=result["decoder_norm"])
                if evaluating or saving:
                    check_finite(progress.step, loss=result["loss"])
                    check_weights(progress.step, checkpoint.parts)
                if evaluating:
                    scores = evaluate_splits(speaker, config, data, world)
                    if scores:
                        logs.log(progress.step, **scores)
                    names = ["last", *update_best(progress, scores)]
                    for name in names if world.is_main else ():
                        save_speaker(run_dir / "snapshots" / name, speaker, words)
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                logs.text(draw_scores(run_dir, "bleu", "word_accuracy"))
            barrier()
    return speaker


def build_speaker(config: SpeakerRun, data: AgentWorld) -> Speaker:
    """A speaker with the same weights on every rank, from scratch or from ``start_from``."""
    tokenizer = open_words(config.data_dir / config.words, config.max_length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        speaker = Speaker(
            config.speaker,
            data.environment,
            data.features,
            tokenizer,
            optimizer=config.optimizer,
            precision=config.precision,
        )
    if config.start_from is not None:
        optimizers = speaker.optimizers if config.load_optimizer else None
        load_weights(config.start_from, speaker.modules, optimizers)
    return speaker.train()


def open_batches(
    config: SpeakerRun, data: AgentWorld, speaker: Speaker, world: World
) -> EpisodeBatches:
    """Endless batches of the training splits, shuffled once as the authors do."""
    instructions = data.instructions(config.train)
    random.Random(SHUFFLE_SEED).shuffle(instructions)
    episodes = Episodes.encode(instructions, speaker.tokenizer, " ".join(config.train))
    return EpisodeBatches(episodes, config.batch_size, world)


def evaluate_splits(
    speaker: Speaker, config: SpeakerRun, data: AgentWorld, world: World
) -> dict[str, float]:
    """``SPLIT/METRIC``: BLEU of all captions; loss and accuracies on a few batches."""
    scores = {}
    for split in config.held_out:
        instructions, name = data.splits[split], split.partition("@")[0]
        scores[f"{name}/bleu"] = score_captions(speaker, instructions, config.batch_size, world)
        order = list(instructions)
        random.Random(SHUFFLE_SEED).shuffle(order)
        few = Episodes.encode(order[: config.eval_batches * config.batch_size], speaker.tokenizer)
        index = range(0, len(few), config.batch_size)
        parts = [
            speaker.evaluate(few.batch(list(range(i, min(i + config.batch_size, len(few))))))
            for i in index
        ]
        for score in parts[0]._fields:
            scores[f"{name}/{score}"] = float(np.mean([getattr(part, score) for part in parts]))
    return scores


def score_captions(
    speaker: Speaker, instructions: Sequence[Instruction], batch_size: int, world: World
) -> float:
    """BLEU of one caption for each path against all its instructions; a part on every rank."""
    texts: dict[int | str, list[list[str]]] = {}
    for one in instructions:
        ids = speaker.tokenizer.encode(one.text)
        words = [] if ids is None else speaker.tokenizer.shrink(ids.tolist())
        texts.setdefault(one.path_id, []).append([speaker.tokenizer.words[i] for i in words])
    firsts = list({one.path_id: one for one in reversed(instructions)}.values())
    mine = firsts[world.rank :: world.size]
    captions: dict[int | str, list[str]] = {}
    for begin in range(0, len(mine), batch_size):
        tasks = mine[begin : begin + batch_size]
        for task, row in zip(tasks, speaker.generate(tasks), strict=True):
            words = speaker.tokenizer.shrink(row.tolist()) if len(row) else []
            captions[task.path_id] = [speaker.tokenizer.words[i] for i in words]
    for part in gather_objects(captions):
        captions |= part
    return corpus_bleu([texts[name] for name in texts], [captions[name] for name in texts]).bleu


def update_best(progress: Progress, scores: Mapping[str, float]) -> list[str]:
    """Snapshots that ``scores`` beat: ``best_SPLIT`` by BLEU and ``best_SPLIT_loss``."""
    beaten = []
    for name, value in scores.items():
        split, metric = name.rsplit("/", 1)
        if metric not in BEST_VALUE:
            continue
        mark = f"best_{split.split('/')[-1]}" + ("" if metric == "bleu" else f"_{metric}")
        if BEST_VALUE[metric] * value > getattr(progress, mark, -np.inf):
            setattr(progress, mark, BEST_VALUE[metric] * value)
            beaten.append(mark)
    return beaten


class LossSum:
    """Mean loss since the last record; part of the checkpoint."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, device=device)

    def add(self, loss: torch.Tensor) -> None:
        self.sums[0] += loss
        self.sums[1] += 1

    def take(self) -> float:
        """The mean over ranks; starts anew."""
        total, count = reduce_mean(self.sums.clone()).tolist()
        self.sums.zero_()
        return total / max(count, 1)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"sums": self.sums.cpu()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.sums.copy_(state["sums"])


def save_speaker(folder: Path, speaker: Speaker, vocabulary: Path) -> None:
    """Write weights, sizes and vocabulary of a speaker."""
    content = {
        "kind": "speaker",
        "speaker": asdict(speaker.config),
        "max_length": speaker.tokenizer.max_length,
        "angle_layout": speaker.features.layout,
    }
    save_agent(folder, speaker.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def load_speaker(path: Path, world: AgentWorld, words: Path, *, max_length: int = 80) -> Speaker:
    """A speaker from a run, a snapshot folder or the authors' file.

    Args:
        path: of the speaker.
        world: where it shall speak.
        words: vocabulary of an authors' file; a snapshot folder holds its own.
        max_length: of encoded texts, for an authors' file.
    """
    path = find_agent(path)
    if path.is_file():
        config = sizes_of_speaker(path, world.features.angle_size)
        tokenizer = open_words(words, max_length)
    else:
        content = read_agent_config(path, "speaker")
        config = as_options(SpeakerConfig, content["speaker"])
        if content["angle_layout"] != world.features.layout:
            raise ValueError(
                f"the speaker {path} was trained with --angle-layout {content['angle_layout']}, "
                f"the follower has {world.features.layout}; train both with the same"
            )
        tokenizer = open_words(path / "vocab.txt", content["max_length"])
    if config.angle_size != world.features.angle_size:
        raise ValueError(
            f"the speaker {path} was trained with angles of {config.angle_size} numbers, the "
            f"follower has {world.features.angle_size}; train it with --speaker.angle-size "
            f"{world.features.angle_size}"
        )
    speaker = Speaker(
        config, world.environment, world.features, tokenizer, optimizer=OptimizerConfig("adam")
    )
    if path.is_file():
        load_snapshot(path, speaker.modules)
    else:
        load_agent(path, speaker.modules)
    return speaker.train(False)


def sizes_of_speaker(path: Path, angle_size: int) -> SpeakerConfig:
    """Sizes of a speaker in the authors' file, from its tensors."""
    parts = read_snapshot(path)
    state = parts["decoder"].state if "decoder" in parts else {}
    if "projection.weight" not in state:
        raise ValueError(f"{path} holds no speaker; give a file that speaker training has saved")
    return SpeakerConfig(
        hidden_size=state["projection.weight"].shape[1],
        word_size=state["embedding.weight"].shape[1],
        angle_size=angle_size,
    )
