"""What the tasks of agents share: options, data, the pre-trained encoder, a run, its snapshots."""

from __future__ import annotations

import logging
import random
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..agents.rollout import EpisodeBatches, Episodes, Tokenizer
from ..config import ModelConfig, check_sources
from ..curves import draw_scores
from ..data.datasets import read_walks
from ..data.features import DeviceFeatures, open_store
from ..data.instructions import SHUFFLE_SEED, Instruction, with_goals
from ..data.results import (
    Reference,
    Results,
    Task as AgentTask,
    check_goals,
    score_results,
    to_results,
)
from ..data.toy import make_toy_world, toy_size
from ..environments.navigation import NavigationEnvironment, PathEnvironment, Task, check_tasks
from ..loop import Intervals, RunProgress, Training
from ..models.prevalent import PrevalentModel
from ..released.checkpoints import load_model
from ..released.snapshots import Snapshot, as_options, save_agent
from ..runtime.distributed import World, gather_objects
from ..runtime.logs import Logs
from ..runtime.means import RunningMeans
from ..runtime.precision import check_weights
from ..runtime.run_folder import Run, RunFolder
from ..simulator.graph import Graphs, load_graphs
from .options import AgentRun

logger = logging.getLogger(__name__)
TRAIN_EVALUATION_BATCHES = 20
"""Batches that are evaluated of a split that is trained on too."""
TOY_OBJECTS = 5  # at every place of a toy world with objects
FIXED = (
    *("world", "toy_houses", "features", "feature_columns", "standin_dim", "angle_layout"),
    *("words", "max_length", "train", "precision", "seed", "optimizer.kind"),
    *("start_from", "load_optimizer", "pretrained"),
)
"""Options that a run keeps from its first checkpoint on."""


Config = TypeVar("Config", bound=AgentRun)
Item = TypeVar("Item")


@dataclass(frozen=True)
class TaskData(Generic[Item]):
    """Scans, what is seen in them, where agents walk, and the items of every split."""

    graphs: Graphs
    features: DeviceFeatures
    environment: Any
    splits: Mapping[str, Sequence[Item]]

    def items(self, names: Iterable[str]) -> list[Item]:
        """Those of several splits, one after the other."""
        return [one for name in names for one in self.splits[name]]

    def held_out(self, config: AgentRun) -> dict[str, Sequence[Item]]:
        """The splits to evaluate; of those that are also trained on, 20 batches."""
        most = TRAIN_EVALUATION_BATCHES * config.batch_size
        return {
            name: self.splits[name][:most] if name in config.train else self.splits[name]
            for name in config.held_out
        }

    def describe(self, config: AgentRun, held_out: Mapping[str, Sized]) -> str:
        """Scans, features and evaluated splits, for the first line of a log."""
        sizes = ", ".join(f"{name} {len(items)}" for name, items in held_out.items())
        seen = "random stand-ins" if config.features is None else str(Path(config.features).name)
        return (
            f"{len(self.graphs.scans)} scans; features: {seen}, {self.features.image_width} wide; "
            f"evaluated on {sizes}"
        )


def place_toy_world(config: Config, folder: RunFolder) -> Config:
    """``config`` with a toy world made in the run's folder; itself for real data.

    Raises ``ValueError`` where an option of data would not be used.
    """
    check_sources(config)
    if config.world != "toy":
        return config
    place = folder.place("world")
    objects = TOY_OBJECTS if getattr(config, "data", "r2r") == "reverie" else 0
    make_toy_world(place, toy_size(config.toy_houses, objects))
    return in_toy_world(config, place)


def in_toy_world(config: Config, place: Path) -> Config:
    """``config`` with its paths in the toy world at ``place``; itself for real data."""
    if config.world != "toy":
        return config
    if not (place / "wordpiece.txt").is_file():
        raise FileNotFoundError(f"{place} is gone, the toy world of this run; train it anew")
    changes: dict[str, Any] = {"data_dir": place, "features": Path("features.npy")}
    if hasattr(config, "wordpieces"):  # a speaker has words alone
        changes["wordpieces"] = Path("wordpiece.txt")
    if getattr(config, "objects", None) is not None:
        changes["objects"] = Path("objects.hdf5")
    return replace(config, **changes)


