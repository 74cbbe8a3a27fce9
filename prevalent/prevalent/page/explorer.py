"""What the page of ``prevalent demo --serve`` asks for: agents, instructions, and walks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ..agents.follower import Follower
from ..agents.rollout import Batch, Episodes, Tokenizer
from ..agents.simple import R2R_STEPS, SimpleAgent, walk
from ..data.datasets import read_walks
from ..data.instructions import Instruction
from ..environments.navigation import Task
from ..metrics.navigation import PathScores, score_path
from ..models.encoders import Words
from ..released.snapshots import kind_of_agent
from ..runs import open_run
from ..runtime.run_folder import CONFIG
from ..simulator.geometry import VIEW_HEADINGS, nearest_view
from ..simulator.graph import Candidates, Graphs, candidates_of, load_graphs
from ..tasks.navigation import in_toy_world
from ..tasks.r2r import TrainedAgent, open_agent

SIMPLE_AGENTS = get_args(SimpleAgent)
MAX_CHARACTERS = 2000


class Walked(NamedTuple):
    """A walk of one agent, the graphs that its nodes belong to, and its scores."""

    agent: str
    trace: Trace
    graphs: Graphs
    scores: PathScores


class Explorer:
    """The agents of a folder and the instructions that they can be given.

    Args:
        folder: a run of ``prevalent train-r2r``, a converted agent, or a folder of such runs, as
            ``prevalent demo`` makes.
        data_dir: data folder in place of the runs' own.
        snapshot: which agent of each run.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises ``FileNotFoundError`` where there is no such run, no such data or no split.
    """

    def __init__(
        self,
        folder: Path,
        data_dir: Path | None = None,
        *,
        snapshot: str | None = None,
        device: str = "auto",
    ) -> None:
        self.folder, self.snapshot, self.device = folder, snapshot, device
        self.runs = find_runs(folder)
        run = open_run(next(iter(self.runs.values())), "r2r")
        own = in_toy_world(run.config, run.folder / "world").data_dir
        moved = folder / "world"  # a demo's data, whatever the folder is called by now
        self.data_dir = data_dir or (moved if moved.is_dir() and not own.is_dir() else own)
        self.data = run.config.data
        names = (*run.config.held_out, *run.config.train)
        others = list(dict.fromkeys(name.partition("@")[0] for name in names))
        self.splits = find_splits(self.data_dir) if self.data == "r2r" else others
        self._opened = lru_cache(maxsize=4)(self._open)
        self._read = lru_cache(maxsize=4)(self._read_split)
        self._graphs = lru_cache(maxsize=2)(self._load_graphs)
        self._lock = threading.Lock()  # an agent's environment serves one walk at a time

    @property
    def agents(self) -> list[str]:
        """Runs first, then the agents that do not learn."""
        return [*self.runs, *SIMPLE_AGENTS]

    def _read_split(self, split: str) -> dict[str, Instruction]:
        found = read_walks(self.data_dir, self.data, split)
        return {one.id: one for one in found if len(one.path) > 1}

    def _load_graphs(self, split: str) -> Graphs:
        return load_graphs(self.data_dir / "connectivity", self.scans(split))

    def _open(self, agent: str, split: str) -> TrainedAgent:
        return open_agent(
            open_run(self.runs[agent], "r2r"),
            split,
            snapshot=self.snapshot,
            data_dir=self.data_dir,
            data=self.data,
            device=self.device,
        )

    def scans(self, split: str) -> list[str]:
        """Scans of a split."""
        return sorted({one.scan for one in self._read(split).values()})

    def instructions(self, split: str, scan: str) -> list[Instruction]:
        """Instructions of a split in a scan."""
        return [one for one in self._read(split).values() if one.scan == scan]

    def text(self, split: str, identity: str) -> str:
        """The text of an instruction, empty where there is none of that name."""
        one = self._read(split).get(identity)
        return "" if one is None else one.text

    def walk(self, agent: str, split: str, identity: str, text: str, seed: int = 0) -> Walked:
        """Have ``agent`` follow ``text`` from where an instruction of a split begins.

        Raises ``ValueError`` for a text that is empty or too long, and for unknown names.
        """
        task = self._read(split).get(identity)
        if task is None:
            raise ValueError(f"the split {split!r} has no instruction {identity!r}; choose one")
        task = replace(task, text=check_text(text))
        with self._lock:
            if agent in self.runs:
                opened = self._opened(agent, split)
                texts = opened.follower.config.num_texts
                episodes = Episodes.encode(
                    [task], opened.tokenizer, "the instruction", num_texts=texts, alone=True
                )
                walked = trace(opened.follower, episodes.batch([0]), opened.tokenizer)[0]
                graphs = opened.data.graphs
            elif agent in SIMPLE_AGENTS:
                graphs = self._graphs(split)
                walked = trace_simple(cast(SimpleAgent, agent), graphs, task, seed)
            else:
                known = ", ".join(self.agents)
                raise ValueError(f"there is no agent {agent!r}; choose one of {known}")
        places = [graphs.viewpoints[node] for node in walked.nodes]
        scores = score_path(places, task.path, graphs.by_name(task.scan).distance)
        return Walked(agent, walked, graphs, scores)


def check_text(text: str | None) -> str:
    """An instruction without the white space around it; ``ValueError`` where it cannot be read."""
    text = (text or "").strip()
    if not any(character.isalnum() for character in text):
        raise ValueError("the instruction has no word; type one, or choose one of the split")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"the instruction has {len(text)} characters; at most {MAX_CHARACTERS} are read"
        )
    return text


def find_runs(folder: Path) -> dict[str, Path]:
    """Runs of followers by name: ``folder`` itself, or the folders in it."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; run `prevalent demo --run-dir {folder}` first, or give the "
            "--run-dir of `prevalent train-r2r`"
        )
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    runs = {path.name: path for path in [folder.resolve(), *inner] if _follows(path)}
    if not runs:
        first = f"run `prevalent demo --run-dir {folder}` first, or "
        first = "" if (folder / CONFIG).exists() else first  # a run of another kind stays as it is
        raise FileNotFoundError(
            f"{folder} has no agent that follows instructions; {first}give the --run-dir of a "
            "finished `prevalent train-r2r`"
        )
    return runs


