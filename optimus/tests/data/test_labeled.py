import numpy as np
import pytest

from optimus.data.batches import Batches, Padding
from optimus.data.labeled import load_labeled, read_labeled, sample_per_label
from optimus.data.sentences import TextOptions
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
    labeled = load_labeled(folder / "sentiment.text", tokenizers, names=("0", "1"))
    assert labeled.labels.tolist() == list(
        map(int, (folder / "sentiment.labels").read_text().split())
    )


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
