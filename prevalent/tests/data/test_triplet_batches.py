import gzip
import json

import numpy as np
import pytest
import torch

from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.instructions import Instruction
from prevalent.data.tokenizers import WordCodes
from prevalent.data.triplets import TripletBatches, collect_triplets, make_sample, to_table
from tests.factories import make_graphs

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
