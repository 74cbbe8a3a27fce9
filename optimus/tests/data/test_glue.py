import os
from pathlib import Path

import numpy as np
import pytest

from optimus.data.glue import (
    TASKS,
    ExampleBatches,
    collate,
    encode_pairs,
    find_file,
    find_task,
    load_task,
    read_task,
    sample_examples,
)
from optimus.data.tokenizers import train_tokenizers

LINES = ["a good film .", "a bad film .", "the dog runs in the park .", "no dog is here ."]


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(LINES * 4, 80, 290)


@pytest.fixture
def folder(tmp_path):
    for name, lines in {
        "SST-2": ["sentence\tlabel", "a good film .\t1", "a bad film .\t0", "good dog\t1"],
        "CoLA": ["x\t1\t\ta good film .", "x\t0\t*\tfilm a good"],
        "RTE": ["index\tsentence1\tsentence2\tlabel", "0\ta dog\tno dog\tnot_entailment"],
        "STS-B": ["index\tsentence1\tsentence2\tscore", "0\ta dog\tno dog\t2.5"],
        "YELP": ["label\ttext", *(f"{i % 2}\tgood {i}" for i in range(9))],
    }.items():
        (tmp_path / name).mkdir()
        for file in ("train.tsv", TASKS[name].development):
            (tmp_path / name / file).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return tmp_path


def test_tasks_are_read_by_the_names_of_their_columns(folder, tokenizers):
    load = {"tokenizers": tokenizers}
    assert load_task("SST-2", folder, "train", **load).labels.tolist() == [1, 0, 1]
    assert load_task("cola", folder, "dev", **load).labels.tolist() == [1, 0]
    pair = load_task("RTE", folder / "RTE", "dev", **load)
    assert (pair.labels.tolist(), pair.names) == ([1], ("entailment", "not_entailment"))
    score = load_task("STS-B", folder, "dev", **load)
    assert (score.labels.tolist(), score.outputs) == ([2.5], 1)
    assert len(load_task("YELP", folder, "dev", **load)) == 8  # as many of each label


def test_pairs_have_two_segments_and_lose_tokens_of_the_longer_side(tokenizers):
    ids, segments = encode_pairs(tokenizers, [["a good film ."], ["the dog runs in the park ."]], 9)
    row, segment = ids[0], segments[0]
    assert len(row) == 9
    assert row[0] == tokenizers.cls_id
    assert [i for i, t in enumerate(row) if t == tokenizers.sep_id] == [4, 8]
    assert segment.tolist() == [0] * 5 + [1] * 4
    single, zeros = encode_pairs(tokenizers, [["a good film ."]], 9)
    assert single[0].tolist() == tokenizers.encode_encoder(["a good film ."])[0]
    assert not zeros[0].any()


def test_wrong_files_and_names_are_told(folder, tokenizers):
    with pytest.raises(ValueError, match="unknown task 'SST'; choose one of CoLA"):
        find_task("SST")
    with pytest.raises(FileNotFoundError, match=r"QNLI/train\.tsv is missing"):
        find_file("QNLI", folder, "train")
    path = folder / "SST-2" / "train.tsv"
    path.write_text("text\tlabel\na\t1\n")
    with pytest.raises(ValueError, match="no column 'sentence'"):
        read_task(path, TASKS["SST-2"])
    path.write_text("sentence\tlabel\na\n")
    with pytest.raises(ValueError, match=r"line 2 of .* has 1 columns"):
        read_task(path, TASKS["SST-2"])
    path.write_text("sentence\tlabel\na\t7\n")
    with pytest.raises(ValueError, match="label '7'; known are 0, 1"):
        load_task("SST-2", folder, "train", tokenizers)


def test_samples_have_their_own_seed(folder, tokenizers):
    examples = load_task("YELP", folder, "train", tokenizers)
    two = sample_examples(examples, 2, seed=1)
    assert np.bincount(two.labels).tolist() == [2, 2]
    assert two.digest() == sample_examples(examples, 2, seed=1).digest()
    assert sample_examples(examples, 1.0, seed=1) is examples
    assert len(sample_examples(examples, 0.5, seed=1)) == 4


def test_batches_continue_where_they_were_and_split_among_processes(folder, tokenizers):
    examples = load_task("YELP", folder, "train", tokenizers)
    whole = ExampleBatches(examples, 4, seed=3)
    parts = [ExampleBatches(examples, 4, seed=3, rank=r, world_size=2) for r in (0, 1)]
    for _ in range(5):
        state = whole.state_dict()
        chosen = next(whole)
        assert sorted(np.concatenate([next(part) for part in parts])) == sorted(chosen)
    again = ExampleBatches(examples, 4, seed=3)
    again.load_state_dict(state)
    assert next(again).tolist() == chosen.tolist()
    batch = collate(examples, chosen, 0)
    assert batch.ids.shape == batch.segments.shape
    with pytest.raises(ValueError, match="other examples"):
        ExampleBatches(examples, 2, seed=3).load_state_dict(state)
    assert len(next(ExampleBatches(examples, 100, seed=0))) == 9


@pytest.mark.parametrize("name", TASKS)
def test_the_real_files_are_read_whole(name):
    root = Path(os.environ.get("OPTIMUS_DATA") or "none") / "glue"
    if not (root / (TASKS[name].folder or name)).is_dir():
        pytest.skip(f"OPTIMUS_DATA has no glue/{name}")
    task = TASKS[name]
    for split in ("train", "dev"):
        path = find_file(name, root, split)
        columns, labels = read_task(path, task)
        lines = sum(1 for line in path.open(encoding="utf-8-sig") if line.strip())
        assert len(columns[0]) == len(labels) == lines - (task.header is None)
        if task.names:
            assert set(labels) <= set(task.names)
