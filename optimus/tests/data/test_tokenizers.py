import json
import os
from pathlib import Path

import numpy as np
import pytest
from factories import is_recorded

from optimus.data.tokenizers import END_OF_TEXT, load_tokenizers, train_tokenizers

LINES = ["the dog barks .", "a cat sleeps in the garden .", "the dogs see a cat ."] * 5


@pytest.fixture(scope="module")
def small():
    return train_tokenizers(LINES, 80, 300)


def check_case(tokenizers, case):
    bos, eos = tokenizers.bos_id, tokenizers.eos_id
    expected = case.get("gpt2_ids") or [bos, *case["gpt2_ids_no_special"], eos]
    text = case.get("gpt2_decoded") or case["gpt2_decoded_with_bos_eos"]
    assert tokenizers.encode_encoder([case["text"]]) == [case["bert_ids"]], case["text"]
    assert tokenizers.encode_decoder([case["text"]]) == [expected], case["text"]
    assert tokenizers.decode_with_special(expected) == text
    if "bert_decoded" in case:
        assert tokenizers.decode_encoder(case["bert_ids"]) == case["bert_decoded"]


@pytest.mark.golden
def test_toy_vocabularies_tokenise_and_decode_as_the_authors_did(golden_kind):
    folder = golden_kind("toy_tokenizer")
    tokenizers = load_tokenizers(folder)
    special = json.loads((folder / "special.json").read_text())
    assert tokenizers.encoder_vocab_size == special["bert"]["vocab"]
    assert tokenizers.decoder_vocab_size == special["gpt2"]["vocab"]
    ends = (tokenizers.pad_id, tokenizers.bos_id, tokenizers.eos_id)
    assert ends == tuple(special["gpt2"][name] for name in ("PAD", "BOS", "EOS"))
    found = (tokenizers.encoder_pad_id, tokenizers.unk_id, tokenizers.cls_id, tokenizers.sep_id)
    assert found == tuple(special["bert"][name] for name in ("PAD", "UNK", "CLS", "SEP"))
    assert tokenizers.mask_id == special["bert"]["MASK"]
    for case in json.loads((folder / "cases.json").read_text()):
        check_case(tokenizers, case)


@pytest.mark.golden
def test_true_vocabularies_tokenise_and_decode_as_the_authors_did(golden_kind):
    folder = golden_kind("tokenization_real")
    data = os.environ.get("OPTIMUS_DATA")
    if not data or not (Path(data) / "vocab").is_dir():
        pytest.skip("OPTIMUS_DATA names no folder with the true vocabularies in vocab/")
    tokenizers = load_tokenizers(Path(data) / "vocab")
    assert (tokenizers.pad_id, tokenizers.bos_id, tokenizers.eos_id) == (50257, 50258, 50259)
    for case in json.loads((folder / "cases.json").read_text()):
        check_case(tokenizers, case)


@pytest.mark.golden
def test_generated_ids_decode_to_the_recorded_texts(golden_kind):
    folder = golden_kind("vae_trained", "generation.npz", "generation_texts.json")
    tokenizers = load_tokenizers(golden_kind("toy_tokenizer"))
    texts = json.loads((folder / "generation_texts.json").read_text())["greedy_text"]
    with np.load(folder / "generation.npz") as arrays:
        rows = [arrays[f"greedy_ids/{i}"] for i in range(len(texts))]
    for row, theirs in zip(rows, texts, strict=True):
        cut = tokenizers.eos_id not in row
        assert is_recorded(tokenizers.decode(row, clean=True), theirs, cut=cut), theirs


def test_a_sentence_cut_at_the_limit_keeps_the_word_that_the_authors_lose(small):
    (whole,) = small.encode_decoder(["the dog barks ."])
    for length in range(2, len(whole) + 1):
        ids = whole[:length]
        ours = small.decode(ids, clean=True)
        theirs = " ".join(small.decode_with_special(ids).split()[1:-1])
        assert is_recorded(ours, theirs, cut=length < len(whole))
    assert not is_recorded("the dog", "the", cut=False)
    assert not is_recorded("the dog", "a", cut=True)


