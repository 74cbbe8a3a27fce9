import gzip
import json

import numpy as np
import pytest

from prevalent.data.instructions import Instruction, read_instructions
from prevalent.data.tokenizers import WordPieceTokenizer
from prevalent.data.triplets import (
    collect_triplets,
    read_triplets,
    relative_views,
    to_table,
    write_triplets,
)
from prevalent.simulator.graph import SimulatorError
from tests.factories import make_graphs

ANGLE = 1e-6  # radians


def walk(path="abc", heading=0.0, number=0):
    return Instruction(f"{number}_0", number, "house", tuple(path), heading, "go")


@pytest.fixture
def recorded(golden):
    path = golden / "pretrain_data/pretrain_data.json.gz"
    if not path.exists():
        pytest.skip("no pretrain_data case")
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.mark.golden
def test_the_recorded_collection_is_reproduced(recorded, data_dir, real_graphs, tmp_path):
    (tmp_path / "items.json").write_text(json.dumps(recorded["items"]))
    instructions = read_instructions(tmp_path, [f"{tmp_path}/items.json"])
    tokenizer = WordPieceTokenizer(data_dir / "vocab/bert/bert-base-uncased-vocab.txt")
    tokens = tokenizer.encode_sentences([one.text for one in instructions])
    table = collect_triplets(real_graphs, instructions, tokens)
    assert len(table) == recorded["navdataset_len"]
    for ours, theirs in zip(table.records(), recorded["collected_bs1"], strict=True):
        for key in ("instr_id", "teacher_actions", "instr_encoding"):
            assert ours[key] == theirs[key]
        for a, b in zip(ours["path"], theirs["path"], strict=True):
            assert a[:3] == b[:3]
            assert a[3:] == pytest.approx(b[3:], abs=ANGLE)
        for a, b in zip(ours["teacher_action_emd"], theirs["teacher_action_emd"], strict=True):
            assert a[0] == b[0]
            assert a[1:] == pytest.approx(b[1:], abs=ANGLE)


def test_a_walk_around_the_square_turns_towards_each_corner():
    table = collect_triplets(make_graphs(), [walk()], np.array([[5, 6, 0]]))
    assert (table.action > 0).tolist() == [True, True, False]
    viewpoints = [table.places[i][1] for i in table.place]
    assert viewpoints[0] == "a"
    assert viewpoints[-1] == "c"
    assert table.target_view[-1] == -1
    assert table.first.tolist() == [0, 3]


def test_the_next_view_is_counted_from_the_present_one():
    # Present views 13, 23 and 0; the next viewpoint stands in views 26 (one heading further, one
    # level up), 12 (one further, over the end of the circle), and the last step is a stop.
    steps = [
        ("house", "a", 13, 0.0, 0.0),
        ("house", "b", 23, 0.0, 0.0),
        ("house", "c", 0, 0.0, 0.0),
    ]
    record = {
        "instr_id": "1_0",
        "path": [list(step) for step in steps],
        "teacher_actions": [2, 1, 0],
        "teacher_action_emd": [[26, 0.5, 0.5], [12, 0.5, 0.0], [-1, 90, 90]],
        "instr_encoding": [5, 6],
    }
    table = to_table([record])
    assert relative_views(table).tolist() == [1 + 24 + 1, 1 + 12 + 1, 0]
    assert table.action.tolist() == [2, 1, 0]


def test_the_next_view_does_not_depend_on_where_north_is():
    actions = []
    for heading in (0.0, np.pi / 2):
        tasks = [walk(heading=heading)]
        table = collect_triplets(make_graphs(), tasks, np.array([[5, 6, 0]]))
        actions.append(relative_views(table))
    first = actions[0][0] - 1, actions[1][0] - 1  # the walker starts turned by three views
    assert (first[0] - first[1]) % 12 == 3
    assert first[0] // 12 == first[1] // 12
    assert actions[0][1:].tolist() == actions[1][1:].tolist()  # then both have gone the same way


def test_instructions_of_one_path_share_a_walk_and_keep_their_words():
    tokens = np.arange(6).reshape(3, 2)
    table = collect_triplets(make_graphs(), [walk(number=i) for i in range(3)], tokens)
    records = list(table.records())
    assert records[0]["path"] == records[2]["path"]
    assert [record["instr_encoding"] for record in records] == tokens.tolist()
    assert table.owner.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_long_walk_is_cut_without_a_stop():
    table = collect_triplets(make_graphs(), [walk()], np.array([[1]]), max_steps=2)
    assert len(table) == 2
    assert 0 not in table.action


def test_written_triplets_read_back(tmp_path):
    table = collect_triplets(
        make_graphs(), [walk(), walk("da", 1.0, 1)], np.array([[1, 2], [3, 0]])
    )
    write_triplets(tmp_path / "shortest_a.json", table)
    again = read_triplets([tmp_path])
    assert list(again.records()) == list(table.records())
    assert len(read_triplets([tmp_path / "shortest_a.json", tmp_path])) == 2 * len(table)


def test_an_unreachable_goal_is_named():
    from tests.factories import make_scan

    graphs = make_graphs(
        house=make_scan(
            {"a": (0, 0, 0), "b": (0, 2, 0), "c": (9, 9, 0), "d": (9, 7, 0)},
            [("a", "b"), ("c", "d")],
        )
    )
    with pytest.raises(SimulatorError, match="instruction 0_0: scan house has no way from a to c"):
        collect_triplets(graphs, [walk()], np.array([[1]]))


def test_missing_or_cut_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="prepare triplets"):
        read_triplets([tmp_path / "none.json"])
    with pytest.raises(FileNotFoundError, match=r"no \.json file"):
        read_triplets([tmp_path])
    (tmp_path / "cut.json").write_text('[{"instr_id"')
    with pytest.raises(ValueError, match="not valid JSON"):
        read_triplets([tmp_path])
