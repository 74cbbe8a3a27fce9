"""The measures of paths and analogies, with a model of which every answer is known."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evidence"))

import guided_generation as guided

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Counting:
    """A latent is a number n; its sentence has the words n to n + 3."""

    def encode(self, texts):
        return torch.tensor([[float(WORDS.index(text.split()[0]))] for text in texts])

    def decode(self, latents):
        starts = [round(float(one)) for one in latents[:, 0]]
        return [" ".join(WORDS[start : start + 4]) for start in starts]


class Silent(Counting):
    def decode(self, latents):
        return [""] * len(latents)


def test_a_path_in_order_is_smoother_than_its_sentences_in_another_order():
    scores = guided.paths(Counting(), ["one", "six"], None)
    assert scores["paths"] == 1
    assert scores["alike, neighbours"] > scores["alike, another order"]
    assert scores["order"] > 0.9
    assert scores["alike, the two ends"] == 0


def test_a_model_that_says_nothing_has_no_order():
    scores = guided.paths(Silent(), ["one", "six"], None)
    assert (scores["order"], scores["largest jump"], scores["different sentences"]) == (0, 0, 1)


def test_words_count_as_often_as_they_come():
    assert guided.alike("a b b", "b b c") == pytest.approx(2 / 3)
    assert guided.alike("", "a") == 0
    assert guided.alike("", "") == 1


@pytest.mark.parametrize(
    ("style", "name", "reached", "missed"),
    [
        ("tatoeba", "he to she", "She left.", "He left."),
        ("tatoeba", "negation", "I don't know.", "I know."),
        ("tatoeba", "question", "Is he here?", "He is here."),
        ("tatoeba", "past", "He was here.", "He is here."),
        ("snli", "man to woman", "the old woman reads.", "a young man reads."),
        ("snli", "one to two", "two dogs play.", "a dog plays."),
        ("snli", "sitting to running", "a boy stands while girls run.", "a boy is standing."),
        ("snli", "outside", "a boy plays outdoors.", "a boy plays."),
    ],
)
def test_a_relation_is_seen_where_it_is_and_its_pairs_have_it(style, name, reached, missed):
    relation = guided.RELATIONS[style][name]
    assert not relation.lacks(reached)
    assert relation.has(reached)
    assert not relation.has(missed)
    assert relation.lacks(missed)
    for source, target in relation.pairs:
        assert not relation.has(source), source
        assert relation.has(target), target


def test_a_file_of_one_sentence_is_refused(tmp_path, capsys):
    (tmp_path / "one.txt").write_text("He is here.\n")
    with pytest.raises(SystemExit):
        guided.main(["--run-dir", "none", "--text", str(tmp_path / "one.txt")])
    assert "needs two sentences at least" in capsys.readouterr().err
