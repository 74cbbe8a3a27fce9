"""`optimus score` gives each sentence what `optimus evaluate` gives the corpus."""

import csv
import json

import pytest
from factories import tiny_vae

from optimus.data.toy import toy_sentences
from optimus.tasks.language_scores import EvaluateConfig, evaluate
from optimus.verbs import score as verb
from optimus.verbs.score import ScoreConfig, score

LINES = toy_sentences(20)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_vae(LINES).save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "test.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_the_totals_are_those_of_the_evaluation(model, text, tmp_path):
    totals = score(ScoreConfig(text, tmp_path / "scores.jsonl", model=model, samples=5))
    expected = evaluate(
        EvaluateConfig(model=model, data=tmp_path, samples=5, output_dir=tmp_path / "results")
    )
    shared = totals.keys() & expected.keys()
    assert shared >= {"perplexity", "perplexity_word", "elbo", "kl", "iw_nll", "reconstruction"}
    for name in shared:
        assert totals[name] == pytest.approx(expected[name], rel=1e-5), name
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").open()]
    assert [row["text"] for row in rows] == LINES
    assert sum(row["elbo"] for row in rows) / len(rows) == pytest.approx(totals["elbo"])
    assert list(rows[0]) == list(verb.COLUMNS)


def test_rows_as_cells(model, text, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "CHUNK", 7)
    text.write_text("\n\n".join(LINES))
    totals = score(ScoreConfig(text, tmp_path / "scores.tsv", model=model, samples=2))
    with (tmp_path / "scores.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, dialect="excel-tab"))
    assert [int(row["id"]) for row in rows] == [2 * number for number in range(len(LINES))]
    assert totals["blank"] == len(LINES) - 1
    assert float(rows[0]["iw_nll"]) > 0


def test_a_language_model_has_a_kl_of_zero(caplog):
    vae = tiny_vae(LINES)
    vae.model.encoder = None
    found = vae.score(LINES, 3)
    assert not caplog.text, "nothing is cut for an encoder that is not there"
    assert found.kl.eq(0).all()
    assert found.iw_nll.equal(found.reconstruction)


def test_other_outputs_are_refused(text, model, fails, tmp_path):
    words = ("score", text, "--model", model, "--output", tmp_path / "a.csv")
    assert "must end in one of .jsonl, .tsv" in fails(*words)
    words = ("score", text, "--model", model, "--output", tmp_path / "a.tsv", "--samples", 0)
    assert "--samples must be at least 1" in fails(*words)
