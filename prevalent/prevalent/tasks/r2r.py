"""Room-to-Room: the agent that follows instructions (Sec. 4.1), ``prevalent train-r2r``.

Rows of other papers are trained as those papers describe, within this agent (Tan et al., NAACL
2019; Fried et al., NeurIPS 2018; Anderson et al., CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from .. import loop
from ..agents.follower import Follower, FollowerConfig, add_losses
from ..agents.rollout import Batch, EpisodeBatches, Episodes, RolloutConfig, Tokenizer
from ..agents.search import Mixture, choose_walks, search_split, tune_mixture
from ..agents.speaker import describe_again
from ..config import READING_MODEL, SMALL_MODEL, TINY_MODEL, TOY_MODEL, options_in, unused_options
from ..data.datasets import WalkData
from ..data.instructions import Instruction, refuse_repeated
from ..data.tokenizers import WordPieceTokenizer, open_words
from ..models.prevalent import PrevalentModel
from ..objectives import WalkReward
from ..old_runs import upgrade
from ..optimizer import OptimizerConfig
from ..released.snapshots import load_weights, open_snapshot
from ..runtime.distributed import World, choose_device
from ..runtime.options import at_least
from ..runtime.run_folder import Run, RunFolder
from .navigation import (
    FIXED,
    AgentTraining,
    TaskData,
    Walks,
    bert_of_snapshot,
    describe_bert,
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
from .speaker import load_speaker
from .starting import parse_start

KIND = "r2r"

Feedback = Literal["teacher", "student", "sample", "self-critical"]


@dataclass(frozen=True)
class R2RRun(WalkRun):
    """Train the agent that follows instructions."""

    teacher: Literal["goal", "path"] = "goal"
    """Who is imitated: the shortest way to the goal, or the path of the data, which R4R and RxR
    score; rewards are for coming nearer to the goal, or to the end of the path along it."""
    aug: tuple[str, ...] = ()
    """Augmented paths, as ``--train``, or a set by name (envdrop, prevalent, speaker-follower):
    their own texts, or a speaker's where one is given. Paths of unseen houses make it
    pre-exploration."""
    speaker: Path | None = None
    """Speaker for back-translation: a run, a snapshot, or a file of the authors' code."""
    feedback: Feedback = "sample"
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
    model: FollowerConfig = field(default_factory=FollowerConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, imitation_weight=0, aug_weight=0)
        refuse_repeated(aug=self.aug)
        if self.schedule_ratio > 1:
            raise ValueError(f"--schedule-ratio must be at most 1, got {self.schedule_ratio}")
        if self.schedule_ratio >= 0 and self.feedback != "sample":
            raise ValueError("--schedule-ratio needs --feedback sample, or set it to -1")
        if self.speaker is not None and not self.aug:
            raise ValueError(
                "--speaker describes augmented paths, but --aug names none; give --aug envdrop "
                "(`prevalent prepare aug-envdrop`) or drop --speaker"
            )
        if self.pretrained is not None and self.model.encoder == "lstm":
            raise ValueError(
                "--pretrained needs a transformer encoder; add --model.encoder dic or drop it"
            )

    def unused(self) -> dict[str, str]:
        """Options of this task that the run would record and not use; see `unused_options`."""
        found, feedback = super().unused() | self.model.unused(), f"--feedback {self.feedback}"
        if self.speaker is None:
            found["--model.encoder-sees-noise"] = "no --speaker describes paths through it; drop it"
        if not self.aug:
            reason = "there are no augmented paths; give --aug, or drop it"
            found |= options_in("", ("aug_weight", "accumulate"), reason)
        if self.feedback != "self-critical":
            found["--walk-reward"] = f"{feedback} rewards no whole walks; give self-critical"
        if self.feedback == "self-critical" or self.schedule_ratio >= 0:
            have = (
                feedback if self.schedule_ratio < 0 else f"--schedule-ratio {self.schedule_ratio}"
            )
            reason = f"{have} has no such weight; drop it"
            found |= options_in("", ("imitation_weight", "aug_weight"), reason)
        if self.feedback == "self-critical":
            found["--teacher"] = f"{feedback} imitates nobody; drop one of them"
        if self.feedback != "sample" or self.schedule_ratio == 0:
            have = feedback if self.feedback != "sample" else "--schedule-ratio 0"
            names = ("gamma", "normalize", "entropy_weight")
            found |= options_in("rollout", names, f"{have} values no action; drop one of them")
        if self.schedule_ratio < 0 and self.schedule_ratio != -1:
            found["--schedule-ratio"] = f"{self.schedule_ratio} is none; give 0 to 1, or drop it"
        return found