def test_saved_tokenizers_load_as_the_same(small, tmp_path):
    small.save(tmp_path)
    loaded = load_tokenizers(tmp_path)
    assert loaded.fingerprint == small.fingerprint
    assert loaded.encode_decoder(LINES) == small.encode_decoder(LINES)
    assert loaded.encode_encoder(LINES) == small.encode_encoder(LINES)
    assert loaded.decoder_vocab_size == small.decoder_vocab_size


def test_casing_is_saved(tmp_path):
    train_tokenizers(LINES, 80, 300, lower_case=True).save(tmp_path)
    loaded = load_tokenizers(tmp_path)
    assert loaded.encode_encoder(["THE DOG"]) == loaded.encode_encoder(["the dog"])


def test_a_public_folder_says_whether_it_is_uncased(tmp_path):
    train_tokenizers(["tom lives in boston ."] * 5, 60, 290, lower_case=True).save(tmp_path)
    (tmp_path / "tokenizers.json").unlink()
    (tmp_path / "bert" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    tokenizers = load_tokenizers(tmp_path)
    (ids,) = tokenizers.encode_encoder(["Tom lives in Boston ."])
    assert tokenizers.lower_case
    assert tokenizers.unk_id not in ids


def test_a_vocabulary_of_another_encoding_is_named(small, tmp_path):
    small.save(tmp_path)
    with (tmp_path / "bert" / "vocab.txt").open("ab") as file:
        file.write(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"vocab\.txt line \d+ is no UTF-8 text"):
        load_tokenizers(tmp_path)


def test_training_is_the_same_every_time(small):
    assert train_tokenizers(LINES, 80, 300).fingerprint == small.fingerprint


def test_the_three_tokens_are_added_last_in_order(small):
    size = small.decoder_vocab_size
    assert (small.pad_id, small.bos_id, small.eos_id) == (size - 3, size - 2, size - 1)
    assert small.encoder_pad_id == 0


@pytest.mark.parametrize("text", ["the dog barks.", "naïve café — 你好", "tab\there", "🐈 ok"])
def test_bytes_survive_a_round_trip(small, text):
    assert small.decode(small.encode_decoder([text])[0]) == text


def test_decoding_stops_at_the_end_and_drops_special_tokens_by_id(small):
    ids = small.encode_decoder(["the dog barks ."])[0]
    assert small.decode([*ids, small.pad_id, *ids]) == "the dog barks ."
    assert small.decode(ids[:-1]) == "the dog barks ."  # no end reached, no word lost
    assert small.decode(ids, clean=True) == "the dog barks."
    assert small.decode_batch([ids, ids[:1]]) == ["the dog barks .", ""]


def test_a_literal_special_token_becomes_its_id(small):
    ids = small.encode_decoder(["the <EOS> dog"])[0]
    assert ids.count(small.eos_id) == 2
    assert small.sep_id in small.encode_encoder(["the [SEP] dog"])[0][1:-1]
    unknown = small.encode_decoder([END_OF_TEXT])[0]
    assert unknown[1] == small.bpe.token_to_id(END_OF_TEXT)


def test_a_gap_in_the_vocabulary_moves_no_id(small, tmp_path):
    small.save(tmp_path)
    path = tmp_path / "bert" / "vocab.txt"
    lines = path.read_text().split("\n")
    lines[7] = ""
    path.write_text("\n".join(lines))
    load_tokenizers(tmp_path).save(tmp_path / "again")
    assert (tmp_path / "again" / "bert" / "vocab.txt").read_text() == path.read_text()


def test_the_two_vocabularies_may_lie_in_two_folders(small, tmp_path):
    small.save(tmp_path)
    (tmp_path / "bert").rename(tmp_path / "one")
    (tmp_path / "gpt2").rename(tmp_path / "other")
    again = load_tokenizers(tmp_path / "one", tmp_path / "other")
    assert again.fingerprint == small.fingerprint
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        load_tokenizers(tmp_path / "one", tmp_path / "one")


def test_a_wrong_folder_is_named(small, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt"):
        load_tokenizers(tmp_path)
    small.save(tmp_path)
    (tmp_path / "gpt2" / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        load_tokenizers(tmp_path)
    (tmp_path / "gpt2" / "vocab.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="no GPT-2 vocabulary"):
        load_tokenizers(tmp_path)
    (tmp_path / "bert" / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="no BERT vocabulary"):
        load_tokenizers(tmp_path)
