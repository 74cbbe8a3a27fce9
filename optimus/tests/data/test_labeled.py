import os
from pathlib import Path

import numpy as np
import pytest

from optimus.data.labeled import (
    TASKS,
    ExampleBatches,
    collate,
    encode_pairs,
    find_file,
    find_task,
    load_labeled,
    load_task,
    read_labeled,
    read_task,
    sample_examples,
    sample_per_label,
)
from optimus.data.text import Batches, Padding, TextOptions
from optimus.data.tokenizers import load_tokenizers, train_tokenizers

GOOD, BAD = ["good food", "great place"], ["bad food", "", "an awful and long evening"]


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers([*GOOD, *BAD] * 3, 60, 290)


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture(params=["pair", "tab", "class files"])
def corpus(request, tmp_path):
    if request.param == "pair":
        write(tmp_path / "s.text", BAD + GOOD)
        write(tmp_path / "s.labels", [0, 0, 0, 1, 1])
        return tmp_path / "s.text"
    if request.param == "tab":
        write(tmp_path / "s.tsv", [f"0\t{line}" for line in BAD] + [f"1\t{line}" for line in GOOD])
        return tmp_path / "s.tsv"
    write(tmp_path / "s.0", BAD)
    write(tmp_path / "s.1", GOOD)
    return tmp_path / "s"


def test_labels_stay_with_their_sentences(corpus, tokenizers):
    labeled = load_labeled(corpus, tokenizers, TextOptions(max_words=4))
    assert labeled.names == ("0", "1")
    assert labeled.labels.tolist() == [0, 1, 1]  # the blank and the long line are gone
    batch = next(Batches(labeled.sentences, 3, Padding(tokenizers.pad_id)))
    texts = tokenizers.decode_batch(batch.decoder_ids)
    for text, label in zip(texts, labeled.labels_of(batch), strict=True):
        assert (text in GOOD) == bool(label)


@pytest.mark.golden
def test_the_authors_sentiment_file_is_read(golden_kind):
    folder = golden_kind("cara", "sentiment.text")
    tokenizers = load_tokenizers(golden_kind("dialog_ctrl_tokenizer"))
    labels = [int(word) for word in (folder / "sentiment.labels").read_text().split()]
    names = tuple(map(str, range(max(labels) + 1)))
    labeled = load_labeled(folder / "sentiment.text", tokenizers, names=names)
    assert labeled.labels.tolist() == labels


@pytest.mark.parametrize(
    ("content", "labels", "said"),
    [
        ("\tno label\npos\tgood\n", None, r"line 1: it is not `label TAB text`"),
        ("no tab\n", None, r"line 1: it is not `label TAB text`"),
        ("good\nbad\n", "pos\n\n", r"labels line 2: there is no label for the text"),
        ("pos\tgood food\npos\tgreat\n", None, "holds one class alone, 'pos'"),
        ("", None, "holds no"),
        ("pos\t\nneg\t \n", None, "holds no"),
    ],
)
def test_a_text_without_a_label_or_a_second_class_is_refused(
    tmp_path, tokenizers, content, labels, said
):
    path = tmp_path / ("a.txt" if labels is None else "a.text")
    path.write_text(content)
    if labels is not None:
        path.with_suffix(".labels").write_text(labels)
    for load in (load_labeled, lambda path, pair: load_task("labeled", path, "train", pair)):
        with pytest.raises(ValueError, match=said):
            load(path, tokenizers)


@pytest.mark.parametrize("content", ["", "\n", "\ufeff\n\n"])
def test_a_file_without_a_header_is_called_one(tmp_path, content):
    (tmp_path / "train.tsv").write_text(content)
    with pytest.raises(ValueError, match=r"train\.tsv has no header: its first line is empty"):
        read_task(tmp_path / "train.tsv", TASKS["SST-2"])


def test_the_training_files_names_fix_the_numbers(corpus, tokenizers):
    swapped = load_labeled(corpus, tokenizers, names=("1", "0"))
    assert swapped.labels.tolist() == [1, 1, 0, 0]
    with pytest.raises(ValueError, match="label '1'; known are 0"):
        load_labeled(corpus, tokenizers, names=("0",))


def test_files_that_do_not_match_are_named(tmp_path):
    write(tmp_path / "s.text", GOOD)
    with pytest.raises(FileNotFoundError, match=r"s\.labels"):
        read_labeled(tmp_path / "s.text")
    write(tmp_path / "s.labels", [1])
    with pytest.raises(ValueError, match=r"2 lines and .* 1"):
        read_labeled(tmp_path / "s.text")
    write(tmp_path / "t.tsv", ["1\ta", "b"])
    with pytest.raises(ValueError, match="line 2"):
        read_labeled(tmp_path / "t.tsv")
    with pytest.raises(FileNotFoundError, match=r"NAME\.labels"):
        read_labeled(tmp_path / "none")


