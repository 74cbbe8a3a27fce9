import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from optimus.__main__ import main
from optimus.config import EvaluateConfig, ObjectiveOptions
from optimus.data.tokenizers import load_tokenizers
from optimus.data.toy import toy_sentences, write_toy
from optimus.evaluate import AUTHORS_KEYS, evaluate, main as evaluate_main
from optimus.presets import PRESETS
from optimus.sentence_vae import SentenceVAE
from optimus.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps with three checkpoints."""
    folder = tmp_path_factory.mktemp("evaluate")
    config = PRESETS["smoke"][1]
    config = replace(
        config,
        run_dir=folder / "run",
        data=replace(config.data, folder=write_toy(folder / "toy", sizes=(120, 20, 20))),
        save_every=2,
        keep=3,
        device="cpu",
    )
    train(config)
    return config


def scores(run, **options):
    return evaluate(EvaluateConfig(run_dir=run.run_dir, samples=8, device="cpu", **options))


def test_the_results_hold_every_metric_and_are_written_for_people_and_programs(run):
    results = scores(run)
    assert results["sentences"] == 20
    assert set(AUTHORS_KEYS) < results.keys()
    assert json.loads((run.run_dir / "eval_results.json").read_text()) == results
    text = (run.run_dir / "eval_results.txt").read_text().splitlines()
    assert [line.split(" = ")[0] for line in text] == sorted(AUTHORS_KEYS)


def test_the_metrics_agree_with_each_other(run):
    results = scores(run)
    assert results["elbo"] == pytest.approx(results["reconstruction"] + results["kl"])
    assert results["iw_nll"] <= results["elbo"] + 1e-3
    assert results["nll"] == results["reconstruction"]
    tokenizers = load_tokenizers(run.run_dir / "model/tokenizers")
    lines = (run.data.folder / "test.txt").read_text().splitlines()
    lengths = [len(ids) for ids in tokenizers.encode_decoder(lines)]
    total = results["iw_nll"] * len(lines)
    assert results["perplexity"] == pytest.approx(math.exp(total / sum(lengths)))
    predicted = sum(length - 1 for length in lengths)
    assert results["perplexity_predicted"] == pytest.approx(math.exp(total / predicted))
    words = sum(len(line.split()) + 1 for line in lines)
    assert results["perplexity_word"] == pytest.approx(math.exp(total / words))


def test_neither_batch_size_nor_order_changes_a_result(run):
    whole, single = scores(run), scores(run, batch_size=1)
    assert whole.keys() == single.keys()
    for key in whole.keys() - {"split"}:
        assert whole[key] == pytest.approx(single[key], rel=1e-4, abs=1e-4), key


def test_only_the_first_sentences_are_scored_on_request(run):
    assert scores(run, max_sentences=7, batch_size=3)["sentences"] == 7


def test_another_split_has_a_file_of_its_own(run):
    assert scores(run, split="valid")["split"] == "valid"
    assert (run.run_dir / "eval_results_valid.json").exists()


def test_a_model_without_a_run_is_scored_on_a_named_corpus(run, tmp_path):
    config = EvaluateConfig(
        model=run.run_dir / "model", data=run.data.folder, samples=2, output_dir=tmp_path
    )
    assert evaluate(config)["sentences"] == 20
    assert (tmp_path / "eval_results.json").exists()


def test_the_reconstruction_study_scores_every_checkpoint(run):
    results = scores(run, reconstruction_study=True)
    steps = [2, 4, 6]
    assert set(results) == {f"rec_{kind}_{step}" for kind in "sw" for step in steps}
    vae = SentenceVAE.from_pretrained(run.run_dir / "model")
    final = torch.load(run.run_dir / "checkpoints/00000006/model.pt", weights_only=True)
    assert torch.equal(final["encoder.head.weight"], vae.model.encoder.head.weight)


def test_a_language_model_is_scored_in_both_conventions(run, tmp_path):
    config = replace(
        run,
        run_dir=tmp_path / "lm",
        model=replace(run.model, inject="none"),
        objective=ObjectiveOptions(kind="language-model"),
        max_steps=2,
    )
    train(config)
    results = evaluate(EvaluateConfig(run_dir=config.run_dir, device="cpu"))
    assert 1 < results["perplexity"] < results["perplexity_predicted"]
    assert results["perplexity_predicted"] < results["perplexity_without_ends"]
    assert {"perplexity_of_means", "perplexity_word"} <= results.keys()


def test_generated_text_is_scored_by_bleu(tmp_path, capsys):
    lines = toy_sentences(12)
    (tmp_path / "fake.txt").write_text("\n".join(lines[:4]) + "\n")
    (tmp_path / "real.txt").write_text("\n".join(lines) + "\n")
    evaluate_main(
        ["--generated", str(tmp_path / "fake.txt"), "--references", str(tmp_path / "real.txt")]
    )
    results = json.loads((tmp_path / "bleu_results.json").read_text())
    assert results["bleu_5"] == pytest.approx(1.0)
    assert 0 < results["self_bleu_5"] < 1
    assert "| bleu_5 | 1.0000 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--run-dir", "nowhere"], "no model folder"),
        (["--model", "MODEL"], "--data is missing"),
        (["--model", "MODEL", "--data", "nowhere"], "nowhere has no test.txt"),
        (["--generated", "nowhere", "--references", "nowhere"], "no text file nowhere"),
    ],
)
def test_bad_input_is_one_sentence(run, words, expected, capsys):
    words = [str(run.run_dir / "model") if word == "MODEL" else word for word in words]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *words])
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


def test_an_empty_split_is_one_sentence(run, tmp_path):
    (tmp_path / "test.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="no usable sentence"):
        scores(run, data=Path(tmp_path))
