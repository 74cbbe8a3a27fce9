import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import tiny_vae
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from optimus.config import ModelOptions
from optimus.data.labeled import sample_examples
from optimus.data.tokenizers import train_tokenizers
from optimus.data.toy import labeled_sentences
from optimus.models.classifier import SentenceClassifier
from optimus.page.plots import PlotConfig, plot
from optimus.runtime.distributed import World
from optimus.runtime.logs import read_metrics
from optimus.tasks.classifier import (
    BEST,
    PRESETS,
    ClassifierConfig,
    ClassifierTraining,
    TaskOptions,
    build_classifier,
    load_examples,
    pooled_vectors,
    table,
    task_lines,
    train_all,
)
from optimus.tasks.judge import Judge


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labeled")
    rows = [f"{label}\t{text}\n" for label, text in labeled_sentences(60, 0, "number")]
    (folder / "train.tsv").write_text("".join(rows[:40]))
    (folder / "test.tsv").write_text("".join(rows[40:]))
    return folder


@pytest.fixture
def smoke(corpus, tmp_path):
    config = PRESETS["smoke"][1]
    data = TaskOptions("labeled", corpus / "train.tsv", corpus / "test.tsv", 32, 4)
    return replace(config, run_dir=tmp_path / "run", data=data, device="cpu")


def test_one_command_gives_means_and_spread_over_seeds(smoke):
    results = train_all(smoke)
    assert [row["amount"] for row in results["rows"]] == [0.5, 1.0]
    for row in results["rows"]:
        values = [
            json.loads(
                (smoke.run_dir / f"fraction_{row['amount']}_seed_{s}/eval_results.json").read_text()
            )["accuracy"]
            for s in (1, 2)
        ]
        assert row["accuracy"] == pytest.approx(np.mean(values))
        assert row["accuracy_deviation"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2))
    assert "±" in table(results)
    assert (smoke.run_dir / "results.md").read_text() == table(results)
    assert Judge.load(smoke.run_dir).predict(["the dogs see a ball in the field ."]).shape == (1,)


@pytest.mark.parametrize("mode", ["feature", "finetune"])
def test_a_resumed_run_equals_an_uninterrupted_one(smoke, tmp_path, mode):
    config = replace(smoke, mode=mode, fractions=(1.0,), seeds=(1,))
    train_all(config)
    halves = replace(config, run_dir=tmp_path / "halves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optimus.runtime.signals.StopSignal.requested", lambda self, step: step == 2)
        with pytest.raises(Exception, match="step 2"):
            train_all(halves)
    train_all(halves)
    name = "fraction_1.0_seed_1/checkpoints/00000004/model.pt"
    one, other = (torch.load(c.run_dir / name, weights_only=True) for c in (config, halves))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_features_are_dumped_in_the_order_of_their_labels_and_drawn(smoke, tmp_path):
    pytest.importorskip("matplotlib")
    train_all(replace(smoke, mode="feature", counts=(2,), seeds=(1,), dump_features=True))
    content = np.load(smoke.run_dir / "features.npz")
    assert content["features"].shape == (20, 64)
    assert len(content["labels"]) == 20
    config = PlotConfig(
        features=smoke.run_dir / "features.npz",
        methods=("isomap", "distance"),
        output_dir=tmp_path / "plots",
    )
    assert [path.name for path in plot(config)] == ["isomap.png", "isomap.html", "distance.png"]
    with pytest.raises(ValueError, match="give either"):
        PlotConfig()


def test_the_weights_that_are_best_on_other_text_are_tested_and_kept(smoke, corpus, monkeypatch):
    data = replace(smoke.data, valid=corpus / "train.tsv")
    config = replace(
        smoke, data=data, fractions=(1.0,), seeds=(1,), max_steps=40, eval_every=2, patience=2
    )
    values = iter([0.4, 0.9, 0.6, 0.5])
    weights = []

    def scored(self):
        weights.append({k: v.clone() for k, v in self.trained.state_dict().items()})
        return {"eval_score": next(values)}

    monkeypatch.setattr(ClassifierTraining, "evaluate", scored)
    train_all(config)
    assert len(weights) == 4  # the second is the best, two more bring nothing
    kept = Judge.load(config.run_dir)
    assert torch.equal(kept.model.classifier.weight, weights[1]["classifier.weight"])
    folder = config.run_dir / "fraction_1.0_seed_1"
    assert torch.equal(
        load_file(folder / BEST)["classifier.weight"], weights[1]["classifier.weight"]
    )
    predictions = kept.predict([row.split("\t")[1] for row in (corpus / "test.tsv").open()])
    labels = [int(row.split("\t")[0] == kept.names[1]) for row in (corpus / "test.tsv").open()]
    scores = json.loads((folder / "eval_results.json").read_text())
    assert scores["accuracy"] == pytest.approx(np.mean(predictions == labels))


def test_held_out_text_is_scored_while_it_trains(smoke, corpus):
    data = replace(smoke.data, valid=corpus / "train.tsv")
    train_all(replace(smoke, data=data, fractions=(1.0,), seeds=(1,), eval_every=2))
    rows = read_metrics(smoke.run_dir / "fraction_1.0_seed_1")
    assert [0 <= row["eval_score"] <= 1 for row in rows if "eval_score" in row] == [True, True]
    with pytest.raises(ValueError, match=r"--eval-every needs --data\.valid, a labelled text"):
        replace(smoke, eval_every=2)