class Scenes(NamedTuple):
    """Scans and what is seen in them."""

    graphs: Graphs
    features: DeviceFeatures
    rows: Mapping[str, int]  # of each ``scan_viewpoint`` in the features


def open_scenes(
    config: AgentRun, splits: Mapping[str, Sequence[Task]], angle_size: int, device: torch.device
) -> Scenes:
    """The scans of all tasks of ``splits``, checked to hold every walk and to have features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the split, task, file or viewpoint.
    """
    empty = [name for name, tasks in splits.items() if not tasks]
    if empty:
        raise ValueError(f"the split {empty[0]!r} is empty; give another")
    scans = sorted({one.scan for tasks in splits.values() for one in tasks})
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    check_tasks(graphs, (one for tasks in splits.values() for one in tasks))
    store = open_store(
        config.data_dir, config.features, graphs, scans, config.standin_dim, config.feature_columns
    )
    features = DeviceFeatures(store, device, angle_size=angle_size, layout=config.angle_layout)
    return Scenes(graphs, features, store.rows)


def open_instructions(
    config: AgentRun, splits: Iterable[str], angle_size: int, device: torch.device
) -> TaskData[Instruction]:
    """Room-to-Room and data sets like it: ``splits``, their scans and features.

    Args:
        config: its ``data`` names the data set and its ``teacher`` the environment, where it has
            them.
        splits: names, see `datasets.read_walks`.
        angle_size: of the features.
        device: that holds them.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    data = getattr(config, "data", "r2r")
    read = {name: read_walks(config.data_dir, data, name) for name in dict.fromkeys(splits)}
    graphs, features, rows = open_scenes(config, read, angle_size, device)
    follows = getattr(config, "teacher", "goal") == "path"
    environment = (PathEnvironment if follows else NavigationEnvironment)(graphs, rows)
    return TaskData(graphs, features, environment, read)


def shuffled(items: Iterable[Item]) -> list[Item]:
    """``items`` in the order of training, shuffled once as the authors do."""
    order = list(items)
    random.Random(SHUFFLE_SEED).shuffle(order)
    return order


def open_batches(
    config: AgentRun,
    data: TaskData[Instruction],
    tokenizer: Tokenizer,
    splits: Sequence[str],
    world: World,
    num_texts: int = 1,
) -> EpisodeBatches:
    """Endless batches of instructions of ``splits``; of a path ``num_texts`` at once.

    Instructions without a goal are left out; ``ValueError`` where a split has none (a test split).
    """
    instructions = shuffled(one for name in splits for one in with_goals(data.splits[name], name))
    episodes = Episodes.encode(instructions, tokenizer, " ".join(splits), num_texts=num_texts)
    return EpisodeBatches(episodes, config.batch_size, world)


def open_held_out(
    config: AgentRun,
    data: TaskData[Instruction],
    tokenizer: Tokenizer,
    task: AgentTask,
    num_texts: int = 1,
) -> dict[str, Episodes]:
    """The splits of instructions to evaluate; of those that are also trained on, 20 batches.

    Raises ``ValueError`` where the goals of one are hidden.
    """
    held_out = {}
    for name in config.held_out:
        episodes = Episodes.encode(data.splits[name], tokenizer, name, num_texts=num_texts)
        if name in config.train:
            episodes = episodes.first(TRAIN_EVALUATION_BATCHES * config.batch_size)
        held_out[name] = episodes
    for name, episodes in held_out.items():
        check_goals(episodes.references(), task, name)
    return held_out


def find_vocabulary(config: Any, *, words: bool) -> Path:
    """The file of an agent's words, or of its word pieces: the pre-trained encoder's own first."""
    if words:
        return config.data_dir / config.words
    own = None if config.pretrained is None else config.pretrained / "vocab.txt"
    return own if own is not None and own.is_file() else config.data_dir / config.wordpieces


def open_bert(
    config: Any, num_words: int, *, width: int | None, max_length: int, added: int = 0
) -> PrevalentModel:
    """The pre-trained encoder, or one of the ``--bert.*`` sizes with random weights.

    Args:
        config: of the run.
        num_words: word pieces of the agent's vocabulary.
        width: of what the encoder sees; None for its own.
        max_length: longest text of the agent.
        added: how many of ``num_words`` may be new to the pre-trained encoder.

    Raises ``ValueError`` where it knows another vocabulary or shorter texts.
    """
    if config.pretrained is None:
        sizes = replace(config.bert, vocab_size=num_words)
        return PrevalentModel(sizes if width is None else replace(sizes, image_dim=width))
    bert = load_model(config.pretrained).bert
    known = bert.config
    if num_words - known.vocab_size not in (0, added):
        raise ValueError(
            f"--pretrained {config.pretrained} knows {known.vocab_size} word pieces, the "
            f"vocabulary {find_vocabulary(config, words=False)} has {num_words - added}; give the "
            "vocabulary it was trained with as --wordpieces"
        )
    if known.max_positions < max_length:
        raise ValueError(
            f"--max-length {max_length} exceeds the {known.max_positions} positions of "
            f"--pretrained {config.pretrained}; lower it"
        )
    return extend_vocabulary(bert, num_words) if added else bert


WORDS = "embeddings.word_embeddings.weight"


def extend_vocabulary(bert: PrevalentModel, num_words: int) -> PrevalentModel:
    """A copy of ``bert`` with ``num_words`` word embeddings; the new rows are random."""
    wider = PrevalentModel(replace(bert.config, vocab_size=num_words))
    state = dict(bert.state_dict())
    known = state.pop(WORDS)
    wider.load_state_dict(state, strict=False)
    with torch.no_grad():
        wider.embeddings.word_embeddings.weight[: len(known)] = known
    return wider


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws the same numbers on every rank, and none from the generator of the run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def options_of_snapshot(
    run: Run, saved: Snapshot, model: type, rollout: type, data_dir: Path | None
) -> Any:
    """The options of ``run`` with the sizes that its snapshot has, and the data folder to use.

    Args:
        run: as `runs.open_run` gives it.
        saved: of this run.
        model: the dataclass of an agent's sizes.
        rollout: that of its roll-outs, which version 0.1 called ``walk`` or ``search`` elsewhere.
        data_dir: in place of the run's own.
    """
    content = saved.content
    names = [name for name in ("rollout", "walk", "search") if name in content]
    walked = content[names[0]] if names else {}
    config = replace(
        in_toy_world(run.config, run.folder / "world"),
        model=as_options(model, content["model"]),
        rollout=as_options(rollout, walked),
        pretrained=None,
        max_length=content["max_length"],
    )
    return config if data_dir is None else replace(config, data_dir=data_dir)


def bert_of_snapshot(content: Mapping[str, Any]) -> PrevalentModel | None:
    """The transformer that a snapshot describes, its weights still to be loaded."""
    if content["bert"] is None:
        return None
    return PrevalentModel(as_options(ModelConfig, content["bert"]))


def describe_bert(encoder: nn.Module) -> dict[str, Any] | None:
    """The sizes of an encoder's transformer, for a snapshot."""
    bert = getattr(encoder, "bert", None)
    return None if bert is None else asdict(bert.config)


