""""""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch

from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.instructions import Instruction, read_instructions
from prevalent.data.tokenizers import WordCodes, WordPieceTokenizer
from prevalent.data.triplets import (
    TripletBatches,
    collect_triplets,
    make_sample,
    mask_words,
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


FRACTION = 0.01  # of 4,000 draws of a sentence


@pytest.mark.golden
def test_recorded_masks_are_reproduced(recorded):
    encodings = {one["instr_id"]: one["instr_encoding"] for one in recorded["collected_bs1"]}
    for sample in recorded["navdataset_samples"]:
        torch.manual_seed(100 + sample["index"])
        ours = mask_words(torch.tensor(encodings[sample["instr_id"]]))
        assert ours.tokens.tolist() == sample["masked_text_seq"]
        assert ours.labels.tolist() == sample["masked_text_label"]


@pytest.mark.golden
def test_fractions_agree_with_the_recorded_statistics(recorded):
    case = recorded["mask_statistics"]
    ids = torch.randint(1000, 30000, (case["n_tokens"],))
    ids[: case["n_special"]] = 0
    ours = mask_words(ids.expand(case["draws"], -1), generator=torch.Generator().manual_seed(0))
    selected = ours.labels != -1
    count = selected.sum().item()
    assert count / case["draws"] == pytest.approx(case["mean_selected_per_draw"], rel=0.03)
    hidden = (ours.tokens == 103)[selected].float().mean().item()
    same = (ours.tokens == ours.labels)[selected].float().mean().item()
    assert hidden == pytest.approx(case["frac_MASK"], abs=FRACTION)
    assert same == pytest.approx(case["frac_unchanged(incl. random hit)"], abs=FRACTION)


def test_special_words_are_never_selected_and_others_keep_their_place():
    codes = WordCodes(20, 4, (0, 1, 2, 3, 4))
    ids = torch.randint(20, (500, 8), generator=torch.Generator().manual_seed(1))
    ours = mask_words(ids, codes, 0.5, torch.Generator().manual_seed(2))
    selected = ours.labels != -1
    assert not selected[ids < 5].any()
    torch.testing.assert_close(ours.tokens[~selected], ids[~selected])
    torch.testing.assert_close(ours.labels[selected], ids[selected])
    assert selected[ids >= 5].float().mean().item() == pytest.approx(0.5, abs=0.03)


CODES = WordCodes(30, 4, (0, 1, 2, 3, 4))
FEATURE = 1e-6


def small_table(count=7, length=12):
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 30, (count, length)) * (np.arange(length) < 9)
    instructions = [
        Instruction(f"{i}_0", i, "house", ("a", "bcd"[i % 3]), float(i), "go") for i in range(count)
    ]
    return collect_triplets(make_graphs(), instructions, tokens)


def small_features():
    store = synthetic_features([f"house_{name}" for name in "abcd"], 6)
    return {
        "features": DeviceFeatures(store, angle_size=8, layout="block"),
        "feature_rows": store.rows,
    }


def flat(batches):
    return [torch.cat([batch.tokens.flatten(), batch.actions]) for batch in batches]


@pytest.mark.golden
def test_recorded_samples_are_reproduced(golden):
    path = golden / "pretrain_data/pretrain_data.json.gz"
    if not path.exists():
        pytest.skip("no pretrain_data case")
    case = json.loads(gzip.decompress(path.read_bytes()))
    arrays = np.load(path.with_name("pretrain_data.npz"))
    table = to_table(case["collected_bs1"])
    assert len(table) == case["navdataset_len"]
    store = synthetic_features([f"{a}_{b}" for a, b in table.places], case["feature_dim"])
    for recorded in case["navdataset_samples"]:
        index = recorded["index"]
        width = arrays[f"s{index}_feature_all"].shape[-1] - case["feature_dim"]
        features = DeviceFeatures(store, angle_size=width, layout="block")
        torch.manual_seed(100 + index)
        sample = make_sample(
            table, index, features, store.rows, WordCodes(), generator=torch.default_generator
        )
        owner = table.ids[table.owner[index]]
        assert (owner, int(table.view[index])) == (recorded["instr_id"], recorded["viewIndex"])
        for key in ("masked_text_seq", "masked_text_label", "lang_attention_mask", "teacher"):
            assert sample[key].tolist() == recorded[key]
        for key, dtype in recorded["dtypes"].items():
            assert str(sample[key].dtype) == f"torch.{dtype}"
            assert list(sample[key].shape) == recorded["shapes"][key]
        for key in ("feature_all", "teacher_embedding", "next_teacher_embedding"):
            expected = torch.as_tensor(arrays[f"s{index}_{key}"])
            torch.testing.assert_close(sample[key], expected, rtol=0, atol=FEATURE)
        if sample["isnext"]:
            assert torch.equal(sample["next_img"], sample["next_feature_all"])


