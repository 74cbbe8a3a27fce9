"""An agent that draws a map while it walks and may go back to any place it has seen.

Chen et al., "Think Global, Act Local" (CVPR 2022). An action is a node of the map that was not
visited yet, or STOP; the way there leads along known edges. The simulator, the environment and the
metrics are those of the other agents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..data.features import DeviceFeatures
from ..data.objects import DeviceObjects
from ..data.triplets import Masked
from ..environments.navigation import NavigationEnvironment, Observation
from ..models.encoders import Words, encode_words
from ..models.graph import GraphModel, LocalView, MapNodes, Scores
from ..models.prevalent import IGNORE as NO_WORD, PrevalentModel, mean_cross_entropy
from ..objectives import IGNORE
from ..optimizer import Agent, OptimizerConfig
from ..runtime.options import at_least
from ..runtime.precision import Precision
from ..simulator.geometry import NUM_VIEWS, angle_features
from ..simulator.graph import Graphs
from .rollout import Batch, sample, see

Feedback = Literal["teacher", "sample", "argmax"]
Integers = NDArray[np.int64]
FAR = 30.0  # meters that count as 1 among the features of a place


@dataclass(frozen=True)
class GraphWalk:
    """How an episode of a graph-based agent is walked."""

    max_actions: int = 15
    """Most choices of an episode; a choice may lead over several edges."""
    best_stop: bool = True
    """At its end an agent goes back to the visited place where it wanted most to stop."""

    def __post_init__(self) -> None:
        at_least(self, "rollout", max_actions=1)


class TopologicalMap:
    """What B agents know of their scans: visited places, places seen from there, edges between.

    Args:
        graphs: the scans; positions and edges of places that an agent has not seen are not read.
        start: nodes (B,) where the agents begin.
    """

    def __init__(self, graphs: Graphs, start: Integers) -> None:
        self.graphs = graphs
        self.node = start[:, None].copy()  # (B, M) nodes in the order of discovery, -1 = blank
        self.count = np.ones(len(start), dtype=np.int64)  # (B,) known nodes
        self.visited = np.zeros_like(self.node)  # (B, M) step of the last visit from 1 on
        self.distance = np.zeros((len(start), 1, 1))  # (B, M, M) meters along known edges

    def find(self, rows: Integers, nodes: Integers) -> Integers:
        """Places (b, ...) of ``nodes`` (b, ...) in the maps of the agents ``rows``, -1: unknown."""
        known = self.node[rows].reshape(len(rows), *(1,) * (nodes.ndim - 1), -1)
        same = (known == nodes[..., None]) & (nodes[..., None] >= 0)
        return np.where(same.any(axis=-1), same.argmax(axis=-1), -1)

    def visit(self, rows: Integers, here: Integers, neighbors: Integers, step: int) -> Integers:
        """The agents ``rows`` come to ``here`` (b,) and see ``neighbors`` (b, K), -1 = blank.

        Returns the places (b,) of ``here`` in their maps.
        """
        new = (neighbors >= 0) & (self.find(rows, neighbors) < 0)
        place = self.count[rows, None] + np.cumsum(new, axis=1) - 1  # where the new ones go
        self._grow(int(place.max(initial=0)) + 1)
        i, j = np.nonzero(new)
        self.node[rows[i], place[i, j]] = neighbors[i, j]
        self.count[rows] += new.sum(axis=1)
        own = self.find(rows, here)
        self.visited[rows, own] = step + 1
        self._connect(rows, own, here, neighbors)
        return own

    def _grow(self, size: int) -> None:
        more = size - self.node.shape[1]
        if more > 0:
            self.node = np.pad(self.node, ((0, 0), (0, more)), constant_values=-1)
            self.visited = np.pad(self.visited, ((0, 0), (0, more)))
            wide = ((0, 0), (0, more), (0, more))
            self.distance = np.pad(self.distance, wide, constant_values=np.inf)
            index = np.arange(size)
            self.distance[:, index, index] = 0.0

    def _connect(self, rows: Integers, own: Integers, here: Integers, seen: Integers) -> None:
        """Add the edges from ``here`` to ``seen``; all paths that become shorter lead over it."""
        place = self.find(rows, seen)  # (b, K)
        there = place >= 0
        length = np.where(
            there, self.graphs.distance(here[:, None], np.where(there, seen, here[:, None])), np.inf
        )
        known = self.distance[rows]  # (b, M, M)
        b = np.arange(len(rows))
        over = known[b[:, None], np.maximum(place, 0)] + length[..., None]  # (b, K, M)
        from_here = np.minimum(known[b, own], over.min(axis=1, initial=np.inf))
        known = np.minimum(known, from_here[:, :, None] + from_here[:, None, :])
        self.distance[rows] = known

    def frontier(self, rows: Integers) -> NDArray[np.bool_]:
        """(b, M) nodes that were seen and not visited."""
        return (self.node[rows] >= 0) & (self.visited[rows] == 0)

    def places(self, rows: Integers, heading: NDArray, own: Integers) -> NDArray[np.float32]:
        """(b, M, 6) where each node is for agents at the place ``own`` (b,) of their maps.

        They look to ``heading`` (b,), radians.

        Sine and cosine of relative heading and of elevation, and the distances through the air and
        along known edges, in units of 30 m.
        """
        here = self.node[rows, own]
        node = np.where(self.node[rows] >= 0, self.node[rows], here[:, None])
        offset = self.graphs.positions[node] - self.graphs.positions[here][:, None]
        flat = np.hypot(offset[..., 0], offset[..., 1])
        angle = np.arctan2(offset[..., 0], offset[..., 1]) - heading[:, None]
        angles = angle_features(angle, np.arctan2(offset[..., 2], flat), 4)
        air = np.linalg.norm(offset, axis=-1)
        along = self.distance[rows, own]
        along = np.where(np.isfinite(along), along, 0.0)
        lengths = np.stack([air, along], axis=-1) / FAR
        return np.concatenate([angles, lengths], axis=-1).astype(np.float32)

    def way(self, rows: Integers, seen: Observation, goal: Integers) -> Integers:
        """The candidate (b,) that leads on from ``seen`` to the known node ``goal`` (b,)."""
        place = self.find(rows, seen.target)
        onward = self.distance[rows][
            np.arange(len(rows))[:, None], np.maximum(place, 0), self.find(rows, goal)[:, None]
        ]
        target = np.where(place >= 0, seen.target, seen.node[:, None])
        length = self.graphs.distance(seen.node[:, None], target) + onward
        return np.where(place >= 0, length, np.inf).argmin(axis=1)


class GraphRollout(NamedTuple):
    """What was recorded of B episodes."""

    imitation: Tensor  # () summed cross entropy of the fused scores, nats
    scales: Tensor  # () the same of both scales alone, summed
    words: Tensor  # () mean cross entropy of masked words; 0 without
    objects: Tensor  # () summed cross entropy of the object at the goal, nats; 0 without
    choices: int  # that were made by all agents
    named: list[str | None]  # the object that each agent names where it ends


class GraphAgent(Agent):
    """The network with its optimizer, how it learns and how it walks.

    Args:
        bert: the pre-trained encoder.
        environment: where it walks.
        features: what it sees; decides the device.
        num_panorama_layers: see `models.graph.GraphModel`.
        objects: what it sees of objects, one of which it names at its end; None: no object.
        optimizer: of the network.
        walk: limits of an episode.
        precision: of the forward passes.
    """

    def __init__(
        self,
        bert: PrevalentModel,
        environment: NavigationEnvironment,
        features: DeviceFeatures,
        *,
        num_panorama_layers: int = 2,
        objects: DeviceObjects | None = None,
        optimizer: OptimizerConfig | None = None,
        walk: GraphWalk | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.environment, self.features, self.walk = environment, features, walk or GraphWalk()
        self.objects = objects
        model = GraphModel(
            bert, num_panorama_layers=num_panorama_layers, sees_objects=objects is not None
        )
        super().__init__(
            {"model": model}, optimizer or OptimizerConfig(), ["model"], precision, features.device
        )

    @property
    def model(self) -> GraphModel:
        model = self.modules["model"]
        assert isinstance(model, GraphModel)
        return model

    def rollout(
        self, batch: Batch, feedback: Feedback, masked: Masked | None = None
    ) -> GraphRollout:
        """Walk ``batch``; the environment holds the walks afterwards.

        Args:
            batch: episodes and instructions.
            feedback: who chooses: the annotated path, a draw from the agent, or its best score. The
                expert that a drawn walk is compared with goes to the seen place from which the goal
                is nearest (the pseudo-interactive demonstrator of Sec. 3.4).
            masked: texts whose words are guessed at the end of the annotated path.
        """
        with self.updater.precision.autocast():
            return _Walk(self, batch, feedback, masked).run()

    def learn(
        self,
        batch: Batch,
        *,
        taught: float = 1.0,
        explored: float = 0.0,
        scales: float = 0.0,
        objects: float = 0.0,
        masked: Masked | None = None,
    ) -> dict[str, Tensor]:
        """Add the gradients of a batch.

        Args:
            batch: episodes and instructions.
            taught: weight of imitation along the annotated path.
            explored: weight of imitation of the expert along drawn walks.
            scales: weight of the same losses of each scale alone.
            objects: weight of naming the right object at the goal.
            masked: texts with words to guess, or None.

        Returns:
            Detached scalars: loss, imitation, expert, objects (nats an episode), words (nats).
        """
        losses: dict[str, Tensor] = {}
        for name, weight, feedback in (
            ("imitation", taught, "teacher"),
            ("expert", explored, "sample"),
        ):
            if not weight and not ((masked or objects) and feedback == "teacher"):
                continue
            walked = self.rollout(batch, feedback, masked if feedback == "teacher" else None)  # type: ignore[arg-type]
            count = len(batch.tasks)
            loss = weight * (walked.imitation + scales * walked.scales) / count + walked.words
            if objects:
                loss = loss + objects * walked.objects / count
                losses["objects"] = losses.get("objects", 0.0) + walked.objects.detach() / count
            self.updater.backward(loss)
            losses["loss"] = losses.get("loss", 0.0) + loss.detach()
            losses[name] = walked.imitation.detach() / count
            if masked and feedback == "teacher":
                losses["words"] = walked.words.detach()
        return losses

    @torch.inference_mode()
    def act(self, batches: Iterable[Batch]) -> list[dict[str, Any]]:
        """Walk ``batches`` in eval mode; one record for a result file for each item."""
        with self.in_eval_mode():
            results = []
            for batch in batches:
                named = self.rollout(batch, "argmax").named
                walks = self.environment.trajectories()
                for task, walk, name in zip(batch.tasks, walks, named, strict=True):
                    record = {"instr_id": task.id, "trajectory": walk}
                    results.append(record if name is None else {**record, "predObjId": name})
        return results


class _Walk:
    """One roll-out: maps and embeddings of the agents, read from top to bottom in `run`."""

    def __init__(
        self, agent: GraphAgent, batch: Batch, feedback: Feedback, masked: Masked | None
    ) -> None:
        self.agent, self.model, self.feedback = agent, agent.model, feedback
        self.environment, self.features = agent.environment, agent.features
        self.batch, self.device = batch, agent.features.device
        self.words = Words.of(batch.tokens, self.device)
        self.text = encode_words(self.model.bert, self.words)
        self.masked = masked
        self.masked_text: Tensor | None = None  # read once, when somebody has arrived
        zero = torch.zeros((), device=self.device)
        self.imitation, self.scales, self.guessed, self.grounding = zero, zero, zero, zero
        self.choices = 0

    def run(self) -> GraphRollout:
        seen = self.environment.reset(self.batch.tasks)
        agents, size = len(seen.node), self.text.shape[-1]
        self.map = TopologicalMap(self.environment.graphs, seen.node)
        self.start = seen.node
        self.seen_sum = self.text.new_zeros(agents, 1, size)  # (B, M, d) of glimpses from afar
        self.seen_count = self.text.new_zeros(agents, 1, 1)
        self.visual = self.text.new_zeros(agents, 1, size)  # (B, M, d) of visited places
        self.wish = np.full((agents, 1), -np.inf)  # (B, M) log-probability of stopping there
        self.best_object = np.full((agents, 1), -1)  # (B, M) place of the object chosen there
        ended = np.zeros(agents, dtype=bool)
        for step in range(self.agent.walk.max_actions):
            rows = np.flatnonzero(~ended)
            here = seen.pick(rows)
            scores = self._look(rows, here, step)
            label, onward = self._teach(rows, here, step)
            self._count(scores, label)
            self._ground(rows, here, scores, label)
            chosen = self._choose(scores, onward)
            self._remember_stop(rows, scores)
            goals = np.where(chosen > 0, self.map.node[rows, np.maximum(chosen - 1, 0)], -1)
            ended[rows] = goals < 0
            seen = self._go(rows, goals, seen)
            if ended.all():
                break
        if self.feedback == "argmax" and self.agent.walk.best_stop:
            seen = self._go_back(seen)
        return GraphRollout(
            self.imitation,
            self.scales,
            self.guessed,
            self.grounding,
            self.choices,
            self._named(seen.node),
        )

    def _look(self, rows: Integers, here: Observation, step: int) -> Scores:
        """Draw the map on and score its nodes."""
        self.own = self.map.visit(rows, here.node, here.target, step)
        self._grow()
        sight = see(self.features, here)
        candidates, views = here.target.shape[1], np.ones((len(rows), NUM_VIEWS), dtype=bool)
        i, j = np.nonzero(here.candidate_view >= 0)
        views[i, here.candidate_view[i, j]] = False
        places = self.map.places(rows, here.heading, self.own)
        begun = self.map.find(rows, self.start[rows])
        local = LocalView(
            sight.candidates,
            sight.panorama,
            self._tensor(here.count),
            sight.mask,
            self._tensor(views),
            self._tensor(places[np.arange(len(rows)), begun]),
            None
            if (objects := self.agent.objects) is None
            else objects.see(here.node, here.heading),
        )
        tokens, bias = self.model.look(local)
        slot = self.map.find(rows, here.target) + 1
        slot = np.where(np.arange(candidates) == here.count[:, None], 0, np.where(slot, slot, -1))
        self._embed(rows, slot, tokens, bias, candidates)
        self.rows, index = rows, self._tensor(rows)
        visited = self._tensor(self.map.visited[rows])
        glimpses = self.seen_sum.index_select(0, index)
        glimpses = glimpses / self.seen_count.index_select(0, index).clamp(min=1)
        visual = torch.where(
            (visited > 0).unsqueeze(-1), self.visual.index_select(0, index), glimpses
        )
        self.nodes = MapNodes(
            visual,
            self._tensor(places),
            visited,
            self._tensor(self.map.distance[rows].astype(np.float32)),
            self._tensor(self.map.node[rows] >= 0),
            self._tensor(slot),
        )
        self.tokens, self.bias, self.stop, self.index = tokens, bias, local.stop, index
        return self._score(self.text, np.arange(len(rows)))

    def _score(self, text: Tensor, part: Integers) -> Scores:
        """Scores of the present agents that ``part`` numbers; ``text`` (B, T, d) is everybody's."""
        picked = self._tensor(part)
        rows = self.index.index_select(0, picked)
        tokens, bias, stop = (
            one.index_select(0, picked) for one in (self.tokens, self.bias, self.stop)
        )
        nodes = MapNodes(*(one.index_select(0, picked) for one in self.nodes))
        padding = self.words.padding.index_select(0, rows)
        return self.model(text.index_select(0, rows), padding, tokens, bias, stop, nodes)

    def _embed(
        self,
        rows: Integers,
        slot: Integers,
        tokens: Tensor,
        bias: Tensor,
        candidates: int,
    ) -> None:
        """Keep what is seen: of this place the mean of all tokens, of others a glimpse each."""
        size = self.seen_sum.shape[1]
        used = (bias[:, 0, 0] == 0).unsqueeze(-1).to(tokens.dtype)
        own = (tokens * used).sum(dim=1) / used.sum(dim=1)
        place = self._tensor(rows * size + self.own)
        flat = self.visual.flatten(0, 1).index_copy(0, place, own.to(self.visual.dtype))
        self.visual = flat.unflatten(0, (-1, size))
        i, j = np.nonzero(slot > 0)
        place = self._tensor(rows[i] * size + slot[i, j] - 1)
        glimpses = (
            tokens[:, :candidates].flatten(0, 1).index_select(0, self._tensor(i * candidates + j))
        )
        flat = self.seen_sum.flatten(0, 1).index_add(0, place, glimpses.to(self.seen_sum.dtype))
        self.seen_sum = flat.unflatten(0, (-1, size))
        ones = self.seen_count.new_ones(len(i), 1)
        counts = self.seen_count.flatten(0, 1).index_add(0, place, ones)
        self.seen_count = counts.unflatten(0, (-1, size))

    def _grow(self) -> None:
        more = self.map.node.shape[1] - self.wish.shape[1]
        if more:
            wide = (0, 0, 0, more)
            self.seen_sum, self.seen_count, self.visual = (
                F.pad(one, wide) for one in (self.seen_sum, self.seen_count, self.visual)
            )
            self.wish = np.pad(self.wish, ((0, 0), (0, more)), constant_values=-np.inf)
            self.best_object = np.pad(self.best_object, ((0, 0), (0, more)), constant_values=-1)

    def _teach(self, rows: Integers, here: Observation, step: int) -> tuple[Integers, Integers]:
        """The right slots (b,), -1 where none is, and where a taught agent goes in any case."""
        goal = self.environment.goal[rows]
        if self.feedback == "teacher":
            paths = [self.batch.tasks[row].path for row in rows]
            following = np.array(
                [
                    self.map.graphs.node(self.batch.tasks[row].scan, path[step + 1])
                    if step + 1 < len(path)
                    else -1
                    for row, path in zip(rows, paths, strict=True)
                ],
                dtype=np.int64,
            )
            onward = np.where(following >= 0, self.map.find(rows, following) + 1, 0)
            possible = np.pad(self.map.frontier(rows), ((0, 0), (1, 0)), constant_values=True)
            right = possible[np.arange(len(rows)), onward] & ((following < 0) | (onward > 0))
            return np.where(right, onward, IGNORE), onward
        known = np.where(self.map.node[rows] >= 0, self.map.node[rows], here.node[:, None])
        total = self.map.distance[rows, self.own]
        total = total + self.map.graphs.distance(known, goal[:, None])
        total = np.where(self.map.frontier(rows), total, np.inf)
        best = np.where(np.isfinite(total.min(axis=1)), total.argmin(axis=1) + 1, IGNORE)
        return np.where(here.node == goal, 0, best), best

    def _count(self, scores: Scores, label: Integers) -> None:
        """Add the losses of the present agents."""
        self.choices += len(label)
        if self.feedback == "argmax":
            return
        wanted = self._tensor(label)
        own, coarse, fine = (
            F.cross_entropy(one, wanted, ignore_index=IGNORE, reduction="sum")
            for one in (scores.fused, scores.coarse, scores.fine)
        )
        self.imitation = self.imitation + own
        self.scales = self.scales + coarse + fine
        arrived = np.flatnonzero(label == 0)
        if self.masked is not None and self.feedback == "teacher" and len(arrived):
            self._guess_words(arrived)

    def _guess_words(self, part: Integers) -> None:
        """Add the loss of the masked words of those who stand at the end of their paths."""
        assert self.masked is not None
        if self.masked_text is None:
            # As long as without masks: a random word may be that of the padding.
            tokens = self._tensor(self.masked.tokens.numpy()[:, : self.words.ids.shape[1]])
            self.masked_text = encode_words(self.model.bert, self.words._replace(ids=tokens))
        states = self._score(self.masked_text, part).text
        labels = self.masked.labels.numpy()[self.rows[part], : states.shape[1]].ravel()
        places = np.flatnonzero(labels != NO_WORD)  # the host knows them: nobody waits
        picked = states.flatten(0, 1).index_select(0, self._tensor(places))
        logits = self.model.guess_words(picked)
        share = len(part) / len(self.batch.tasks)
        self.guessed = self.guessed + share * mean_cross_entropy(
            logits, self._tensor(labels[places])
        )

    def _ground(self, rows: Integers, here: Observation, scores: Scores, label: Integers) -> None:
        """Choose an object where one stands, or add the loss of those who stand at their goal."""
        if scores.objects is None:
            return
        store = self.agent.objects.store  # type: ignore[union-attr]
        if self.feedback == "argmax":
            chosen = scores.objects.argmax(dim=1).cpu().numpy()
            self.best_object[rows, self.own] = np.where(store.count[here.node] > 0, chosen, -1)
            return
        wanted = [self.batch.tasks[row].item.get("object") for row in rows]  # type: ignore[attr-defined]
        place = np.array([store.place(n, w) for n, w in zip(here.node, wanted, strict=True)])
        part = np.flatnonzero((label == 0) & (place >= 0))
        if len(part):
            picked = scores.objects.index_select(0, self._tensor(part))
            loss = F.cross_entropy(picked, self._tensor(place[part]), reduction="sum")
            self.grounding = self.grounding + loss

    def _named(self, ends: Integers) -> list[str | None]:
        """The ids of the objects that were chosen at the nodes ``ends`` (B,)."""
        if self.agent.objects is None or self.feedback != "argmax":
            return [None] * len(ends)
        ids, rows = self.agent.objects.store.ids, np.arange(len(ends))
        chosen = self.best_object[rows, self.map.find(rows, ends)]
        return [ids[n][o] if o >= 0 else None for n, o in zip(ends, chosen, strict=True)]

    def _choose(self, scores: Scores, onward: Integers) -> Integers:
        """Slots (b,): 0 stops."""
        if self.feedback == "teacher":
            return onward
        log_probs = scores.fused.detach().log_softmax(dim=1)
        drawn = log_probs.argmax(dim=1) if self.feedback == "argmax" else sample(log_probs)
        return drawn.cpu().numpy()

    def _remember_stop(self, rows: Integers, scores: Scores) -> None:
        if self.feedback == "argmax":
            stop = scores.fused.log_softmax(dim=1)[:, 0].cpu().numpy()
            self.wish[rows, self.own] = stop

    def _go(self, rows: Integers, goals: Integers, seen: Observation) -> Observation:
        """Walk the agents ``rows`` to ``goals`` (b,) along known edges, -1 = stay."""
        ahead = rows[goals >= 0]
        goals = goals[goals >= 0]
        while len(ahead):
            action = np.full(len(seen.node), -1)
            action[ahead] = self.map.way(ahead, seen.pick(ahead), goals)
            seen = self.environment.step(action)
            still = seen.node[ahead] != goals
            ahead, goals = ahead[still], goals[still]
        return seen

    def _go_back(self, seen: Observation) -> Observation:
        """To the visited place of every agent where it wanted most to stop."""
        rows = np.arange(len(seen.node))
        best = self.map.node[rows, self.wish.argmax(axis=1)]
        return self._go(rows, np.where(best == seen.node, -1, best), seen)

    def _tensor(self, values: NDArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)