RUNS = Path("runs/r2r")
PRETRAINED = Path("runs/pretrain/base/model")
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
    aug=("envdrop",),
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
R4R = replace(
    PREVALENT,
    run_dir=RUNS / "r4r",
    data="r4r",
    teacher="path",
    max_length=160,
    max_steps=100_000,
)
RXR = replace(
    R4R,
    run_dir=RUNS / "rxr",
    data="rxr",
    max_length=250,
    pretrained=None,
    wordpieces=Path("vocab/bert/bert-base-multilingual-uncased-vocab.txt"),
    model=replace(PREVALENT.model, update_language=True, update_cross=True),
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
        "Table 1, Seq2Seq: student forcing alone (here with panoramic actions)",
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
        "Table 1, Speaker-Follower: student forcing on true and speaker-made instructions",
        R2RRun(
            run_dir=RUNS / "speaker-follower",
            feedback="student",
            imitation_weight=1.0,
            aug_weight=1.0,
            aug=("envdrop",),
            accumulate=False,
            batch_size=100,
            max_steps=50_000,
            optimizer=OptimizerConfig("adam", weight_decay=5e-4),
            rollout=RolloutConfig(max_actions=20),
        ),
    ),
    "envdrop": ("EnvDrop's agent before back-translation", ENVDROP),
    "envdrop-back-translation": (
        "Table 1, EnvDrop: continues envdrop on the speaker's words through dropped features",
        replace(
            ENVDROP,
            run_dir=RUNS / "envdrop-back-translation",
            start_from=RUNS / "envdrop",
            speaker=RUNS / "speaker",
            aug=("envdrop",),
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
    "prevalent-stage1": ("Table 5, PREVALENT, feature-based: the encoder is frozen", STAGE_1),
    "prevalent-stage2": ("Table 1, PREVALENT: then fine-tuned with batch 10, rate 2e-6", STAGE_2),
    "prevalent-multi": (
        "Table 1 (M), PREVALENT: three instructions of a path read side by side",
        MULTI,
    ),
    "prevalent-multi-critical": (
        "Table 1 (M): then self-critical with the SPL of whole walks, rate 2e-5",
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
        "Table 5: the steps of stage 2 with the encoder still frozen",
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
    "prevalent-augmented": (
        "PREVALENT's agent on the instructions that pre-training used, read as they are",
        replace(PREVALENT, run_dir=RUNS / "augmented", aug=("prevalent",), max_steps=100_000),
    ),
    "r4r": ("R4R: PREVALENT's agent follows paths that are no shortest ones", R4R),
    "r4r-goal": (
        "R4R: the same led to the goal alone, which success does not tell from following",
        replace(R4R, run_dir=RUNS / "r4r-goal", teacher="goal"),
    ),
    "rxr": ("RxR: one agent for three languages, multilingual word pieces, from scratch", RXR),
    "rxr-en": (
        "RxR: English alone, with the pre-trained encoder",
        replace(R4R, run_dir=RUNS / "rxr-en", data="rxr-en", max_length=250),
    ),
    "rxr-hi": ("RxR: Hindi alone", replace(RXR, run_dir=RUNS / "rxr-hi", data="rxr-hi")),
    "rxr-te": ("RxR: Telugu alone", replace(RXR, run_dir=RUNS / "rxr-te", data="rxr-te")),
    "reverie": (
        "REVERIE: the walk to where the object is seen; the agent names no object",
        replace(PREVALENT, run_dir=RUNS / "reverie", data="reverie", max_steps=40_000),
    ),
    "soon": (
        "SOON: the walk to the object, which the agent does not point at",
        replace(
            PREVALENT,
            run_dir=RUNS / "soon",
            data="soon",
            held_out=("val_unseen_instrs", "val_unseen_house"),
            max_length=160,
            max_steps=40_000,
        ),
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


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-r2r envdrop --batch-size 32``."""
    train_r2r(parse_start(TASK, R2R_PRESETS, argv, "prevalent train-r2r"))


def train_r2r(config: R2RRun) -> Follower:
    """Run ``config`` to its last step, as ``loop.train`` does; leaves ``snapshots/`` there too."""
    return loop.train(TASK, config).agent  # type: ignore[attr-defined]


Source = Callable[[], tuple[Batch, Tensor | None]]
"""The next batch and its environment dropout (D,), if any."""


class R2RTraining(AgentTraining):
    """A follower, the instructions it learns from, and the splits it is evaluated on."""

    losses = (
        *("loss", "imitation", "policy", "critic", "entropy", "actions", "encoder_norm"),
        *("decoder_norm", "reward", "greedy_reward"),
    )

    def __init__(self, config: R2RRun, world: World, folder: RunFolder) -> None:
        here = place_toy_world(config, folder)
        splits = (*here.train, *here.aug, *here.held_out)
        self.data = open_instructions(here, splits, here.model.angle_size, world.device)
        vocabulary = find_vocabulary(here, words=here.model.encoder == "lstm")
        tokenizer = open_tokenizer(here.model, vocabulary, here.max_length)
        texts = here.model.num_texts
        self.held_out = open_held_out(here, self.data, tokenizer, here.data, texts)
        follower = build_follower(here, self.data, tokenizer)
        true = open_batches(here, self.data, tokenizer, here.train, world, texts)
        self.sources: list[tuple[Source, float]] = [
            (lambda: (next(true), None), config.imitation_weight)
        ]
        orders, augmented = {"order": true}, ""
        if here.aug:
            more = open_batches(here, self.data, tokenizer, here.aug, world, texts)
            described = describe_augmented(here, self.data, tokenizer, more)
            self.sources.append((described, config.aug_weight))
            orders["aug_order"] = more
            augmented = f", {len(self.data.items(here.aug))} augmented"
        count = len(self.data.items(here.train))
        summary = (
            f"{count} instructions{augmented}, {len(tokenizer)} words, "
            f"{self.data.describe(here, self.held_out)}"
        )
        super().__init__(config, world, follower, orders, vocabulary=vocabulary, summary=summary)

    def learn(self) -> dict[str, Tensor]:
        """One optimizer step on a batch of each source, or, without ``accumulate``, in turn."""
        step, sources = self.progress.step, self.sources
        chosen = sources if self.config.accumulate else [sources[step % len(sources)]]
        losses: dict[str, Tensor] = {}
        for source, weight in chosen:
            losses = add_losses(
                losses, add_gradients(self.agent, source, weight, self.config, step)
            )
        return {**losses, **self.agent.update()}

    def evaluate(self) -> dict[str, float]:
        return score_splits(self.agent, self.held_out, self.config, self.data.graphs, self.world)

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Success in each split and their sum, and SPL in unseen houses."""
        goals = success_goals(scores)
        if len(goals) > 1:
            goals["best_sr_sum"] = sum(goals.values())
        if "val_unseen/spl" in scores:
            goals["best_spl_unseen"] = scores["val_unseen/spl"]
        return unseen_first(goals)

    def snapshot(self) -> dict[str, Any]:
        return describe_follower(self.agent, self.config.max_length)


TASK = loop.Task(
    kind=KIND,
    config=R2RRun,
    open=R2RTraining,
    fixed=(*FIXED, "data", "wordpieces", "aug", "model", "bert"),
    upgrade=upgrade,
    unused=unused_options,
)


def open_tokenizer(config: FollowerConfig, vocabulary: Path, max_length: int) -> Tokenizer:
    """The tokenizer that suits the encoder."""
    if config.encoder == "lstm":
        return open_words(vocabulary, max_length)
    separate = config.separate_sentences
    return WordPieceTokenizer(vocabulary, max_length, separate_sentences=separate)


def describe_augmented(
    config: R2RRun, data: TaskData[Instruction], tokenizer: Tokenizer, batches: EpisodeBatches
) -> Source:
    """Augmented batches: with a speaker, described anew through fresh environment dropout."""
    if config.speaker is None:
        return lambda: (next(batches), None)
    words = config.data_dir / config.words
    speaker = load_speaker(config.speaker, data, words, max_length=config.max_length)
    dropout, num_texts = config.model.feature_dropout, config.model.num_texts
    return lambda: describe_again(speaker, next(batches), tokenizer, dropout, num_texts)


def add_gradients(
    follower: Follower, source: Source, weight: float, config: R2RRun, step: int
) -> dict[str, Tensor]:
    """Add the gradients of a batch of ``source``, as ``--feedback`` says; returns the losses."""
    if config.feedback == "student":
        batch, noise = source()
        return follower.imitate(batch, weight, noise=noise, along="sample")
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


def build_follower(config: R2RRun, data: TaskData[Instruction], tokenizer: Tokenizer) -> Follower:
    """A follower with the same weights on every rank, from scratch or from ``start_from``."""
    with seeded(config.seed):
        bert = None
        if config.model.encoder != "lstm":
            width = data.features.width
            bert = open_bert(config, len(tokenizer), width=width, max_length=config.max_length)
        follower = make_follower(config, data, tokenizer, bert)
    if config.start_from is not None:
        optimizers = follower.optimizers if config.load_optimizer else None
        load_weights(config.start_from, KIND, follower.modules, optimizers)
    return follower.train()


def make_follower(
    config: R2RRun,
    data: TaskData[Instruction],
    tokenizer: Tokenizer,
    bert: PrevalentModel | None,
) -> Follower:
    """The follower that ``config`` describes."""
    return Follower(
        config.model,
        data.environment,
        data.features,
        vocab_size=len(tokenizer),
        bert=bert,
        optimizer=config.optimizer,
        walk=config.rollout,
        precision=config.precision,
    )


def describe_follower(follower: Follower, max_length: int) -> dict[str, Any]:
    """What `open_agent` needs of a follower beside weights, words and data."""
    return {
        "kind": KIND,
        "model": asdict(follower.config),
        "bert": describe_bert(follower.modules["encoder"]),
        "rollout": asdict(follower.walk),
        "max_length": max_length,
    }


class TrainedAgent(NamedTuple):
    follower: Follower
    data: TaskData[Instruction]
    episodes: Episodes
    tokenizer: Tokenizer
    config: R2RRun
    left_out: int  # instructions of the split without a word
    step: int | None  # that the follower was saved at


def open_agent(
    run: Run,
    split: str,
    *,
    snapshot: str | None = None,
    step: int | None = None,
    data_dir: Path | None = None,
    data: WalkData | None = None,
    device: str = "auto",
    alone: bool = False,
) -> TrainedAgent:
    """The follower of a run, in eval mode, and the episodes of ``split``.

    Args:
        run: as `runs.open_run` gives it.
        split: to open.
        snapshot: which agent; None is the best one in unseen houses, or the last.
        step: the checkpoint to take instead.
        data_dir: in place of the run's own.
        data: data set in place of the run's own.
        device: to run on.
        alone: an agent that reads several instructions of a path reads one of them only.

    Raises ``FileNotFoundError`` or ``ValueError`` where the snapshot or data is missing.
    """
    saved = open_snapshot(run.folder, KIND, snapshot, step)
    config = options_of_snapshot(run, saved, FollowerConfig, RolloutConfig, data_dir)
    config = replace(config, data=data or config.data, teacher="goal")
    model = config.model
    opened = open_instructions(config, [split], model.angle_size, choose_device(device))
    tokenizer = open_tokenizer(model, saved.vocabulary, config.max_length)
    follower = make_follower(config, opened, tokenizer, bert_of_snapshot(saved.content))
    saved.load(follower.modules)
    name, num_texts = f"the split {split!r}", model.num_texts
    items = opened.splits[split]
    episodes = Episodes.encode(items, tokenizer, name, num_texts=num_texts, alone=alone)
    left_out = len(items) - len(episodes)
    return TrainedAgent(
        follower.train(False), opened, episodes, tokenizer, config, left_out, saved.step
    )


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


def walk_agent(agent: TrainedAgent, how: Walking) -> Walks:
    """Walk the agent's episodes, greedily or by search."""
    follower, data, episodes, _, config, left_out, step = agent
    references, rest = episodes.references(), (data.graphs, config.data_dir, left_out, step)
    if how.speaker is not None and not how.beam:
        raise ValueError("--speaker rescores the paths of a search; add --beam 20 or drop it")
    if how.tune and how.speaker is None:
        raise ValueError("--tune-alpha weighs a speaker against the follower; add --speaker RUN")
    if not how.beam:
        follower.walk = replace(follower.walk, forbid_revisits=how.forbid_revisits)
        return Walks(walk_split(follower, episodes, how.batch_size), references, *rest)
    speaker = None
    if how.speaker is not None:
        words = config.data_dir / config.words
        speaker = load_speaker(how.speaker, data, words, max_length=config.max_length)
    found = search_split(follower, episodes, how.batch_size, how.beam, speaker)
    mixture = tune_mixture(found, episodes, data.graphs) if how.tune else how.mixture
    chosen_by = "" if speaker is None else str(mixture)
    return Walks(choose_walks(found, mixture), references, *rest, chosen_by)
