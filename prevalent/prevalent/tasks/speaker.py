"""The speaker: describes paths, for back-translation; ``prevalent train-speaker``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import loop
from ..agents.rollout import EpisodeBatches, Episodes
from ..agents.speaker import Speaker, SpeakerConfig
from ..config import unused_options
from ..data.instructions import Instruction, with_goals
from ..data.tokenizers import WordTokenizer, open_words
from ..metrics.language import corpus_bleu
from ..old_runs import upgrade
from ..optimizer import OptimizerConfig
from ..released.snapshots import (
    as_options,
    find_agent,
    load_agent,
    load_snapshot,
    load_weights,
    read_agent_config,
    read_snapshot,
)
from ..runtime.distributed import World, gather_objects
from ..runtime.options import at_least
from ..runtime.run_folder import RunFolder
from .navigation import (
    FIXED,
    AgentTraining,
    TaskData,
    open_instructions,
    place_toy_world,
    seeded,
    shuffled,
    unseen_first,
)
from .options import AgentRun
from .starting import parse_start

KIND = "speaker"
SIGNS = {"bleu": 1.0, "loss": -1.0}  # with which more is better


@dataclass(frozen=True)
class SpeakerRun(AgentRun):
    """Train the agent that describes paths."""

    eval_batches: int = 3
    """Batches of each split for loss and accuracy; captions are scored on all paths."""
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, eval_batches=1)


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
    train_speaker(parse_start(TASK, SPEAKER_PRESETS, argv, "prevalent train-speaker"))


def train_speaker(config: SpeakerRun) -> Speaker:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs, ``curve.png`` and ``snapshots/`` there; the snapshot
    ``best_val_unseen``, which other commands take, is that of the best BLEU. Errors are those of
    ``loop.train``.
    """
    return loop.train(TASK, config).agent  # type: ignore[attr-defined]


class SpeakerTraining(AgentTraining):
    """A speaker, and the paths whose instructions it learns."""

    panels = ("bleu", "word_accuracy")
    means_part = "losses"

    def __init__(self, config: SpeakerRun, world: World, folder: RunFolder) -> None:
        here = place_toy_world(config, folder)
        splits = (*here.train, *here.held_out)
        data = open_instructions(here, splits, here.speaker.angle_size, world.device)
        paths = {name: with_goals(items, name) for name, items in data.splits.items()}
        self.data = replace(data, splits=paths)
        words = here.data_dir / here.words
        speaker = build_speaker(here, self.data, open_words(words, here.max_length))
        instructions = shuffled(self.data.items(here.train))
        episodes = Episodes.encode(instructions, speaker.tokenizer, " ".join(here.train))
        self.batches = EpisodeBatches(episodes, here.batch_size, world)
        self.norm = torch.zeros(())
        super().__init__(
            config,
            world,
            speaker,
            {"order": self.batches},
            vocabulary=words,
            summary=f"{len(episodes)} instructions, {speaker.tokenizer.vocab_size} words",
        )

    def learn(self) -> dict[str, Tensor]:
        losses = self.agent.step(next(self.batches))
        self.norm = losses["decoder_norm"]
        return losses

    def scalars(self) -> Mapping[str, float | Tensor | None]:
        return {**self.means.take(), "decoder_norm": self.norm}

    def evaluate(self) -> dict[str, float]:
        """BLEU of all captions; loss and accuracies on a few batches."""
        speaker, size, scores = self.agent, self.config.batch_size, {}
        for split in self.config.held_out:
            instructions, name = self.data.splits[split], split.partition("@")[0]
            scores[f"{name}/bleu"] = score_captions(speaker, instructions, size, self.world)
            order = shuffled(instructions)[: self.config.eval_batches * size]
            few = Episodes.encode(order, speaker.tokenizer)
            parts = [
                speaker.evaluate(few.batch(list(range(i, min(i + size, len(few))))))
                for i in range(0, len(few), size)
            ]
            for score in parts[0]._fields:
                scores[f"{name}/{score}"] = float(np.mean([getattr(part, score) for part in parts]))
        return scores

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """``best_SPLIT`` by BLEU and ``best_SPLIT_loss``."""
        goals = {}
        for name, value in scores.items():
            split, metric = name.rsplit("/", 1)
            if metric in SIGNS:
                ending = "" if metric == "bleu" else f"_{metric}"
                goals[f"best_{split.split('/')[-1]}{ending}"] = SIGNS[metric] * value
        return unseen_first(goals)

    def snapshot(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "speaker": asdict(self.agent.config),
            "max_length": self.agent.tokenizer.max_length,
            "angle_layout": self.agent.features.layout,
        }


TASK = loop.Task(
    kind=KIND,
    config=SpeakerRun,
    open=SpeakerTraining,
    fixed=(*FIXED, "speaker"),
    upgrade=upgrade,
    unused=unused_options,
)


def build_speaker(
    config: SpeakerRun, data: TaskData[Instruction], tokenizer: WordTokenizer
) -> Speaker:
    """A speaker with the same weights on every rank, from scratch or from ``start_from``."""
    with seeded(config.seed):
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
        load_weights(config.start_from, KIND, speaker.modules, optimizers)
    return speaker.train()


def load_speaker(
    path: Path, data: TaskData[Instruction], words: Path, *, max_length: int = 80
) -> Speaker:
    """A speaker from a run, a snapshot folder or the authors' file.

    Args:
        path: of the speaker.
        data: where it shall speak.
        words: vocabulary of an authors' file; a snapshot folder holds its own.
        max_length: of encoded texts, for an authors' file.
    """
    path, features = find_agent(path), data.features
    if path.is_file():
        config = sizes_of_speaker(path, features.angle_size)
        tokenizer = open_words(words, max_length)
    else:
        content = read_agent_config(path, KIND)
        config = as_options(SpeakerConfig, content["speaker"])
        if content["angle_layout"] != features.layout:
            raise ValueError(
                f"the speaker {path} was trained with --angle-layout {content['angle_layout']}, "
                f"the follower has {features.layout}; train both with the same"
            )
        tokenizer = open_words(path / "vocab.txt", content["max_length"])
    if config.angle_size != features.angle_size:
        raise ValueError(
            f"the speaker {path} was trained with angles of {config.angle_size} numbers, the "
            f"follower has {features.angle_size}; train it with --speaker.angle-size "
            f"{features.angle_size}"
        )
    speaker = Speaker(
        config, data.environment, features, tokenizer, optimizer=OptimizerConfig("adam")
    )
    (load_snapshot if path.is_file() else load_agent)(path, speaker.modules)
    return speaker.train(False)


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
