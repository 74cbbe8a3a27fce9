import itertools

import numpy as np
import pytest

from prevalent.data.features import FeatureStore
from prevalent.data.instructions import read_instructions
from prevalent.data.tokenizers import split_words
from prevalent.data.toy import ToyConfig, write_toy
from prevalent.data.toy_reader import Clause, Thing, ToyReader, agree, read_clauses
from prevalent.data.toy_texts import FORMS, LANDMARKS, SYNONYMS
from prevalent.data.triplets import STOP, teacher
from prevalent.simulator.geometry import nearest_view
from prevalent.simulator.graph import Graphs, candidates_of

SIZE = ToyConfig(train_houses=2, unseen_houses=1, train_paths=20, held_out_paths=8, dialogs=1)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy(folder, SIZE)
    tasks = read_instructions(folder, ["train"])
    graphs = Graphs.load(folder / "connectivity", sorted({one.scan for one in tasks}))
    return ToyReader(graphs, FeatureStore.open(folder / "features.npy")), tasks


def words_of(text: str) -> list[str]:
    return ["[CLS]", *text.lower().replace(".", " .").replace(",", " ,").split(), "[SEP]"]


def test_an_instruction_falls_into_clauses():
    text = "Turn left and walk to the sofa. Go past the lamp, then turn around. Stop at the desk."
    sofa, lamp, desk = (LANDMARKS.index(name) for name in ("sofa", "lamp", "desk"))
    assert read_clauses(words_of(text)) == [
        Clause(Thing(sofa), "left"),
        Clause(Thing(lamp)),
        Clause(turn="around"),
        Clause(Thing(desk), ends=True),
    ]


def test_what_is_masked_is_not_said():
    clauses = read_clauses(words_of("Turn [MASK] towards the [MASK]. [MASK] at the desk."))
    assert clauses == [Clause(), Clause(Thing(LANDMARKS.index("desk")), ends=True)]
    assert [agree(None, 3), agree(3, 3), agree(4, 3)] == [0.0, 1.0, -1.0]


def test_rooms_ranks_colors_synonyms_and_what_is_ruled_out_are_read():
    text = (
        "You can see the bed. Go not to the red couch but to the lantern. Do not turn left, then "
        "take the second way on the right. Enter the study, then stop at the green hearth."
    )
    sofa, lamp, fireplace = (LANDMARKS.index(name) for name in ("sofa", "lamp", "fireplace"))
    assert read_clauses(words_of(text)) == [
        Clause(Thing(lamp), not_goal=Thing(sofa, 0)),
        Clause(not_turn="left"),
        Clause(turn="right", rank=1),
        Clause(Thing(room="study")),
        Clause(Thing(fireplace, 1), ends=True),
    ]


def test_the_features_show_the_landmark_that_an_instruction_ends_at(toy):
    reader, tasks = toy
    for task in tasks:
        goal = reader.graphs.nodes([task.scan], [task.path[-1]])[0]
        assert task.text.rstrip(".").endswith(LANDMARKS[reader.landmarks[goal]])


def test_reading_by_rule_leads_along_nearly_every_path(toy):
    reader, tasks = toy
    chances = []
    for task in tasks:
        walk = reader.graphs.nodes([task.scan] * len(task.path), list(task.path))
        view = nearest_view([task.heading], 0.0)
        for place, node in enumerate(walk):
            following = walk[min(place + 1, len(walk) - 1)]
            found = reader.next_nodes(words_of(task.text), int(node), int(view[0]))
            chances.append((following in found) / len(found))
            action, slot, _ = teacher(reader.graphs, np.array([node]), view, walk[-1:])
            if action[0] != STOP:
                view = candidates_of(reader.graphs).view[[node], slot].astype(np.int64)
    assert np.mean(chances) > 0.93


def test_another_instruction_leads_elsewhere(toy):
    reader, tasks = toy
    chances = {"own": [], "another": []}
    for task, other in zip(tasks, [*tasks[4:], *tasks[:4]], strict=True):
        first, second = reader.graphs.nodes([task.scan] * 2, list(task.path[:2]))
        view = int(nearest_view([task.heading], 0.0)[0])
        for name, text in (("own", task.text), ("another", other.text)):
            found = reader.next_nodes(words_of(text), int(first), view)
            chances[name].append((second in found) / len(found))
    assert np.mean(chances["own"]) > 0.9
    assert np.mean(chances["another"]) < 0.65  # a viewpoint has two or three neighbors


HARD = ToyConfig(
    train_houses=3,
    unseen_houses=2,
    train_paths=12,
    held_out_paths=12,
    dialogs=1,
    min_steps=3,
    max_steps=4,
    num_landmarks=8,
    num_colors=3,
    forms=FORMS,
    told_paths=6,
)


def test_hard_instructions_are_understood_by_rule_and_not_by_what_they_mention(tmp_path):
    write_toy(tmp_path, HARD)
    tasks = read_instructions(tmp_path, ["val_unseen"])
    graphs = Graphs.load(tmp_path / "connectivity", sorted({one.scan for one in tasks}))
    reader = ToyReader(graphs, FeatureStore.open(tmp_path / "features.npy"))
    read, mentioned, arrived = [], [], []
    rng = np.random.default_rng(0)
    for task in tasks:
        words = split_words(task.text)
        marks = {(LANDMARKS + SYNONYMS).index(one) for one in words if one in LANDMARKS + SYNONYMS}
        walk = graphs.nodes([task.scan] * len(task.path), list(task.path)).tolist()
        view = nearest_view([task.heading], 0.0)
        arrived.append(reader.walk(words, walk[0], task.heading, rng) == walk[-1])
        for done, (node, following) in enumerate(itertools.pairwise(walk)):
            found = reader.next_nodes(words, node, int(view[0]), done)
            read.append((following in found) / len(found))
            near = [one for one in graphs.neighbors[node].tolist() if one >= 0]
            named = [one for one in near if reader.landmarks[one] in {m % 32 for m in marks}]
            mentioned.append((following in named) / len(named) if named else 1 / len(near))
            _, slot, _ = teacher(graphs, np.array([node]), view, np.array(walk[-1:]))
            view = candidates_of(graphs).view[[node], slot].astype(np.int64)
    assert np.mean(read) > 0.93
    assert np.mean(mentioned) < 0.65
    assert np.mean(arrived) > 0.8