def _follows(run: Path) -> bool:
    """Whether a folder is a run with a follower's snapshot."""
    found = list(run.glob("snapshots/*/config.json"))
    return (run / "config.json").is_file() and any(
        kind_of_agent(one.parent) == "r2r" for one in found
    )


def find_splits(data_dir: Path) -> list[str]:
    """Splits of R2R with goals in a data folder, unseen houses first."""
    files = [*data_dir.glob("r2r/R2R_*.json"), *data_dir.glob("R2R_*.json")]
    names = {path.stem.removeprefix("R2R_") for path in files} - {"test"}
    if not names:
        raise FileNotFoundError(
            f"{data_dir} has no r2r/R2R_SPLIT.json; point --data-dir at the data that the agent "
            "walks in"
        )
    return sorted(names, key=lambda name: (name != "val_unseen", name != "val_seen", name))


class Step(NamedTuple):
    """One decision. Agents that weigh and read nothing have empty lists."""

    node: int
    heading: float  # radians, where the agent faces
    targets: list[int]  # K candidates, STOP left out
    directions: list[float]  # K headings in radians, absolute
    scores: list[float]  # K + 1 logits, STOP last
    probabilities: list[float]  # K + 1, STOP last
    action: int  # K = STOP
    attention: NDArray[np.float32]  # (W,) over the words, in reading order


class Trace(NamedTuple):
    """A walk with all that was weighed on the way."""

    task: Task
    text: str
    words: list[str]  # W
    steps: list[Step]
    nodes: list[int]  # places passed, the start included


class _Decision(NamedTuple):
    """What a policy has made of one observation."""

    action: int
    scores: Sequence[float] = ()
    probabilities: Sequence[float] = ()
    attention: NDArray[np.float32] = np.zeros(0, dtype=np.float32)


@torch.no_grad()
def trace(follower: Follower, batch: Batch, tokenizer: Tokenizer) -> list[Trace]:
    """Walk ``batch`` greedily and record every decision."""
    follower.train(False)
    recorded = follower.rollout(batch, "argmax", keep_steps=True)
    environment = follower.environment
    logits = [step.logits.float().cpu() for step in recorded.steps]
    probabilities = [one.softmax(dim=1).numpy() for one in logits]
    attentions = [step.words.float().cpu().numpy() for step in recorded.steps]
    ids = Words.of(batch.tokens).ids.numpy()  # (B M, T)
    texts = ids.reshape(len(batch.tasks), -1, ids.shape[1])
    backwards = follower.config.encoder == "dic" and follower.config.reverse_input
    traces = []
    for i, task in enumerate(batch.tasks):
        lengths = (texts[i] != 0).sum(axis=1).tolist()
        words = [tokenizer.decode([token]) for token in texts[i][texts[i] != 0]]
        decisions = [
            _Decision(
                int(recorded.actions[t, i]),
                logits[t][i].tolist(),
                probabilities[t][i].tolist(),
                _reading_order(attentions[t][i], lengths, backwards),
            )
            for t in range(len(recorded.steps))
        ]
        traces.append(_follow(environment.graphs, environment.candidates, task, words, decisions))
    return traces


def trace_simple(agent: SimpleAgent, graphs: Graphs, task: Task, seed: int = 0) -> Trace:
    """The walk of an agent that does not learn; it decides without scores."""
    poses = walk(agent, graphs, [task], max_steps=R2R_STEPS, seed=seed)[0]
    found, node, decisions = candidates_of(graphs), graphs.node(task.scan, task.path[0]), []
    for viewpoint, _, _ in poses:
        after = graphs.node(task.scan, viewpoint)
        if after != node:
            decisions.append(_Decision(found.target[node].tolist().index(after)))
            node = after
    decisions.append(_Decision(int(found.count[node])))
    return _follow(graphs, found, task, [], decisions)


def _follow(
    graphs: Graphs,
    found: Candidates,
    task: Task,
    words: list[str],
    decisions: Sequence[_Decision],
) -> Trace:
    """The steps of one agent up to its stop."""
    node = graphs.node(task.scan, task.path[0])
    heading, steps, nodes = float(VIEW_HEADINGS[nearest_view(task.heading, 0.0)]), [], [node]
    for action, scores, probabilities, attention in decisions:
        count = int(found.count[node])
        steps.append(
            Step(
                node,
                heading,
                found.target[node, :count].tolist(),
                found.heading[node, :count].tolist(),
                list(scores[: count + 1]),
                list(probabilities[: count + 1]),
                action,
                attention,
            )
        )
        if action >= count:
            break
        heading = float(VIEW_HEADINGS[found.view[node, action]])
        node = int(found.target[node, action])
        nodes.append(node)
    return Trace(task, getattr(task, "text", ""), words, steps, nodes)


def _reading_order(
    weights: NDArray[np.float32], lengths: Sequence[int], backwards: bool
) -> NDArray[np.float32]:
    """Weights (M T) over M padded texts as weights over their words, read from the start."""
    texts = weights.reshape(len(lengths), -1)
    parts = [text[:length] for text, length in zip(texts, lengths, strict=True)]
    return np.concatenate([part[::-1] if backwards else part for part in parts])