@pytest.fixture
def encoded(monkeypatch):
    """The numbers of examples whose pooled vectors are computed, call by call."""
    calls = []

    def counted(config, model, examples, world):
        calls.append(len(examples))
        return pooled_vectors(config, model, examples, world)

    monkeypatch.setattr("optimus.tasks.classifier.pooled_vectors", counted)
    return calls


def test_a_pretrained_fixed_encoder_reads_labels_and_test_texts_once(smoke, tmp_path, encoded):
    config = replace(smoke, mode="feature", seeds=(1, 2, 3), max_steps=1)
    train_all(config)
    assert [encoded.count(size) for size in (40, 20)] == [3, 9]  # half the labels, and each test
    encoded.clear()
    lines = [text for _, text in labeled_sentences(60, 0, "number")]
    tiny_vae(lines).save_pretrained(tmp_path / "vae")
    model = ModelOptions(latent_dim=6, init=(tmp_path / "vae",))
    train_all(replace(config, run_dir=tmp_path / "pretrained", model=model))
    assert [encoded.count(size) for size in (40, 20)] == [1, 2]


def test_each_seed_can_draw_labels_of_its_own(smoke, monkeypatch):
    drawn = []

    def counted(examples, amount, seed):
        drawn.append((amount, seed))
        return sample_examples(examples, amount, seed)

    monkeypatch.setattr("optimus.tasks.classifier.sample_examples", counted)
    config = replace(smoke, counts=(2,), seeds=(1, 2), max_steps=1)
    train_all(config)
    assert drawn == [(2, 0)]
    drawn.clear()
    train_all(replace(config, run_dir=smoke.run_dir.with_name("trials"), sample_seed=None))
    assert drawn == [(2, 1), (2, 2)]


def test_pooled_vectors_keep_the_order_of_their_examples(smoke):
    tokenizers = train_tokenizers(task_lines(smoke), 400, 400)
    examples = load_examples(smoke, tokenizers)[0]
    model = build_classifier(smoke, tokenizers, examples.outputs)
    world = World(0, 1, torch.device("cpu"))
    found = pooled_vectors(smoke, model, examples, world)
    alone = [pooled_vectors(smoke, model, examples.subset([i]), world) for i in range(40)]
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_mistakes_are_told_in_one_sentence(tmp_path, fails):
    command = ("train-classifier", "smoke", "--device", "cpu", "--run-dir", tmp_path / "run")
    assert "unknown task 'SST'; choose one of" in fails(*command, "--data.task", "SST")
    words = ("--data.task", "RTE", "--data.folder", tmp_path)
    assert "RTE/train.tsv is missing" in fails(*command, *words)
    (tmp_path / "s.text").write_text("a\nb\n")
    (tmp_path / "s.labels").write_text("1\n")
    text = tmp_path / "s.text"
    words = ("--data.task", "labeled", "--data.folder", text, "--data.test", text)
    assert "has 2 lines and" in fails(*command, *words)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least one seed"):
        ClassifierConfig(seeds=())
    with pytest.raises(ValueError, match=r"--fractions must be in \(0, 1\]"):
        ClassifierConfig(fractions=(2.0,))
    with pytest.raises(ValueError, match=r"needs --data\.test"):
        TaskOptions("labeled")


TEXTS = ["a good film .", "a bad film .", "the dog runs in the park and the cat sleeps ."]


@pytest.fixture
def judge():
    tokenizers = train_tokenizers(TEXTS * 4, 80, 290)
    bert = BertConfig(
        vocab_size=tokenizers.encoder_vocab_size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    model = SentenceClassifier(BertModel(bert), 3, pad_token_id=tokenizers.encoder_pad_id)
    return Judge(model, tokenizers, ("a", "b", "c"), max_tokens=8)


def test_batches_change_no_judgement(judge):
    whole, single = (judge.probabilities(TEXTS, batch_size=size) for size in (3, 1))
    np.testing.assert_allclose(whole, single, atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-6)
    assert judge.probabilities([]).shape == (0, 3)


def test_a_judge_is_read_back_from_its_folder(judge, tmp_path):
    judge.save(tmp_path / "model")
    again = Judge.load(tmp_path / "model")
    assert (again.names, again.max_tokens) == (("a", "b", "c"), 8)
    np.testing.assert_allclose(again.probabilities(TEXTS), judge.probabilities(TEXTS), atol=1e-6)
    with pytest.raises(FileNotFoundError, match="does not exist; give the folder"):
        Judge.load(tmp_path / "none")
    weights = tmp_path / "model" / "bert" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["embeddings.word_embeddings.weight"]
    save_file(tensors, weights)
    with pytest.raises(ValueError, match="bert lacks 1 tensors of the network"):
        Judge.load(tmp_path / "model")


def test_texts_that_are_not_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--data.test .* counts with --data.task labeled only"):
        TaskOptions("CoLA", test=tmp_path / "test.text")
