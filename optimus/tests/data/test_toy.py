from dataclasses import replace

import pytest

from optimus.data.toy import (
    VALUES,
    Factors,
    analogies,
    labeled_sentences,
    read_factors,
    realize,
    score_analogies,
    score_factors,
    toy_sentences,
    write_toy,
)

EXAMPLE = Factors("dog", "plural", "see", "past", "ball", "garden")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "the dogs saw a ball in the garden ."),
        ({"number": "singular"}, "the dog saw a ball in the garden ."),
        ({"tense": "present"}, "the dogs see a ball in the garden ."),
        ({"tense": "present", "number": "singular"}, "the dog sees a ball in the garden ."),
        ({"tense": "future", "verb": "carry"}, "the dogs will carry a ball in the garden ."),
    ],
)
def test_factors_make_a_sentence(change, sentence):
    assert realize(replace(EXAMPLE, **change)) == sentence


def test_every_sentence_is_read_back_and_unlike_all_others():
    size = 1
    for values in VALUES.values():
        size *= len(values)
    sentences = toy_sentences(size)
    assert len(set(sentences)) == size
    for sentence in sentences[::97]:
        factors = read_factors(sentence)
        assert realize(factors) == sentence


def test_decoded_text_is_read_and_nonsense_is_not():
    assert read_factors(" The dogs saw  a ball in the garden.") == EXAMPLE
    assert read_factors("the dogs saw in the garden .") is None
    assert read_factors("") is None


def test_the_three_files_share_no_sentence(tmp_path):
    write_toy(tmp_path, seed=3, sizes=(50, 20, 10))
    files = [(tmp_path / f"{n}.txt").read_text().splitlines() for n in ("train", "valid", "test")]
    assert [len(lines) for lines in files] == [50, 20, 10]
    assert len({line for lines in files for line in lines}) == 80
    write_toy(tmp_path / "again", seed=3, sizes=(50, 20, 10))
    assert (tmp_path / "again" / "train.txt").read_text().splitlines() == files[0]
    with pytest.raises(ValueError, match="24576"):
        toy_sentences(30_000)


def test_an_analogy_changes_one_factor():
    items = analogies(30, seed=1, among=("number", "tense", "object"))
    assert {item.factor for item in items} == {"number", "tense", "object"}
    for item in items:
        a, b, c, d = map(read_factors, item[:4])
        value = {item.factor: getattr(b, item.factor)}
        assert replace(a, **value) == b != a
        assert replace(c, **value) == d != c
        assert c != a


def test_analogies_are_scored_by_sentence_and_by_factor():
    items = analogies(4, seed=2)
    answers = [item.expected for item in items]
    assert score_analogies(items, answers) == (1.0, 1.0, 1.0)
    assert score_analogies(items, [item.given for item in items]) == (0.0, 0.0, 1.0)
    assert score_analogies(items, [answers[0], "", "no sentence", items[3].target]) == (
        0.25,
        0.5,
        0.5,
    )


def test_reconstructions_are_scored_factor_by_factor():
    sentence = realize(EXAMPLE)
    other = realize(replace(EXAMPLE, object="kite"))
    scores = score_factors([sentence] * 4, [sentence, other, "nothing", sentence])
    assert scores["exact"] == 0.5
    assert scores["object"] == 0.5
    assert scores["place"] == 0.75
    with pytest.raises(ValueError, match="no sentence"):
        score_factors(["hello"], ["hello"])


def test_labels_are_factors():
    for label, sentence in labeled_sentences(20, seed=1, factor="place"):
        assert VALUES["place"][label] in sentence
    with pytest.raises(ValueError, match="factor must be"):
        labeled_sentences(1, factor="mood")
    with pytest.raises(ValueError, match="factor must be"):
        analogies(1, among=("mood",))
    with pytest.raises(ValueError, match="tense must be"):
        Factors("dog", "plural", "see", "never", "ball", "garden")
