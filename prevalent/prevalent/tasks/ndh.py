"""Navigation from Dialog History: agents that follow a dialog (Sec. 4.2), ``prevalent train-ndh``.

The paper trains with batches of 15 dialogs of at most 300 word pieces; learning rate, decay and the
share of drawn steps are those of the authors' instructions and code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import loop
from ..agents.ndh import NDHAgent, NDHConfig, NDHRolloutConfig
from ..agents.rollout import EpisodeBatches, Episodes, Feedback
from ..config import TINY_MODEL, TOY_MODEL, options_in, unused_options
from ..data.ndh import (
    Dialog,
    DialogTokenizer,
    Tags,
    encode_dialogs,
    open_dialog_pieces,
    open_dialog_words,
    read_dialogs,
)
from ..data.results import Results, check_goals, score_results
from ..data.tokenizers import DIALOG_LENGTHS, History
from ..environments.low_level import LowLevelEnvironment
from ..environments.panorama import NDHEnvironment
from ..metrics.navigation import PathType
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
    open_bert,
    open_scenes,
    options_of_snapshot,
    place_toy_world,
    renamed_options,
    seeded,
    shuffled,
    unseen_first,
    walk_split,
)
from .options import ReaderRun
from .starting import parse_start

KIND = "ndh"
GOAL_PROGRESS = "dist_to_end_reduction"
NUM_TAGS = 3  # word pieces that a pre-trained encoder does not know

PLAN_ACTIONS, WALK_ACTIONS, LOW_LEVEL_WALK_ACTIONS = 20, 40, 80
"""Most actions of an episode along the oracle's plan, along longer paths, and along these where
turning takes steps too."""


LOW_LEVEL_LENGTHS = {**DIALOG_LENGTHS, "nav_q_oracle_ans": 120, "all": 720}
"""Longest texts of the Seq2Seq baseline; `DIALOG_LENGTHS` has those of PREVALENT."""


Teaching = Literal["mixed", "teacher", "argmax", "sample"]


@dataclass(frozen=True)
class NDHRun(ReaderRun):
    """Train the agent that follows a dialog."""

    shortest_text: ClassVar[int] = 0

    run_dir: Path = Path("runs/ndh")
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
    feedback: Teaching = "mixed"
    """Whose actions are walked while training, always told the teacher's: the ``teacher``'s, the
    best (``argmax``), drawn ones (``sample``), or at each step the first or the last (``mixed``)"""
    sample_ratio: float = 0.2
    """``mixed``: share of drawn steps."""
    batch_size: int = 20
    max_steps: int = 20_000
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "adamax", lr=5e-5, weight_decay=5e-4, max_norm=math.inf
        )
    )
    model: NDHConfig = field(default_factory=NDHConfig)
    rollout: NDHRolloutConfig = field(default_factory=NDHRolloutConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sample_ratio <= 1:
            raise ValueError(f"--sample-ratio must be in [0, 1], got {self.sample_ratio}")
        if self.pretrained is not None and self.model.encoder != "dic":
            raise ValueError("--pretrained needs --model.encoder dic; add it or drop --pretrained")

    def unused(self) -> dict[str, str]:
        """Options of this task that the run would record and not use; see `unused_options`."""
        found = super().unused() | self.model.unused()
        if self.model.encoder == "lstm":
            reason = "--model.encoder lstm reads no word pieces; drop it, or give dic"
            found |= options_in("", ("tags", "keep_first"), reason)
        if self.feedback != "mixed":
            found["--sample-ratio"] = f"--feedback {self.feedback} mixes nothing; drop one of them"
        return found

    @property
    def text_length(self) -> int:
        """L, longest text in words or word pieces."""
        lengths = LOW_LEVEL_LENGTHS if self.model.actions == "low-level" else DIALOG_LENGTHS
        return self.max_length or lengths[self.history]

    @property
    def max_actions(self) -> int:
        """Most actions of an episode."""
        if self.rollout.max_actions:
            return self.rollout.max_actions
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
    model=NDHConfig(
        encoder="lstm",
        actions="low-level",
        hidden_size=512,
        bidirectional=False,
        dropout=0.5,
    ),
)
SMALL_AGENT = NDHConfig(
    hidden_size=128,
    attention_size=64,
    top_lstm=False,
    dropout=0.3,
    encoder_dropout=0.3,
    update_language=True,
    update_cross=True,
)
TOY_AGENT = NDHConfig(
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
TINY_AGENT = NDHConfig(
    hidden_size=8, encoder_size=6, word_size=6, attention_size=8, angle_size=4, update_cross=True
)

NDH_PRESETS: dict[str, tuple[str, NDHRun]] = {
    "prevalent-oracle": ("Table 2, PREVALENT, Oracle: learns the oracle's plans", ORACLE),
    "prevalent-navigator": ("Table 2, PREVALENT, Navigator: learns the human's ways", NAVIGATOR),
    "prevalent-mixed": (
        "Table 2, PREVALENT, Mixed: the human's way where it can be trusted",
        MIXED,
    ),
    "seq2seq-oracle": ("Table 2, Seq2Seq, Oracle", SEQ2SEQ),
    "seq2seq-navigator": (
        "Table 2, Seq2Seq, Navigator",
        replace(SEQ2SEQ, run_dir=RUNS / "seq2seq-navigator", path_type="player_path"),
    ),
    "seq2seq-mixed": (
        "Table 2, Seq2Seq, Mixed",
        replace(SEQ2SEQ, run_dir=RUNS / "seq2seq-mixed", path_type="trusted_path"),
    ),
    "prevalent-oracle-answer": ("Table 4: reads the last answer alone, Oracle", ANSWER),
    "prevalent-mlm-only": (
        "Table 4: the same with an encoder pre-trained without action prediction",
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
            model=NDHConfig(update_language=True, update_cross=True),
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
            rollout=NDHRolloutConfig(max_actions=10, reuse_text=True),
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
            rollout=NDHRolloutConfig(max_actions=8, reuse_text=True),
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
            rollout=NDHRolloutConfig(max_actions=4),
            model=TINY_AGENT,
            bert=replace(TINY_MODEL, max_positions=300),
        ),
    ),
}


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent train-ndh prevalent-mixed --batch-size 32``."""
    words = renamed_options(argv, {"--walk.": "--rollout."})
    train_ndh(parse_start(TASK, NDH_PRESETS, words, "prevalent train-ndh"))