def test_an_epoch_shows_every_time_step_once():
    table = small_table()
    batches = TripletBatches(table, CODES, 4)
    seen = np.concatenate([batches._take(start, 4) for start in range(0, len(table), 4)])
    assert sorted(seen[: len(table)]) == list(range(len(table)))
    assert batches.batches_per_epoch == len(table) / 4


def test_a_restored_stream_continues_exactly_in_the_middle_of_an_epoch():
    table, features = small_table(), small_features()
    whole = TripletBatches(table, CODES, 4, seed=3, **features)
    expected = [next(whole) for _ in range(9)]
    begun, resumed = (TripletBatches(table, CODES, 4, seed=3, **features) for _ in range(2))
    for _ in range(4):
        next(begun)
    resumed.load_state_dict(begun.state_dict())
    for batch in expected[4:]:
        again = next(resumed)
        assert again.word_count == batch.word_count
        for ours, theirs in zip(again[:5], batch[:5], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        torch.testing.assert_close(again.images, batch.images, rtol=0, atol=0)


def test_two_processes_share_the_batch_of_one():
    table = small_table()
    one = next(TripletBatches(table, CODES, 6, seed=1))
    two = [next(TripletBatches(table, CODES, 3, seed=1, rank=r, world_size=2)) for r in (0, 1)]
    torch.testing.assert_close(torch.cat([batch.actions for batch in two]), one.actions)
    for i, batch in enumerate(two):
        length = batch.tokens.shape[1]
        assert batch.word_count == one.word_count / 2
        expected = one.tokens[3 * i : 3 * i + 3, :length]
        torch.testing.assert_close(batch.tokens, expected)


def test_seeds_differ_and_repeat():
    table = small_table()
    first = flat([next(TripletBatches(table, CODES, 4, seed=s)) for s in (1, 1, 2)])
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_a_batch_holds_the_panorama_the_words_and_the_action_of_its_time_steps():
    table, features = small_table(), small_features()
    batches = TripletBatches(table, CODES, 5, seed=2, **features)
    batch, index = next(batches), batches._take(0, 5)
    assert batch.tokens.shape == (5, 12)  # nine words, cut to a multiple of eight at most to L
    assert batch.mask.sum(dim=1).tolist() == [9] * 5
    assert batch.actions.tolist() == table.action[index].tolist()
    restored = torch.where(batch.labels >= 0, batch.labels, batch.tokens)
    assert restored.tolist() == table.tokens[table.owner[index]].tolist()
    assert batch.labels.flatten()[batch.positions].min() >= 5
    assert batch.word_positions.tolist() == batch.mask.flatten().nonzero().squeeze(1).tolist()
    assert len(batch.positions) == (batch.labels >= 0).sum() == batch.word_count
    row = features["feature_rows"]["house_" + table.places[table.place[index[0]]][1]]
    expected = features["features"].panorama(np.array([row]), table.view[index[:1]].astype(int))
    torch.testing.assert_close(batch.images[:1], expected)


def test_short_texts_are_cut_to_a_multiple_of_eight():
    table = small_table(length=20)
    assert next(TripletBatches(table, CODES, 2)).tokens.shape == (2, 16)


def test_triplets_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="made with another vocabulary"):
        TripletBatches(small_table(), WordCodes(10, 4, (0, 1, 2, 3, 4)), 2)