class AgentProgress(RunProgress):
    """That of version 0.1 is read too, which kept the best values beside the step."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        old = {name: value for name, value in state.items() if name.startswith("best_")}
        super().load_state_dict({name: one for name, one in state.items() if name not in old})
        self.best = {**old, **self.best}


class AgentTraining(Training):
    """A run of an agent that has an optimizer for each of its modules.

    A task takes the step (`learn`), describes its snapshots and, if it can, evaluates.

    Args:
        config: options of the run.
        world: this process.
        agent: with ``modules`` and ``parts()``.
        orders: the batches that are learned from, by their names in a checkpoint.
        vocabulary: the file of the agent's words.
        summary: what is learned from, in one line.
    """

    losses: ClassVar[Sequence[str]] = ("loss",)
    panels: ClassVar[Sequence[str]] = ("success_rate", "spl")
    means_part: ClassVar[str] = "means"

    def __init__(
        self,
        config: Any,
        world: World,
        agent: Any,
        orders: Mapping[str, EpisodeBatches],
        *,
        vocabulary: Path,
        summary: str,
    ) -> None:
        self.config, self.world, self.agent = config, world, agent
        self.progress, self.means = AgentProgress(), RunningMeans(self.losses, world.device)
        self.total_steps = config.max_steps
        evaluate = config.eval_every if config.held_out else 0
        self.intervals = Intervals(config.log_every, config.save_every, evaluate, evaluate > 0)
        self.parts = {**agent.parts(), **orders, self.means_part: self.means}
        self.vocabulary, self.summary = vocabulary.read_bytes(), summary

    @abstractmethod
    def learn(self) -> dict[str, Tensor]:
        """Take one optimizer step; returns its losses."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Kind and sizes, all that loading an agent needs beside weights, words and data."""

    def begin(self, run_dir: Path, logs: Logs) -> None:
        logs.text(self.summary)

    def step(self) -> None:
        losses = self.learn()
        if self.config.precision not in ("fp32", "bf16"):
            # Loss scaling leaves a step out whose gradients overflow: its norm is no fault.
            losses = {
                name: value.nan_to_num(0.0, 0.0, 0.0) if name.endswith("_norm") else value
                for name, value in losses.items()
            }
        self.means.add(losses)
        self.progress.step += 1

    def check(self) -> None:
        self.means.check(self.progress.step)
        check_weights(self.progress.step, self.agent.modules)

    def scalars(self) -> Mapping[str, float | Tensor | None]:
        return self.means.take()

    def export(self, run_dir: Path, name: str) -> None:
        content = {**self.snapshot(), "step": self.progress.step}
        folder = run_dir / "snapshots" / name
        save_agent(folder, self.agent.modules, content, self.vocabulary)

    def finish(self, run_dir: Path, logs: Logs) -> None:
        if self.world.is_main:
            logs.text(draw_scores(run_dir, "loss", *self.panels))