def train_ndh(config: NDHRun) -> NDHAgent:
    """Run ``config`` to its last step, as ``loop.train`` does; leaves ``snapshots/`` there too."""
    return loop.train(TASK, config).agent  # type: ignore[attr-defined]


@dataclass(frozen=True)
class DialogEpisodes(Episodes):
    """Dialogs of a split with their encoded texts."""

    instructions: Sequence[Dialog]  # type: ignore[assignment]


class NDHTraining(AgentTraining):
    """An agent, the dialogs it learns from, and the splits it is evaluated on."""

    losses = ("loss", "action_loss", "actions", "encoder_norm", "decoder_norm")
    panels = (GOAL_PROGRESS, "success_rate")

    def __init__(self, config: NDHRun, world: World, folder: RunFolder) -> None:
        if config.load_optimizer:
            raise ValueError("--load-optimizer is not for NDH; the state stays in checkpoints")
        here = place_toy_world(config, folder)
        self.data = open_dialogs(here, (*here.train, *here.held_out), world.device)
        vocabulary = find_vocabulary(here, words=here.model.encoder == "lstm")
        tokenizer = open_tokenizer(here, vocabulary)
        self.held_out = {
            name: encode(here, dialogs, tokenizer)
            for name, dialogs in self.data.held_out(here).items()
        }
        for name, dialogs in self.data.held_out(here).items():
            check_goals((one.reference for one in dialogs), "ndh", name)
        agent = build_agent(here, self.data, tokenizer)
        self.batches = open_batches(here, self.data, tokenizer, world)
        summary = (
            f"{len(self.data.items(here.train))} dialogs, {len(tokenizer)} words; reads "
            f"{here.history}, learns the {here.path_type}; "
            f"{self.data.describe(here, self.data.held_out(here))}"
        )
        orders = {"order": self.batches}
        super().__init__(config, world, agent, orders, vocabulary=vocabulary, summary=summary)

    def learn(self) -> dict[str, Tensor]:
        feedback = feedback_of(self.config, self.agent.max_actions, self.progress.step)
        return {**self.agent.imitate(next(self.batches), feedback), **self.agent.update()}

    def evaluate(self) -> dict[str, float]:
        config, scores = self.config, {}
        for name, episodes in self.held_out.items():
            results = walk_split(self.agent, episodes, config.batch_size, self.world, "ndh")
            found = score_walks(results, episodes, self.data.graphs, config.path_type)
            for metric, value in found.items():
                scores[f"{name.partition('@')[0]}/{metric.replace(' ', '_')}"] = value
        return scores

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """``best_SPLIT`` by success, as for Room-to-Room, ``best_SPLIT_progress`` by progress."""
        goals = {}
        for name, value in scores.items():
            split, _, metric = name.rpartition("/")
            if metric in ("success_rate", GOAL_PROGRESS):
                ending = "" if metric == "success_rate" else "_progress"
                goals[f"best_{split.split('/')[-1]}{ending}"] = value
        return unseen_first(goals)

    def snapshot(self) -> dict[str, Any]:
        config, agent = self.config, self.agent
        return {
            "kind": KIND,
            "model": asdict(agent.config),
            "bert": describe_bert(agent.modules["encoder"]),
            "rollout": asdict(agent.walk),
            "history": config.history,
            "max_length": config.text_length,
            "path_type": config.path_type,
        }


