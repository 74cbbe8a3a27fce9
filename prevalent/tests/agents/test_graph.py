"""The agent that draws a map: what it knows, where it may go, what it learns from."""

import itertools
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import torch

from prevalent.agents.graph import GraphAgent, GraphWalk, TopologicalMap
from prevalent.agents.rollout import Batch
from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.triplets import Masked
from prevalent.environments.navigation import Episode, NavigationEnvironment
from prevalent.models.graph import MapNodes, spread_local
from prevalent.optimizer import OptimizerConfig
from tests.factories import make_graphs, make_scan, random_scan
from tests.small_agents import TEXTS, TOKENIZER, make_batch, make_bert, make_world

LINE = {"a": (0, 0, 0), "b": (0, 2, 0), "c": (0, 4, 0), "x": (2, 0, 0)}  # x - a - b - c
EDGES = [("a", "b"), ("b", "c"), ("a", "x")]


def make_agent(environment=None, features=None, seed=0, lr=1e-2, **walk):
    torch.manual_seed(seed)
    if environment is None:
        environment, features = make_world()
    bert = make_bert(dropout=0.0, attention_dropout=0.0, initializer_range=0.2)
    optimizer = OptimizerConfig("adam", lr=lr)
    options = GraphWalk(**{"max_actions": 8, **walk})
    return GraphAgent(
        bert, environment, features, num_panorama_layers=1, optimizer=optimizer, walk=options
    ).train()


def line_world():
    graphs = make_graphs(house=make_scan(LINE, EDGES))
    names = [graphs.long_id(node) for node in range(len(graphs.viewpoints))]
    store = synthetic_features(names, 6)
    return NavigationEnvironment(graphs, store.rows), DeviceFeatures(store, angle_size=4)


def in_line(*paths):
    tasks = [Episode("house", tuple(path), id=f"{i}_0") for i, path in enumerate(paths)]
    return Batch(tasks, np.stack([TOKENIZER.encode(TEXTS[i % 3]) for i in range(len(paths))]))


def places(environment):
    return [[pose[0] for pose in walk] for walk in environment.trajectories()]


def test_the_map_holds_the_shortest_ways_along_the_edges_that_were_seen():
    """Against networkx, on random walks through random houses."""
    graphs = make_graphs(one=random_scan(1, 14), two=random_scan(2, 14))
    environment = NavigationEnvironment(graphs)
    rng = np.random.default_rng(0)
    starts = [
        Episode(scan, (graphs.viewpoints[graphs.nodes_of(scan)[0]],)) for scan in graphs.scans
    ]
    seen = environment.reset(starts)
    rows = np.arange(len(starts))
    drawn, known = TopologicalMap(graphs, seen.node), [nx.Graph() for _ in starts]
    for step in range(9):
        drawn.visit(rows, seen.node, seen.target, step)
        for row in rows:
            here = seen.node[row]
            for other in seen.target[row][seen.target[row] >= 0]:
                known[row].add_edge(here, other, weight=float(graphs.distance(here, other)))
            nodes = drawn.node[row][: drawn.count[row]].tolist()
            assert set(nodes) == set(known[row].nodes)
            lengths = dict(nx.all_pairs_dijkstra_path_length(known[row]))
            expected = [[lengths[a][b] for b in nodes] for a in nodes]
            found = drawn.distance[row, : len(nodes), : len(nodes)]
            np.testing.assert_allclose(found, expected, atol=1e-9)
        seen = environment.step(rng.integers(0, seen.count))


def test_a_taught_agent_follows_the_annotated_path_and_stops():
    environment, features = line_world()
    agent = make_agent(environment, features)
    recorded = agent.rollout(in_line("xabc", "ab", "c"), "teacher")
    assert [list(dict.fromkeys(walk)) for walk in places(environment)] == [
        ["x", "a", "b", "c"],
        ["a", "b"],
        ["c"],
    ]
    assert recorded.choices == 4 + 2 + 1
    assert recorded.imitation.item() > 0


def test_an_annotated_path_that_comes_back_asks_for_no_visited_place():
    environment, features = line_world()
    recorded = make_agent(environment, features).rollout(in_line("abax"), "teacher")
    assert list(dict.fromkeys(places(environment)[0])) == ["a", "b", "x"]
    assert torch.isfinite(recorded.imitation)


def test_an_agent_goes_back_along_known_edges(monkeypatch):
    """From c, a dead end, the only place left is x: over b and a."""
    environment, features = line_world()
    agent = make_agent(environment, features, best_stop=False)

    def choose(walk, scores, onward):
        """The place that was seen last; STOP where there is none."""
        open_slots = torch.isfinite(scores.fused) & (torch.arange(scores.fused.shape[1]) > 0)
        last = open_slots.float() * torch.arange(scores.fused.shape[1])
        return last.argmax(dim=1).numpy()

    monkeypatch.setattr("prevalent.agents.graph._Walk._choose", choose)
    agent.act([in_line("abc")])
    walk = places(environment)[0]
    moves = [place for i, place in enumerate(walk) if i == 0 or place != walk[i - 1]]
    assert sorted(set(moves)) == ["a", "b", "c", "x"]
    for one, other in itertools.pairwise(moves):
        assert (one, other) in EDGES or (other, one) in EDGES


