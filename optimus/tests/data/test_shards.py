import json

import numpy as np
import pytest

from optimus.data.batches import Batches, Padding
from optimus.data.sentences import TextOptions, save_sentences, tokenize
from optimus.data.shards import (
    SHARD,
    filter_lengths,
    load_authors_json,
    load_corpus,
    read_authors_json,
    write_authors_json,
)
from optimus.data.tokenizers import load_tokenizers, train_tokenizers

LINES = ["the dog barks .", "a cat sleeps in the garden .", "the dogs see a cat ."] * 4


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(LINES, 80, 300)


@pytest.mark.golden
def test_the_authors_caches_are_read_and_written_back(golden_kind, tmp_path):
    tokenizers = load_tokenizers(golden_kind("toy_tokenizer"))
    for cache in sorted(golden_kind("dataloader").glob("cached_lm_gpt_bert_*.json")):
        write_authors_json(tmp_path / "back.json", read_authors_json(cache))
        assert json.loads((tmp_path / "back.json").read_text()) == json.loads(cache.read_text())
        assert len(load_authors_json(cache, tokenizers, tmp_path)) == len(read_authors_json(cache))


def test_a_folder_of_text_is_a_corpus(tokenizers, tmp_path):
    (tmp_path / "valid.txt").write_text("\n".join(LINES))
    (corpus,) = load_corpus(tmp_path, "valid", tokenizers)
    assert len(corpus) == len(LINES)
    with pytest.raises(FileNotFoundError, match="optimus prepare"):
        load_corpus(tmp_path, "train", tokenizers)
    with pytest.raises(FileNotFoundError, match=r"test\.txt"):
        load_corpus(tmp_path, "test", tokenizers)


@pytest.mark.parametrize("kind", ["ours", "authors"])
def test_all_shards_are_the_training_corpus(tokenizers, tmp_path, kind):
    for number in range(11):
        part = tokenize(LINES[: number + 1], tokenizers, TextOptions())
        if kind == "ours":
            (tmp_path / "shards").mkdir(exist_ok=True)
            path = tmp_path / "shards" / SHARD.format(number)
            save_sentences(path, part, tokenizers.fingerprint)
        else:
            write_authors_json(tmp_path / f"wikipedia.seq64.{number}.json", part)
            (tmp_path / "wikipedia.length_freq.json").write_text("{}")
    shards = load_corpus(tmp_path, "train", tokenizers)
    assert [len(shard) for shard in shards] == list(range(1, 12))  # 10 follows 9
    batches = Batches(shards, 1, Padding(tokenizers.pad_id))
    seen = {int(next(batches).index) for _ in range(batches.batches_per_epoch)}
    assert seen == set(range(66))


def test_shards_of_other_vocabularies_are_refused(tokenizers, tmp_path):
    other = train_tokenizers(LINES, 60, 270)
    part = tokenize(LINES, other, TextOptions())
    save_sentences(tmp_path / SHARD.format(0), part, other.fingerprint)
    with pytest.raises(ValueError, match="other vocabularies"):
        load_corpus(tmp_path, "train", tokenizers)
    (tmp_path / SHARD.format(0)).unlink()
    write_authors_json(tmp_path / "a.json", part)
    with pytest.raises(ValueError, match="other vocabularies"):
        load_corpus(tmp_path, "train", tokenizers)


def test_filtering_keeps_short_sentences(tokenizers):
    sentences = tokenize(LINES, tokenizers, TextOptions())
    longest = np.maximum(sentences.encoder_lengths, sentences.decoder_lengths)
    limit = int(np.median(longest))
    kept = filter_lengths(sentences, limit)
    assert len(kept) == int((longest <= limit).sum())
    assert kept.counts.too_many_tokens == len(sentences) - len(kept)