TASK = loop.Task(
    kind=KIND,
    config=NDHRun,
    open=NDHTraining,
    fixed=(*FIXED, "wordpieces", "path_type", "history", "tags", "keep_first", "model", "bert"),
    upgrade=upgrade,
    unused=unused_options,
)


def open_dialogs(config: NDHRun, splits: Iterable[str], device: torch.device) -> TaskData[Dialog]:
    """Read ``splits``, their scans and features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    read = {
        name: read_dialogs(config.data_dir, name, config.path_type)
        for name in dict.fromkeys(splits)
    }
    graphs, features, rows = open_scenes(config, read, config.model.angle_size, device)
    low_level = config.model.actions == "low-level"
    environment = (LowLevelEnvironment if low_level else NDHEnvironment)(graphs, rows)
    return TaskData(graphs, features, environment, read)


def open_tokenizer(config: NDHRun, vocabulary: Path) -> DialogTokenizer:
    """The tokenizer that suits the encoder."""
    if config.model.encoder == "lstm":
        return open_dialog_words(vocabulary, config.text_length)
    return open_dialog_pieces(
        vocabulary, config.text_length, tags=config.tags, keep_first=config.keep_first
    )


def encode(config: NDHRun, dialogs: Sequence[Dialog], tokenizer: DialogTokenizer) -> DialogEpisodes:
    """``dialogs`` with what the agent reads of them."""
    return DialogEpisodes(dialogs, encode_dialogs(dialogs, tokenizer, config.history))


def open_batches(
    config: NDHRun, data: TaskData[Dialog], tokenizer: DialogTokenizer, world: World
) -> EpisodeBatches:
    """Endless batches of the training splits.

    Raises ``ValueError`` where a dialog has no path to learn.
    """
    dialogs = data.items(config.train)
    if not all(one.has_paths for one in dialogs):
        raise ValueError(
            f"--train {' '.join(config.train)} holds dialogs without paths (a test split); there "
            "is nothing to learn from them"
        )
    episodes = encode(config, shuffled(dialogs), tokenizer)
    return EpisodeBatches(episodes, config.batch_size, world)


def feedback_of(config: NDHRun, max_actions: int, step: int) -> Feedback | list[Feedback]:
    """Who acts in an episode; ``mixed`` draws for every action of the whole batch.

    Drawn from the step alone, so that all processes agree and a resumed run does too.
    """
    if config.feedback != "mixed":
        return config.feedback
    drawn = np.random.default_rng([config.seed, step]).random(max_actions) < config.sample_ratio
    return ["sample" if one else "teacher" for one in drawn]


def build_agent(config: NDHRun, data: TaskData[Dialog], tokenizer: DialogTokenizer) -> NDHAgent:
    """An agent with the same weights on every rank, from scratch or from ``start_from``."""
    with seeded(config.seed):
        bert = None
        if config.model.encoder == "dic":
            size = {"width": data.features.width, "max_length": config.text_length}
            bert = open_bert(config, len(tokenizer), **size, added=NUM_TAGS)
        agent = make_agent(config, data, tokenizer, bert)
    if config.start_from is not None:
        load_weights(config.start_from, agent.modules)
    return agent.train()


def make_agent(
    config: NDHRun,
    data: TaskData[Dialog],
    tokenizer: DialogTokenizer,
    bert: PrevalentModel | None,
) -> NDHAgent:
    """The agent that ``config`` describes."""
    return NDHAgent(
        config.model,
        data.environment,
        data.features,
        max_actions=config.max_actions,
        vocab_size=len(tokenizer),
        bert=bert,
        optimizer=config.optimizer,
        walk=config.rollout,
        precision=config.precision,
    )


def load_weights(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Load an agent into ``modules``: a run, a snapshot, or the authors' file of an encoder.

    The authors save encoder and decoder as ``NAME_enc_iter_N`` and ``NAME_dec_iter_N``; either may
    be named.

    Raises:
        FileNotFoundError: the other of the two files is missing.
        ValueError: a tensor does not fit.
    """
    path = find_agent(path)
    if path.is_dir():
        read_agent_config(path, KIND)
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


