import gzip
import hashlib
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from factories import write_authors_json

from optimus.data import text
from optimus.data.text import (
    SHARD,
    Batches,
    Padding,
    TextOptions,
    build_batch,
    build_sentences,
    corrupt,
    corrupt_tokens,
    cut_into_batches,
    evaluation_batches,
    join_sentences,
    load_authors_json,
    load_corpus,
    load_sentences,
    open_sentences,
    read_authors_json,
    save_sentences,
    tokenize,
)
from optimus.data.tokenizers import load_tokenizers, train_tokenizers
from optimus.runtime.checkpoint import CheckpointMismatch
from optimus.runtime.files import digest

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
    texts = [tokenizers.decode(sentences.decoder(i)) for i in range(3)]
    assert texts == ["the dog barks .", "café — 你好", "the\u2028dog"]


@pytest.mark.parametrize("line", ["\u00ad", "\u200b \u00ad", "\ufeff", "\u2060\x00"])
def test_a_line_of_which_the_encoder_sees_nothing_counts_as_empty(tokenizers, tmp_path, line):
    path = write(tmp_path / "train.txt", f"the dog barks .\n{line}\n\na cat .\n")
    sentences = load_sentences(path, tokenizers)
    counts = sentences.counts
    assert (counts.read, counts.empty, counts.kept) == (4, 2, 2)
    assert sentences.encoder_lengths.min() > 2
    assert sentences.lines.tolist() == [0, 3]


def test_a_cache_from_before_such_lines_were_left_out_is_not_used(tokenizers, tmp_path):
    path = write(tmp_path / "train.txt", "the dog barks .\n\u00ad\n")
    content = [1, digest(path), tokenizers.fingerprint, asdict(TextOptions())]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()  # as it was
    texts = ["the dog barks .", "\u00ad"]
    pairs = zip(tokenizers.encode_encoder(texts), tokenizers.encode_decoder(texts), strict=True)
    kept = build_sentences([(left, right, 1, i) for i, (left, right) in enumerate(pairs)])
    (tmp_path / ".cache").mkdir()
    old = tmp_path / ".cache" / f"train-{key[:20]}.safetensors"
    save_sentences(old, kept, tokenizers.fingerprint)
    assert len(load_sentences(path, tokenizers)) == 1
    assert len(open_sentences(old, tokenizers.fingerprint)) == 2  # the format did not change


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
    assert tokenizers.decode(sentences.decoder(1)) == "a cat ."


def test_the_wrong_format_is_said(tokenizers, tmp_path):
    plain = write(tmp_path / "plain.txt", "the dog\n")
    with pytest.raises(ValueError, match="line 1: there is no tab"):
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
    with pytest.raises(ValueError, match="UTF-16"):
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


MANY = ["the dog barks .", "a cat sleeps in the garden .", "the dogs see a cat ."] * 4


@pytest.mark.golden
def test_the_authors_caches_are_read_and_written_back(golden_kind, tmp_path):
    tokenizers = load_tokenizers(golden_kind("toy_tokenizer"))
    for cache in sorted(golden_kind("dataloader").glob("cached_lm_gpt_bert_*.json")):
        write_authors_json(tmp_path / "back.json", read_authors_json(cache))
        assert json.loads((tmp_path / "back.json").read_text()) == json.loads(cache.read_text())
        assert len(load_authors_json(cache, tokenizers, tmp_path)) == len(read_authors_json(cache))


def test_a_folder_of_text_is_a_corpus(tokenizers, tmp_path):
    (tmp_path / "valid.txt").write_text("\n".join(MANY))
    (corpus,) = load_corpus(tmp_path, "valid", tokenizers)
    assert len(corpus) == len(MANY)
    with pytest.raises(FileNotFoundError, match="optimus prepare"):
        load_corpus(tmp_path, "train", tokenizers)
    with pytest.raises(FileNotFoundError, match=r"test\.txt"):
        load_corpus(tmp_path, "test", tokenizers)