def unseen_first(goals: Mapping[str, float]) -> dict[str, float]:
    """``goals`` with ``best_val_unseen``, which decides on ``--patience``, in front."""
    return dict(sorted(goals.items(), key=lambda item: item[0] != "best_val_unseen"))


def gather_results(
    records: Sequence[dict[str, Any]], ids: Iterable[str], task: AgentTask
) -> Results:
    """The results of all processes by id, in the order of ``ids``."""
    gathered = [record for part in gather_objects(list(records)) for record in part]
    by_id = to_results(gathered, task)
    return {one: by_id[one] for one in ids}


class ActingAgent(Protocol):
    """An agent that walks batches in eval mode."""

    def act(self, batches: Iterable[Any]) -> list[dict[str, Any]]: ...


def walk_split(
    agent: ActingAgent,
    episodes: Any,
    batch_size: int,
    world: World | None = None,
    task: AgentTask = "r2r",
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = episodes if world is None else episodes.part(world.rank, world.size)
    records = agent.act(mine.batches(batch_size))
    return gather_results(records, (one.id for one in episodes.instructions), task)


def score_splits(
    agent: ActingAgent,
    held_out: Mapping[str, Episodes],
    config: Any,
    graphs: Graphs,
    world: World,
) -> dict[str, float]:
    """Mean scores of greedy walks, ``SPLIT/METRIC`` under the names of ``config.data``."""
    scores = {}
    for name, episodes in held_out.items():
        results = walk_split(agent, episodes, config.eval_batch_size, world, config.data)
        for metric, value in score_results(
            results, episodes.references(), graphs, config.data
        ).items():
            scores[f"{name.partition('@')[0]}/{metric}"] = value
    return scores


def success_goals(scores: Mapping[str, float]) -> dict[str, float]:
    """``best_SPLIT``: the success in each split."""
    ending = "/success_rate"
    return {
        f"best_{name.removesuffix(ending).split('/')[-1]}": value
        for name, value in scores.items()
        if name.endswith(ending)
    }


class Walks(NamedTuple):
    """What a trained agent walked of a split, with all that its scores need."""

    results: Results
    references: Sequence[Reference]
    graphs: Graphs
    data_dir: Path
    left_out: int = 0  # items of the split that the agent cannot read
    step: int | None = None  # of the agent
    chosen_by: str = ""  # the mixture of scores that chose the paths of a search


def renamed_options(argv: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """``argv`` with the old beginnings of options (keys) replaced by the new; says so."""
    words = []
    for word in argv:
        old = next((one for one in names if word.startswith(one)), None)
        if old is not None:
            new = names[old] + word.removeprefix(old)
            logger.warning(
                "%s is called %s now; the old name goes with the next version", word, new
            )
            word = new
        words.append(word)
    return words