def test_the_expert_goes_where_the_goal_is_nearest_and_stops_there(monkeypatch):
    environment, features = line_world()
    agent, labels = make_agent(environment, features), []
    plain = agent.rollout.__globals__["_Walk"]._teach

    def note(walk, rows, here, step):
        label, onward = plain(walk, rows, here, step)
        slots = ["STOP", *(environment.graphs.viewpoints[n] for n in walk.map.node[rows[0]])]
        labels.append((environment.graphs.viewpoints[here.node[0]], slots[label[0]]))
        return label, onward

    def wander(walk, scores, onward):
        allowed = torch.isfinite(scores.fused).float()
        return torch.multinomial(allowed, 1)[:, 0].numpy()

    monkeypatch.setattr("prevalent.agents.graph._Walk._teach", note)
    monkeypatch.setattr("prevalent.agents.graph._Walk._choose", wander)
    torch.manual_seed(3)
    for _ in range(20):
        agent.rollout(in_line("xabc"), "sample")
    best = {"x": "a", "a": "b", "b": "c", "c": "STOP"}
    assert {place for place, _ in labels} == set(best)  # the walks came everywhere
    assert all(wanted == best[place] for place, wanted in labels)


def test_an_agent_ends_where_it_wanted_most_to_stop(monkeypatch):
    environment, features = line_world()
    agent = make_agent(environment, features)

    def remember(walk, rows, scores):
        walk.wish[rows, walk.own] = -walk.map.node[rows, walk.own]

    monkeypatch.setattr("prevalent.agents.graph._Walk._remember_stop", remember)
    agent.act([in_line("xabc")])  # node 0 is a: the place of the greatest wish, if it was visited
    walk = places(environment)[0]
    assert walk[-1] == min(set(walk), key="abcx".index)


def test_no_walk_depends_on_the_batch():
    environment, features = make_world()
    agent = make_agent(environment, features)
    batch = make_batch(environment, 7)
    together = agent.act([batch])
    alone = [
        record
        for i in range(7)
        for record in agent.act([Batch([batch.tasks[i]], batch.tokens[i : i + 1])])
    ]
    assert together == alone


def test_candidates_that_are_no_goal_send_back():
    """Two candidates, the first visited; nodes: here (visited), first (visited), second, far."""
    nodes = MapNodes(
        visual=torch.zeros(1, 4, 2),
        place=torch.zeros(1, 4, 6),
        visited=torch.tensor([[2, 1, 0, 0]]),
        distance=torch.zeros(1, 4, 4),
        mask=torch.ones(1, 4, dtype=torch.bool),
        slot=torch.tensor([[2, 3, 0, -1]]),  # first, second, STOP, padding
    )
    local = torch.tensor([[0.5, 2.0, -1.0, 9.0]])
    spread = spread_local(local, nodes)[0]
    assert spread[0] == -1.0  # STOP
    assert spread[3] == 2.0  # the second, which is at hand
    assert spread[4] == 0.5  # far: back over the first


def test_gradients_reach_every_part_and_an_update_changes_it():
    environment, features = make_world()
    agent = make_agent(environment, features)
    batch = make_batch(environment, 6)
    labels = np.where(batch.tokens > 0, batch.tokens, -1)
    masked = Masked(*map(torch.from_numpy, (np.where(batch.tokens > 0, 1, 0), labels)))
    losses = agent.learn(batch, taught=1.0, explored=1.0, scales=0.5, masked=masked)
    assert set(losses) == {"loss", "imitation", "expert", "words"}
    assert float(losses["words"]) > 0
    lacking = {
        name
        for name, value in agent.model.named_parameters()
        if value.grad is None or not value.grad.abs().any()
    }
    # Biases of keys shift all scores of a softmax alike; type 1 and unused steps are not looked up.
    assert not {name for name in lacking if ".key.bias" not in name}
    before = {name: one.clone() for name, one in agent.model.state_dict().items()}
    agent.update()
    same = {n for n, one in agent.model.state_dict().items() if torch.equal(before[n], one)}
    assert same <= lacking


def test_a_masked_text_is_as_long_as_the_text():
    """A random word may be that of the padding, at which a text would end."""
    environment, features = make_world()
    agent = make_agent(environment, features)
    batch = make_batch(environment, 3)
    tokens = batch.tokens.copy()
    tokens[:, 1] = 0
    labels = np.where(np.arange(tokens.shape[1]) == 1, batch.tokens, -1)
    masked = Masked(*map(torch.from_numpy, (tokens, labels)))
    words = agent.learn(batch, masked=masked)["words"]
    assert words.isfinite()
    assert words > 0


def test_a_few_walks_are_learned():
    environment, features = make_world()
    agent = make_agent(environment, features, lr=1e-2)
    tasks = make_batch(environment, 5).tasks
    tokens = np.zeros((5, 4), dtype=np.int64)
    tokens[:] = 5 + np.arange(5)[:, None]  # texts of one word, told apart
    batch = Batch(tasks, tokens)
    for _ in range(25):
        agent.learn(batch)
        agent.update()
    agent.act([batch])
    ends = [walk[-1] for walk in places(environment)]
    assert sum(end == task.path[-1] for end, task in zip(ends, batch.tasks, strict=True)) >= 4


@pytest.mark.parametrize("changes", [{"max_actions": 0}])
def test_limits_are_checked(changes):
    with pytest.raises(ValueError, match=r"--rollout\.max-actions must be at least 1"):
        replace(GraphWalk(), **changes)
