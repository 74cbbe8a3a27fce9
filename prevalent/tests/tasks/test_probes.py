import json
from dataclasses import replace

import pytest
import torch

from prevalent.data.tokenizers import WordPieceTokenizer
from prevalent.data.triplets import TripletBatch
from prevalent.runtime.checkpoint import finished_steps
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, pretrain
from prevalent.tasks.probes import (
    ProbeConfig,
    States,
    describe,
    linear_probe,
    main,
    pointer_probe,
    probe,
    with_texts,
    without_separators,
)

SMOKE = PRETRAIN_PRESETS["smoke"][1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed")
    model = replace(SMOKE.model, num_actions=37, dropout=0.0, attention_dropout=0.0)
    pretrain(replace(SMOKE, run_dir=folder, action_target="relative-view", model=model))
    return folder


def test_the_first_row_is_what_pretraining_itself_records(run):
    found = probe(ProbeConfig(run, batch_size=SMOKE.batch_size, batches=SMOKE.eval_batches))
    recorded = read_metrics(run)[-1]
    row = found["tasks val_seen"]["as pre-trained"]
    assert row["masked words"] == pytest.approx(recorded["val_seen/word_accuracy"])
    assert row["action"] == pytest.approx(recorded["val_seen/action_accuracy"])
    chance = found["tasks val_seen"]["chance"]
    assert chance["action"] == pytest.approx(recorded["val_seen/action_accuracy_chance"])


def test_a_run_in_toy_houses_is_asked_everything(run, capsys):
    main(["--run-dir", str(run), "--batches", "8"])
    found = json.loads((run / "probe.json").read_text())
    about = found.pop("provenance")
    assert (about["kind"], about["settings"]["batches"]) == ("probe", 8)
    assert set(found) == {
        *(f"tasks {split}" for split in ("val_seen", "val_unseen")),
        *(f"reader {split}" for split in ("val_seen", "val_unseen")),
        "states",
    }
    reader = found["reader val_unseen"]
    assert reader["whole instruction"]["action"] > 0.9
    assert reader["masked instruction"]["action"] < reader["whole instruction"]["action"]
    assert "masked words" not in found["tasks val_unseen"]["no instruction"]
    same = found["states"]["before pre-training"]
    assert same["cosine with before"] == pytest.approx(1.0, abs=1e-5)
    printed = capsys.readouterr().out
    assert printed == describe(found) == (run / "probe.md").read_text()


def test_an_encoder_of_words_alone_has_no_row_about_views(run, tmp_path):
    world = {"world": "matterport", "data_dir": run / "world", "features": "features.npy"}
    config = replace(SMOKE, run_dir=tmp_path, use_images=False, predict_action=False)
    pretrain(replace(config, vocabulary="wordpiece.txt", **world))
    found = probe(ProbeConfig(tmp_path, batches=2))
    assert "another panorama" not in found["tasks val_seen"]
    assert set(found["tasks val_seen"]["as pre-trained"]) == {"masked words"}
    assert list(found["states"]) == ["before pre-training", "after pre-training"]


def test_a_run_in_half_precision_is_asked_in_fp32(tmp_path):
    pretrain(replace(SMOKE, run_dir=tmp_path, precision="bf16", max_steps=1))
    found = probe(ProbeConfig(tmp_path, batches=1))
    assert 0 <= found["tasks val_seen"]["as pre-trained"]["action"] <= 1


def test_texts_lose_the_separators_that_agents_do_not_write(run):
    tokenizer = WordPieceTokenizer(run / "model" / "vocab.txt", 24)
    texts = ["Turn left. Go past the lamp.", "Turn around and walk to the desk."]
    tokens = torch.from_numpy(tokenizer.encode_sentences(texts)).long()
    labels = torch.full_like(tokens, -1)
    labels[0, 6] = 9
    blank = torch.zeros(0, dtype=torch.long)
    batch = TripletBatch(tokens, (tokens != 0).long(), labels, blank, blank, 1.0, None, blank)
    changed = without_separators(batch, tokenizer.sep)
    for row, text in zip(changed.tokens, texts, strict=True):
        assert row.tolist() == tokenizer.encode(text).tolist()
    assert changed.mask.tolist() == (changed.tokens != 0).long().tolist()
    assert changed.labels[0, 5] == 9  # one separator stood before it
    assert changed.positions.tolist() == [5]
    again = with_texts(batch, batch.tokens, batch.mask, batch.labels)
    assert again.word_positions.tolist() == batch.mask.flatten().nonzero().squeeze(1).tolist()


def test_a_linear_probe_finds_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 8, generator=generator)
    labels = inputs[:, :4].argmax(dim=1)
    half = slice(0, 400), slice(400, 600)
    right = linear_probe(inputs[half[0]], labels[half[0]], inputs[half[1]], labels[half[1]])
    drawn = labels[torch.randperm(600, generator=generator)]
    lost = linear_probe(inputs[half[0]], drawn[half[0]], inputs[half[1]], drawn[half[1]])
    assert right > 0.85
    assert lost < 0.4


def test_a_pointer_finds_the_marked_word():
    generator = torch.Generator().manual_seed(0)

    def states(marked: bool) -> States:
        words = torch.randn(200, 6, 5, generator=generator)
        place = torch.randint(6, (200,), generator=generator)
        named = torch.zeros(200, 6, dtype=torch.bool).scatter(1, place[:, None], True)
        if marked:
            words[..., 2] += 6.0 * named
        mask = torch.ones_like(named)
        return States(words[:, 0], words, mask, place, named, place[:, None].expand_as(mask))

    assert pointer_probe(states(True), states(True)) > 0.95
    assert pointer_probe(states(False), states(False)) < 0.35


def test_another_checkpoint_of_the_run_is_asked(run):
    options = {"batch_size": SMOKE.batch_size, "batches": SMOKE.eval_batches}
    *_, before, last = finished_steps(run)
    newest, same, other = (
        probe(ProbeConfig(run, step, **options))["tasks val_seen"] for step in (None, last, before)
    )
    assert newest == same != other
    with pytest.raises(FileNotFoundError, match=f"has checkpoints of the steps .*{last}"):
        probe(ProbeConfig(run, 999, **options))
