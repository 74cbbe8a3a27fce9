import gzip
import json

import pytest

from prevalent.data.instructions import BatchOrder, expand, read_instructions, read_paths


def write_split(folder, name="train", count=8):
    items = [
        {
            "path_id": i,
            "scan": f"scan{i % 2}",
            "path": ["a", "b"],
            "heading": 0.5,
            "distance": 3.5,
            "instructions": [f"go {i}", "stop"],
        }
        for i in range(count)
    ]
    folder.mkdir(exist_ok=True)
    (folder / f"R2R_{name}.json").write_text(json.dumps(items))
    return items


@pytest.mark.golden
def test_the_recorded_order_of_pretraining_is_reproduced(golden, tmp_path):
    path = golden / "pretrain_data/pretrain_data.json.gz"
    if not path.exists():
        pytest.skip("no pretrain_data case")
    case = json.loads(gzip.decompress(path.read_bytes()))
    (tmp_path / "items.json").write_text(json.dumps(case["items"]))
    ours = read_instructions(tmp_path, [f"{tmp_path}/items.json"])
    assert [one.id for one in ours] == case["data_order_seed10"]


@pytest.mark.golden
def test_the_recorded_order_of_fine_tuning_is_reproduced(golden, data_dir):
    cases = sorted(golden.glob("env/env_r2r_*.json.gz"))
    if not cases:
        pytest.skip("no env_r2r case")
    for path in cases:
        case = json.loads(gzip.decompress(path.read_bytes()))
        ours = read_instructions(data_dir, [case["split"]], scans=case["scans"])
        order = case["order_first_60_after_seed10_shuffle"]
        assert len(ours) == case["n_items"]
        assert [one.id for one in ours[: len(order)]] == order
        batches = BatchOrder(len(ours), case["batch_size"])
        for batch in case["batches"]:
            assert [ours[i].id for i in next(batches)] == [i["instr_id"] for i in batch["items"]]


def test_real_splits_have_the_official_sizes(data_dir):
    counts = {"val_seen": (340, 1021), "val_unseen": (783, 2349), "test": (1391, 4173)}
    for split, (paths, instructions) in counts.items():
        items = read_paths(data_dir, split)
        assert (len(items), len(expand(items))) == (paths, instructions)


def test_a_smaller_sample_is_part_of_a_larger_one(tmp_path):
    write_split(tmp_path)
    few = [item["path_id"] for item in read_paths(tmp_path, "train@3")]
    more = [item["path_id"] for item in read_paths(tmp_path, "train@5")]
    assert few == more[:3]
    assert len(set(more)) == 5


def test_instructions_are_expanded_and_filtered_by_scan(tmp_path):
    write_split(tmp_path)
    ours = read_instructions(tmp_path, ["train"], scans={"scan1"}, shuffle_seed=None)
    assert [one.id for one in ours[:3]] == ["1_0", "1_1", "3_0"]
    assert ours[0].path == ("a", "b")
    assert ours[0].text == "go 1"


def test_a_missing_split_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"R2R_train\.json.*prepare r2r"):
        read_paths(tmp_path, "train")


def test_the_last_batch_is_completed_after_a_shuffle():
    batches = BatchOrder(5, 3)
    assert next(batches) == [0, 1, 2]
    second = next(batches)
    assert second[:2] == [3, 4]
    assert set(second) <= set(range(5))


def test_batches_larger_than_the_data_are_filled():
    assert len(next(BatchOrder(2, 5))) == 5


def test_a_restored_order_continues_exactly():
    whole, first, second = BatchOrder(7, 3), BatchOrder(7, 3), BatchOrder(7, 3)
    expected = [next(whole) for _ in range(9)]
    begun = [next(first) for _ in range(4)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + [next(second) for _ in range(5)] == expected
