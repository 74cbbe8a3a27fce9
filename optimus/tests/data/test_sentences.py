import json

import numpy as np
import pytest

from optimus.data.sentences import (
    TextOptions,
    join_sentences,
    load_sentences,
    open_sentences,
    tokenize,
)
from optimus.data.tokenizers import load_tokenizers, train_tokenizers

LINES = ["the dog barks .", "a cat sleeps in the garden .", "the dogs see a cat ."]


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(LINES * 5, 80, 300)


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(sentences):
    count = range(len(sentences))
    return [(sentences.encoder(i).tolist(), sentences.decoder(i).tolist()) for i in count]


@pytest.mark.golden
def test_text_files_become_the_authors_cache(golden_kind):
    caches = sorted(golden_kind("dataloader").glob("cached_lm_gpt_bert_*.json"))
    assert caches
    tokenizers = load_tokenizers(golden_kind("toy_tokenizer"))
    for cache in caches:
        block, _, stem = cache.stem.removeprefix("cached_lm_gpt_bert_").partition("_")
        text = cache.with_name(f"{stem}.txt")
        labelled = "\t" in text.read_text()
        kind = "label-text" if labelled else "text"
        options = TextOptions(max_words=int(block), format=kind)
        with text.open() as file:
            lines = [line.partition("\t")[2] if labelled else line for line in file]
        expected = [(e["bert_token"], e["gpt2_token"]) for e in json.loads(cache.read_text())]
        assert rows(tokenize(lines, tokenizers, options)) == expected


def test_the_second_reading_maps_the_cache(tokenizers, tmp_path):
    path = write(tmp_path / "train.txt", "\n".join(LINES))
    first = load_sentences(path, tokenizers)
    (cached,) = (tmp_path / ".cache").iterdir()
    stamp = cached.stat().st_mtime_ns
    second = load_sentences(path, tokenizers)
    assert cached.stat().st_mtime_ns == stamp
    assert isinstance(second.encoder_ids, np.memmap)
    assert rows(second) == rows(first)
    assert second.words.tolist() == [4, 7, 6]
    assert second.digest == first.digest != ""


def test_content_options_and_vocabulary_each_have_their_own_cache(tokenizers, tmp_path):
    path = write(tmp_path / "train.txt", "\n".join(LINES))
    load_sentences(path, tokenizers)
    load_sentences(path, tokenizers, TextOptions(max_words=5))
    load_sentences(path, train_tokenizers(LINES, 60, 290))
    write(path, "\n".join(LINES[:2]))
    assert len(load_sentences(path, tokenizers)) == 2
    assert len(list((tmp_path / ".cache").iterdir())) == 4


def test_blank_lines_line_ends_and_unicode_are_handled(tokenizers, tmp_path):
    text = "\ufeffthe dog barks .\r\n\r\n   \r\ncafé — 你好\nthe\u2028dog\n"
    sentences = load_sentences(write(tmp_path / "t.txt", text), tokenizers)
    assert sentences.lines.tolist() == [0, 3, 4]
    assert sentences.counts.empty == 2
    texts = [tokenizers.decode(sentences.decoder(i), clean=False) for i in range(3)]
    assert texts == ["the dog barks .", "café — 你好", "the\u2028dog"]


def test_long_lines_are_left_out_or_cut_and_counted(tokenizers, tmp_path):
    path = write(tmp_path / "t.txt", "the dog barks .\n" + "a " * 30 + "\n" + "x" * 40 + "\n")
    bounds = {"max_words": 20, "max_encoder_tokens": 12, "max_decoder_tokens": 20}
    skipped = load_sentences(path, tokenizers, TextOptions(**bounds))
    assert (skipped.counts.too_many_words, skipped.counts.too_many_tokens) == (1, 1)
    assert skipped.counts.kept == len(skipped) == 1
    cut = load_sentences(path, tokenizers, TextOptions(**bounds, overlong="truncate"))
    assert (len(cut), cut.counts.truncated) == (2, 1)
    assert cut.decoder_lengths.max() <= 20
    assert cut.encoder_lengths.max() <= 12
    assert cut.decoder(1)[-1] == tokenizers.eos_id
    assert "1 too many words" in str(cut.counts)


def test_labels_are_cut_off(tokenizers, tmp_path):
    path = write(tmp_path / "t.txt", "1\tthe dog barks .\n0\ta cat .\n")
    sentences = load_sentences(path, tokenizers, TextOptions(format="label-text"))
    assert tokenizers.decode(sentences.decoder(1)) == "a cat."


def test_the_wrong_format_is_said(tokenizers, tmp_path):
    plain = write(tmp_path / "plain.txt", "the dog\n")
    with pytest.raises(ValueError, match=r"line 1 .* no tab"):
        load_sentences(plain, tokenizers, TextOptions(format="label-text"))
    labelled = write(tmp_path / "labelled.txt", "1\tthe dog\n" * 20)
    with pytest.raises(ValueError, match="label-text"):
        load_sentences(labelled, tokenizers)


@pytest.mark.parametrize(("text", "message"), [("", "0 of 0"), (" \n\n", "2 empty")])
def test_a_file_without_sentences_is_an_error(tokenizers, tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_sentences(write(tmp_path / "t.txt", text), tokenizers)


def test_missing_and_non_text_files_are_errors(tokenizers, tmp_path):
    with pytest.raises(FileNotFoundError, match="optimus prepare"):
        load_sentences(tmp_path / "t.txt", tokenizers)
    with pytest.raises(ValueError, match="UTF-8"):
        load_sentences(write(tmp_path / "t.txt", b"\xff\xfe\x00dog"), tokenizers)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, None])
def test_a_damaged_cache_is_built_anew(tokenizers, tmp_path, damage, caplog):
    path = write(tmp_path / "train.txt", "\n".join(LINES))
    expected = rows(load_sentences(path, tokenizers))
    (cached,) = (tmp_path / ".cache").iterdir()
    cached.write_bytes(cached.read_bytes()[:-5] if damage is None else damage)
    with pytest.raises(ValueError, match="no file of tokenised sentences"):
        open_sentences(cached)
    assert rows(load_sentences(path, tokenizers)) == expected
    assert "built anew" in caplog.text
    assert rows(open_sentences(cached)) == expected


def test_without_a_place_for_the_cache_the_text_is_tokenised_in_memory(tokenizers, tmp_path):
    path = write(tmp_path / "train.txt", "\n".join(LINES))
    blocked = write(tmp_path / "file", "")  # no folder can be made inside a file
    sentences = load_sentences(path, tokenizers, cache_dir=blocked / "cache")
    assert sentences.digest == load_sentences(path, tokenizers).digest


def test_a_shard_of_other_vocabularies_is_refused(tokenizers, tmp_path):
    path = write(tmp_path / "train.txt", "\n".join(LINES))
    load_sentences(path, tokenizers)
    (cached,) = (tmp_path / ".cache").iterdir()
    with pytest.raises(ValueError, match="other vocabularies"):
        open_sentences(cached, "another")


def test_joining_is_reading_together(tokenizers):
    options = TextOptions()
    parts = [tokenize(LINES[:1], tokenizers, options), tokenize(LINES[1:], tokenizers, options)]
    assert rows(join_sentences(parts)) == rows(tokenize(LINES, tokenizers, options))
    assert len(join_sentences([])) == 0


@pytest.mark.parametrize("name", ["max_words", "max_encoder_tokens", "max_decoder_tokens"])
def test_options_are_checked(name):
    with pytest.raises(ValueError, match=name):
        TextOptions(**{name: 0})
