"""The page opens with sentences in the manner of the model's corpus."""

from optimus.data.toy import read_factors, toy_sentences
from optimus.page.examples import ENGLISH, TOY, best_first, examples_for, words_kept


def test_examples_follow_the_manner_of_the_corpus():
    assert examples_for(toy_sentences(9)) is TOY
    assert examples_for(["Tom is here .", "No ."]) == ENGLISH
    lower = examples_for(["tom is here.", "no."])
    assert "the dog is running on the beach." in lower.sentences
    assert ("tom buys a car.", "tom bought a car.") in lower.attributes["past"]
    assert all(len(triple) == 3 for triple in lower.analogies)


def test_examples_of_the_grammar_are_of_it():
    rows = [*TOY.sentences, *(text for row in (*TOY.pairs, *TOY.analogies) for text in row)]
    assert all(read_factors(text) for text in rows)


def test_sentences_of_an_attribute_differ_and_there_are_enough():
    for pairs in ENGLISH.attributes.values():
        assert len(pairs) >= 8
        assert all(a != b for a, b in pairs)


def test_what_the_model_keeps_best_comes_first():
    texts = ["a dog barks .", "the cat sleeps ."]
    assert best_first(texts, lambda _: ["the cat", "the cat sleeps"]) == texts[::-1]
    assert words_kept("A dog barks .", "a dog") == 2 / 3