def test_a_large_text_is_read_in_parts_that_outlive_a_kill(tokenizers, tmp_path, monkeypatch):
    path = write(tmp_path / "train.txt", "\n".join([*LINES, "", *LINES]))
    whole = load_sentences(path, tokenizers, cache_dir=tmp_path / "whole")
    monkeypatch.setattr(text, "PART_LINES", 2)
    made, tokenized = [], text.tokenize

    def counting(lines, *rest):
        made.append(lines)
        if len(made) == 2:
            raise OSError("killed")
        return tokenized(lines, *rest)

    monkeypatch.setattr(text, "tokenize", counting)
    with pytest.raises(OSError, match="killed"):
        load_corpus(tmp_path, "train", tokenizers)
    parts = load_corpus(tmp_path, "train", tokenizers)
    assert [row for part in parts for row in rows(part)] == rows(whole)
    assert len(made) == 1 + len(parts), "the first part was made once"
    assert all(isinstance(part.encoder_ids, np.memmap) for part in parts)
    load_corpus(tmp_path, "train", tokenizers)
    assert len(made) == 1 + len(parts)
    batches = Batches(parts, 2, Padding(tokenizers.pad_id))
    assert batches.batches_per_epoch == sum(len(part) // 2 for part in parts)


def test_texts_may_be_packed(tokenizers, tmp_path):
    content = "\n".join(LINES)
    plain = rows(load_sentences(write(tmp_path / "a.txt", content), tokenizers))
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt.gz").write_bytes(gzip.compress(content.encode()))
        (found,) = load_corpus(tmp_path, split, tokenizers)
        assert rows(found) == plain
    write(tmp_path / "valid.txt", content)
    with pytest.raises(ValueError, match=r"holds valid\.txt and valid\.txt\.gz; leave one"):
        load_corpus(tmp_path, "valid", tokenizers)


@pytest.mark.parametrize("kind", ["ours", "authors"])
def test_all_shards_are_the_training_corpus(tokenizers, tmp_path, kind):
    for number in range(11):
        part = tokenize(MANY[: number + 1], tokenizers, TextOptions())
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
    other = train_tokenizers(MANY, 60, 270)
    part = tokenize(MANY, other, TextOptions())
    save_sentences(tmp_path / SHARD.format(0), part, other.fingerprint)
    with pytest.raises(ValueError, match="other vocabularies"):
        load_corpus(tmp_path, "train", tokenizers)
    (tmp_path / SHARD.format(0)).unlink()
    write_authors_json(tmp_path / "a.json", part)
    with pytest.raises(ValueError, match="other vocabularies"):
        load_corpus(tmp_path, "train", tokenizers)


PADDING = Padding(decoder=99, encoder=0)


def make(count, seed=0, first=0):
    """Sentences of random lengths; word count = number of the sentence."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        left, right = generator.integers(3, 20, 2)
        row = (generator.integers(1, 50, left).tolist(), generator.integers(1, 50, right).tolist())
        rows.append((*row, first + i, i))
    return build_sentences(rows)


def numbers(batches, count):
    return [next(batches).index.tolist() for _ in range(count)]


def recorded(arrays, prefix):
    count = 0
    while f"{prefix}/{count}/bert" in arrays:
        yield {
            key: arrays[f"{prefix}/{count}/{key}"]
            for key in ("bert", "gpt2", "lengths")
            if f"{prefix}/{count}/{key}" in arrays
        }
        count += 1


def same_rows(ours, theirs):
    """Whether the batches hold the same sentences, as the encoder reads them."""
    pairs = zip(ours, theirs, strict=True)
    return all(np.array_equal(one.encoder_ids, other["bert"]) for one, other in pairs)


@pytest.mark.golden
@pytest.mark.parametrize("prefix", ["noshuffle", "shuffle_seed", "yelp"])
def test_the_authors_batches_are_reproduced(golden_kind, prefix):
    folder = golden_kind("dataloader")
    arrays = np.load(folder / "batches.npz")
    names = sorted({k.partition("/")[0] for k in arrays if k.startswith(prefix) and "/0/" in k})
    if not names:
        pytest.skip(f"no {prefix} batches")
    pad = load_tokenizers(golden_kind("toy_tokenizer")).pad_id
    stem = "yelp_style" if prefix == "yelp" else "train"
    (cache,) = folder.glob(f"cached_*_{stem}.json")
    sentences = read_authors_json(cache)
    for name in names:
        expected = list(recorded(arrays, name))
        size = len(expected[0]["bert"])
        seed = int(name.removeprefix(prefix) or 0) if prefix == "shuffle_seed" else 0
        order = "original-shuffled" if prefix == "shuffle_seed" else "original"
        buckets = {
            bucket: Batches(sentences, size, Padding(pad), seed=seed, order=order, bucket=bucket)
            for bucket in range(1, len(sentences) // size + 2)  # theirs is not recorded
        }
        made = {bucket: [next(one) for _ in expected] for bucket, one in buckets.items()}
        alike = [one for one in made.values() if same_rows(one, expected)]
        assert alike, f"no bucket gives the recorded batches {name}"
        for ours, batch in zip(alike[0], expected, strict=True):
            np.testing.assert_array_equal(ours.encoder_ids, batch["bert"])
            lengths = torch.stack([ours.encoder_lengths, ours.decoder_lengths], dim=1)
            if "lengths" in batch:
                np.testing.assert_array_equal(lengths, batch["lengths"])
            if "gpt2" in batch:
                np.testing.assert_array_equal(ours.decoder_ids, batch["gpt2"])


@pytest.mark.golden
def test_the_authors_evaluation_order_is_reproduced(golden_kind):
    folder = golden_kind("vae_trained", "eval_batches.npz")
    (cache,) = folder.glob("cached_*_eval.json")
    arrays = np.load(folder / "eval_batches.npz")
    batches = Batches(read_authors_json(cache), 1, PADDING, order="original")
    for number in range(len({key.split("/")[0] for key in arrays})):
        ours = next(batches)
        np.testing.assert_array_equal(ours.encoder_ids, arrays[f"{number}/bert"])
        np.testing.assert_array_equal(ours.decoder_ids, arrays[f"{number}/gpt2"])


def test_a_batch_is_padded_on_the_right():
    sentences = make(5)
    batch = next(evaluation_batches(sentences, 5, PADDING, order="original"))
    for i in range(5):
        left, right = int(batch.encoder_lengths[i]), int(batch.decoder_lengths[i])
        assert batch.encoder_ids[i, :left].tolist() == sentences.encoder(i).tolist()
        assert batch.decoder_ids[i, :right].tolist() == sentences.decoder(i).tolist()
        assert (batch.encoder_ids[i, left:] == 0).all()
        assert (batch.decoder_ids[i, right:] == 99).all()
        assert int(batch.encoder_mask[i].sum()) == left
    assert batch.encoder_ids.shape[1] == sentences.encoder_lengths.max()
    assert batch.words.tolist() == [0, 1, 2, 3, 4]
    assert batch.encoder_ids.dtype == torch.long


@pytest.mark.parametrize("order", ["shuffled", "original", "original-shuffled"])
def test_an_epoch_visits_each_sentence_once(order):
    shards = [make(40), make(24, seed=1, first=40)]
    batches = Batches(shards, 8, PADDING, order=order, bucket=2)
    assert batches.batches_per_epoch == 8
    for _ in range(3):
        seen = [i for batch in numbers(batches, 8) for i in batch]
        assert sorted(seen) == list(range(64))
    assert batches.epoch == 3


def test_the_index_names_the_sentence_across_shards():
    batches = Batches([make(16), make(16, seed=1, first=16)], 4, PADDING)
    for _ in range(8):
        batch = next(batches)
        assert batch.index.tolist() == batch.words.tolist()


def test_epochs_differ_and_the_seed_fixes_them():
    first = numbers(Batches(make(64), 8, PADDING, seed=1), 16)
    assert first == numbers(Batches(make(64), 8, PADDING, seed=1), 16)
    assert first != numbers(Batches(make(64), 8, PADDING, seed=2), 16)
    assert first[:8] != first[8:]


def test_shuffled_batches_are_of_similar_length():
    sentences = make(640)
    batches = Batches(sentences, 8, PADDING, bucket=10)
    used = total = 0
    for _ in range(80):
        batch = next(batches)
        used += int(batch.decoder_lengths.sum() + batch.encoder_lengths.sum())
        total += batch.decoder_ids.numel() + batch.encoder_ids.numel()
    assert used / total > 0.7  # 0.6 for batches drawn at random


@pytest.mark.parametrize("order", ["shuffled", "original", "original-shuffled"])
@pytest.mark.parametrize("stop", [0, 3, 8, 13])
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(order, stop):
    shards = [make(40), make(24, seed=1)]
    build = {"padding": PADDING, "order": order, "bucket": 2, "seed": 5}
    whole = numbers(Batches(shards, 8, **build), 20)
    before = Batches(shards, 8, **build)
    assert numbers(before, stop) == whole[:stop]
    after = Batches(shards, 8, **build)
    after.load_state_dict(before.state_dict())
    assert numbers(after, 20 - stop) == whole[stop:]


def test_two_processes_share_the_batch_of_one():
    one = Batches(make(64), 8, PADDING)
    two = [Batches(make(64), 4, PADDING, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(10):
        together = sorted(i for batches in two for i in next(batches).index.tolist())
        assert together == sorted(next(one).index.tolist())
    assert one.state_dict() == two[0].state_dict() == two[1].state_dict()


def test_a_position_in_another_corpus_is_refused():
    state = Batches(make(64), 8, PADDING).state_dict()
    with pytest.raises(CheckpointMismatch, match=r"64 sentences .* order or seed is another"):
        Batches(make(64, seed=1), 8, PADDING).load_state_dict(state)
    with pytest.raises(
        CheckpointMismatch, match="in batches of 4: it was trained on 64 in batches"
    ):
        Batches(make(64), 4, PADDING).load_state_dict(state)
    old = {key: state[key] for key in ("position", "fingerprint")}  # as version 0.1 wrote it
    Batches(make(64), 8, PADDING).load_state_dict(old)
    with pytest.raises(CheckpointMismatch, match="has not seen these 63 sentences"):
        Batches(make(63), 8, PADDING).load_state_dict(old)


@pytest.mark.parametrize("size", [0, 65])
def test_an_impossible_batch_size_is_an_error(size):
    with pytest.raises(ValueError, match=r"--data\.batch-size from 1 to 64"):
        Batches(make(64), size, PADDING)


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("order", ["sorted", "original"])
def test_evaluation_leaves_no_sentence_out(world_size, order):
    sentences = make(29)
    seen = []
    for rank in range(world_size):
        options = {"rank": rank, "world_size": world_size, "order": order}
        for batch in evaluation_batches(sentences, 4, PADDING, **options):
            seen += batch.index.tolist()
    assert sorted(seen) == list(range(29))


def test_buckets_sort_stably_and_drop_their_tails():
    lengths = np.array([1, 3, 2, 3, 5, 4, 9])
    batches = cut_into_batches(np.arange(7), lengths, 2, 2)
    assert batches.tolist() == [[1, 3], [2, 0], [6, 4]]


def test_texts_become_one_batch_in_their_order():
    tokenizers = train_tokenizers(["the dog barks ."] * 3, 40, 280)
    batch = build_batch(tokenizers, ["the dog", "the dog barks ."])
    rows = [row[:n] for row, n in zip(batch.decoder_ids, batch.decoder_lengths, strict=True)]
    assert tokenizers.decode_batch(rows) == ["the dog", "the dog barks ."]
    assert (batch.decoder_ids[0, batch.decoder_lengths[0] :] == tokenizers.pad_id).all()
    assert batch.to("cpu").words.tolist() == [2, 4]


TOLERANCE = 0.01  # five standard deviations of a share of 60,000 draws


def test_shares_are_those_of_bert():
    ids = torch.full((100, 600), 7)
    generator = torch.Generator().manual_seed(0)
    changed = corrupt_tokens(
        ids, torch.ones_like(ids, dtype=torch.bool), 3, 1000, probability=0.3, generator=generator
    )
    assert float((changed == 3).double().mean()) == pytest.approx(0.3 * 0.8, abs=TOLERANCE)
    others = (changed != 3) & (changed != 7)
    assert float(others.double().mean()) == pytest.approx(0.3 * 0.1, abs=TOLERANCE)


def test_special_tokens_and_padding_are_spared(tokenizers):
    batch = build_batch(tokenizers, ["the dog barks .", "a cat"] * 20)
    changed = corrupt(batch, tokenizers, 1.0)
    spared = ~batch.encoder_mask
    spared |= (batch.encoder_ids == tokenizers.cls_id) | (batch.encoder_ids == tokenizers.sep_id)
    assert torch.equal(changed.encoder_ids[spared], batch.encoder_ids[spared])
    assert (changed.encoder_ids != batch.encoder_ids).any()
    assert torch.equal(changed.decoder_ids, batch.decoder_ids)


def test_probability_zero_changes_nothing(tokenizers):
    batch = build_batch(tokenizers, ["the dog barks ."])
    assert torch.equal(corrupt(batch, tokenizers, 0.0).encoder_ids, batch.encoder_ids)
    with pytest.raises(ValueError, match="must be in"):
        corrupt(batch, tokenizers, 1.5)


def test_a_seed_fixes_the_corruption(tokenizers):
    batch = build_batch(tokenizers, ["the dog barks ."] * 8)
    draws = [
        corrupt(batch, tokenizers, 0.5, generator=torch.Generator().manual_seed(3)).encoder_ids
        for _ in range(2)
    ]
    assert torch.equal(*draws)


def test_a_corpus_shorter_than_a_batch_names_the_option():
    one = build_sentences([([1, 2], [1, 2], 1, 0)])
    with pytest.raises(ValueError, match=r"corpus of 1 .*: give a --data.batch-size from 1 to 1"):
        Batches([one], 8, Padding(0, 0), seed=0)