@pytest.mark.parametrize(("count", "sizes"), [(2, [2, 2]), (0.5, [4, 2])])
def test_samples_are_drawn_per_class(count, sizes):
    labels = np.array([0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0])
    chosen = sample_per_label(labels, count, seed=1)
    assert np.bincount(labels[chosen]).tolist() == sizes
    assert len(set(chosen.tolist())) == len(chosen)
    assert chosen.tolist() == sample_per_label(labels, count, seed=1).tolist()
    with pytest.raises(ValueError, match="class 1 has 4"):
        sample_per_label(labels, 5, seed=1)


LINES = ["a good film .", "a bad film .", "the dog runs in the park .", "no dog is here ."]


@pytest.fixture(scope="module")
def film_tokenizers():
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


def test_tasks_are_read_by_the_names_of_their_columns(folder, film_tokenizers):
    load = {"tokenizers": film_tokenizers}
    assert load_task("SST-2", folder, "train", **load).labels.tolist() == [1, 0, 1]
    assert load_task("cola", folder, "dev", **load).labels.tolist() == [1, 0]
    pair = load_task("RTE", folder / "RTE", "dev", **load)
    assert (pair.labels.tolist(), pair.names) == ([1], ("entailment", "not_entailment"))
    score = load_task("STS-B", folder, "dev", **load)
    assert (score.labels.tolist(), score.outputs) == ([2.5], 1)
    assert len(load_task("YELP", folder, "dev", **load)) == 8  # as many of each label


def test_pairs_have_two_segments_and_lose_tokens_of_the_longer_side(film_tokenizers):
    ids, segments = encode_pairs(
        film_tokenizers, [["a good film ."], ["the dog runs in the park ."]], 9
    )
    row, segment = ids[0], segments[0]
    assert len(row) == 9
    assert row[0] == film_tokenizers.cls_id
    assert [i for i, t in enumerate(row) if t == film_tokenizers.sep_id] == [4, 8]
    assert segment.tolist() == [0] * 5 + [1] * 4
    single, zeros = encode_pairs(film_tokenizers, [["a good film ."]], 9)
    assert single[0].tolist() == film_tokenizers.encode_encoder(["a good film ."])[0]
    assert not zeros[0].any()


def test_wrong_files_and_names_are_told(folder, film_tokenizers):
    with pytest.raises(ValueError, match="unknown task 'SST'; choose one of CoLA"):
        find_task("SST")
    with pytest.raises(FileNotFoundError, match=r"QNLI/train\.tsv is missing"):
        find_file("QNLI", folder, "train")
    path = folder / "SST-2" / "train.tsv"
    path.write_text("text\tlabel\na\t1\n")
    with pytest.raises(ValueError, match="no column 'sentence'"):
        read_task(path, TASKS["SST-2"])
    path.write_text("sentence\tlabel\na\n")
    with pytest.raises(ValueError, match=r"holds no example of the columns sentence, label"):
        read_task(path, TASKS["SST-2"])
    path.write_text("sentence\tlabel\na\t7\n")
    with pytest.raises(ValueError, match="line 2: the label '7'; known are 0, 1"):
        load_task("SST-2", folder, "train", film_tokenizers)


def test_rows_that_end_early_are_left_out_and_counted(folder, film_tokenizers, caplog):
    path = folder / "QQP" / "train.tsv"
    path.parent.mkdir(exist_ok=True)
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    path.write_text(f"{header}1\t2\t3\ta\tb\t1\n4\t5\t6\n7\t8\t9\tc\td\t0\n1\t2\t3\te\n")
    assert read_task(path, TASKS["QQP"]) == ([["a", "c"], ["b", "d"]], ["1", "0"])
    assert f"{path}: 2 rows of too few columns are left out, the first in line 3" in caplog.text
    assert len(load_task("QQP", folder, "train", film_tokenizers)) == 2


@pytest.mark.parametrize("score", ["nan", "inf", "", "4,5"])
def test_a_score_that_is_no_number_is_named(folder, score):
    path = folder / "STS-B.tsv"
    path.write_text(f"sentence1\tsentence2\tscore\na\tb\t4.5\nc\td\t{score}\n")
    with pytest.raises(ValueError, match=r"STS-B\.tsv line 3: the score must be (a number|finite)"):
        read_task(path, TASKS["STS-B"])


def test_samples_have_their_own_seed(folder, film_tokenizers):
    examples = load_task("YELP", folder, "train", film_tokenizers)
    two = sample_examples(examples, 2, seed=1)
    assert np.bincount(two.labels).tolist() == [2, 2]
    assert two.digest() == sample_examples(examples, 2, seed=1).digest()
    assert sample_examples(examples, 1.0, seed=1) is examples
    assert len(sample_examples(examples, 0.5, seed=1)) == 4


def test_batches_continue_where_they_were_and_split_among_processes(folder, film_tokenizers):
    examples = load_task("YELP", folder, "train", film_tokenizers)
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
    with pytest.raises(ValueError, match="a batch has 2 examples here and 4 in the run"):
        ExampleBatches(examples, 2, seed=3).load_state_dict(state)
    with pytest.raises(ValueError, match="trained on other examples than these 8"):
        ExampleBatches(examples.subset(np.arange(8)), 4, seed=3).load_state_dict(state)
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
