import numpy as np
import pytest
import torch

from optimus.data.batches import Batches, Padding, build_batch, cut_into_batches, evaluation_batches
from optimus.data.sentences import build_sentences
from optimus.data.shards import read_authors_json
from optimus.data.tokenizers import load_tokenizers, train_tokenizers

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
        batches = Batches(sentences, size, Padding(pad), seed=seed, order=order, bucket=3)
        for batch in expected:
            ours = next(batches)
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
    with pytest.raises(ValueError, match="another corpus, batch size"):
        Batches(make(64, seed=1), 8, PADDING).load_state_dict(state)
    with pytest.raises(ValueError, match="another corpus, batch size"):
        Batches(make(64), 4, PADDING).load_state_dict(state)


@pytest.mark.parametrize("size", [0, 65])
def test_an_impossible_batch_size_is_an_error(size):
    with pytest.raises(ValueError, match="batch size between 1 and 64"):
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
    assert tokenizers.decode_batch(rows) == ["the dog", "the dog barks."]
    assert (batch.decoder_ids[0, batch.decoder_lengths[0] :] == tokenizers.pad_id).all()
    assert batch.to("cpu").words.tolist() == [2, 4]