class TrainedAgent(NamedTuple):
    agent: NDHAgent
    data: TaskData[Dialog]
    episodes: DialogEpisodes
    config: NDHRun
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
    """The agent of a run in eval mode and the dialogs of ``split``, as `tasks.r2r.open_agent`."""
    saved = open_snapshot(run.folder, KIND, snapshot, step)
    config = options_of_snapshot(run, saved, NDHConfig, NDHRolloutConfig, data_dir)
    data = open_dialogs(config, [split], choose_device(device))
    tokenizer = open_tokenizer(config, saved.vocabulary)
    agent = make_agent(config, data, tokenizer, bert_of_snapshot(saved.content))
    saved.load(agent.modules)
    episodes = encode(config, data.splits[split], tokenizer)
    return TrainedAgent(agent.train(False), data, episodes, config, saved.step)


def walk_agent(trained: TrainedAgent, batch_size: int) -> Walks:
    """Walk the agent's dialogs."""
    agent, data, episodes, config, step = trained
    references = [one.reference for one in episodes.instructions]
    results = walk_split(agent, episodes, batch_size, task="ndh")
    return Walks(results, references, data.graphs, config.data_dir, step=step)


def score_walks(
    results: Results, episodes: DialogEpisodes, graphs: Graphs, path_type: PathType
) -> dict[str, float]:
    """Mean scores under the metric names of CVDN.

    Raises ``ValueError`` where a dialog has no goals (test split).
    """
    references = [one.reference for one in episodes.instructions]
    return score_results(results, references, graphs, "ndh", path_type=path_type)
