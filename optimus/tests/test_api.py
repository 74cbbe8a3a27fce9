import json

import numpy as np
import pytest
import torch
from factories import close, is_recorded, recorded_model, tiny_model, tiny_vae

from optimus.api import SentenceVAE
from optimus.data.tokenizers import load_tokenizers
from optimus.decoding import Sampling

CLEAN = Sampling(clean=True)  # the recorded texts were


@pytest.fixture
def vae(golden_kind):
    folder = golden_kind("vae_trained", "generation_texts.json")
    tokenizers = load_tokenizers(golden_kind("toy_tokenizer"))
    return SentenceVAE(recorded_model(folder), tokenizers)


@pytest.fixture
def recorded(golden_kind):
    folder = golden_kind("vae_trained", "generation.npz")
    texts = json.loads((folder / "generation_texts.json").read_text())
    return texts, np.load(folder / "generation.npz")


@pytest.mark.golden
def test_encoding_and_decoding_agree_with_the_authors(vae, recorded):
    texts, arrays = recorded
    latents = vae.encode(texts["sentences"], batch_size=5)
    decoded = vae.decode(torch.from_numpy(arrays["z"]), CLEAN)
    close(latents, arrays["z"])
    again = vae.reconstruct(texts["sentences"], CLEAN, batch_size=5)
    for number, theirs in enumerate(texts["greedy_text"]):
        cut = vae.tokenizers.eos_id not in arrays[f"greedy_ids/{number}"]
        assert is_recorded(decoded[number], theirs, cut=cut)
        assert is_recorded(again[number], theirs, cut=cut)


@pytest.mark.golden
def test_interpolations_and_analogies_are_the_authors(vae, recorded):
    texts, arrays = recorded
    decoded = vae.decode(torch.from_numpy(arrays["interp_z"]), CLEAN)
    for ours, theirs in zip(decoded, texts["interpolate"], strict=True):
        assert ours == theirs or is_recorded(ours, theirs, cut=True)
    limit = Sampling(max_new_tokens=47, clean=True)
    for name in (n for n in arrays if n.startswith("analogy_z_")):
        degree = name.removeprefix("analogy_z_")
        ours, theirs = vae.decode(torch.from_numpy(arrays[name]), limit)[0], f"analogy_{degree}"
        # A sentence stopped by their bound before its EOS has lost its last words.
        assert ours == texts[theirs] or ours.startswith(f"{texts[theirs]} ")


@pytest.mark.golden
def test_a_saved_vae_is_read_back_the_same(vae, recorded, tmp_path):
    texts, _ = recorded
    vae.save_pretrained(tmp_path)
    again = SentenceVAE.from_pretrained(tmp_path)
    assert torch.equal(again.encode(texts["sentences"]), vae.encode(texts["sentences"]))
    assert again.reconstruct(texts["sentences"][:2]) == vae.reconstruct(texts["sentences"][:2])


@pytest.mark.golden
def test_the_batch_does_not_matter(vae, recorded):
    sentences = recorded[0]["sentences"]
    single = torch.cat([vae.encode([text]) for text in sentences])
    torch.testing.assert_close(vae.encode(sentences, batch_size=4), single, rtol=1e-4, atol=1e-5)
    assert vae.encode([]).shape == (0, vae.model.config.latent_dim)
    assert vae.decode(torch.zeros(0, vae.model.config.latent_dim)) == []


@pytest.mark.golden
def test_words_for_vectors(vae, recorded):
    first, second, third = recorded[0]["sentences"][:3]
    assert vae.interpolate(first, second, 3)[0] == vae.reconstruct([first])[0]
    assert len(vae.interpolate(first, second, 3, steps="interactive")) == 5
    moved = vae.analogy(first, first, [second, third])
    assert moved == vae.reconstruct([second, third])
    assert len(vae.sample(4, generator=torch.Generator().manual_seed(1))) == 4
    center = vae.encode([first])[0]
    assert vae.sample(2, scale=0.0, center=center) == vae.reconstruct([first]) * 2


@pytest.mark.golden
def test_tokenizers_of_another_model_are_refused(vae):
    with pytest.raises(ValueError, match="they are not of one model"):
        SentenceVAE(tiny_model(), vae.tokenizers)


def test_an_incomplete_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        SentenceVAE.from_pretrained(tmp_path)
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"bert/vocab\.txt"):
        SentenceVAE.from_pretrained(tmp_path)


@pytest.mark.golden
def test_a_language_model_is_sampled_without_latents(golden_kind):
    folder = golden_kind("vae_trained", "generation_texts.json")
    model = recorded_model(folder, inject="none")
    language_model = SentenceVAE(model, load_tokenizers(golden_kind("toy_tokenizer")))
    drawn = language_model.sample(5, Sampling(strategy="sample"), batch_size=2)
    assert len(drawn) == 5
    assert len(set(drawn)) > 1
    with pytest.raises(ValueError, match="has no encoder"):
        language_model.encode(["a dog"])


def test_a_string_is_one_sentence_and_a_vector_one_row():
    vae = tiny_vae(["the dog barks .", "a cat sleeps ."] * 4)
    latent = vae.encode("the dog barks .")
    assert latent.shape == (1, 6)
    torch.testing.assert_close(latent, vae.encode(["the dog barks ."]))
    assert vae.decode(latent[0]) == vae.decode(latent.numpy()) == vae.reconstruct("the dog barks .")
    assert len(vae.analogy("the dog", "a cat", "the dog barks .")) == 1
    for wrong in (torch.zeros(2, 5), latent * torch.nan):
        with pytest.raises(ValueError, match=r"must be finite numbers of the shape \(N, 6\)"):
            vae.decode(wrong)


def test_the_package_gives_the_class():
    import optimus

    assert optimus.SentenceVAE is SentenceVAE
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = optimus.Nothing


def test_text_is_cleaned_where_it_is_asked_for_only():
    vae = tiny_vae(["I do not know ."] * 8)
    ids = vae.tokenizers.encode_decoder(["I do not know , is n't it ?"])[0]
    assert vae.tokenizers.decode(ids) == "I do not know , is n't it ?"
    assert vae.tokenizers.decode(ids, clean=True) == "I don't know, isn't it?"


def test_counts_that_make_no_sense_are_named():
    vae = tiny_vae(["the dog barks ."] * 8)
    for call, name in (
        (lambda: vae.sample(-1), "count"),
        (lambda: vae.encode(["a", "b"], batch_size=-1), "batch_size"),
        (lambda: vae.decode(torch.zeros(2, 6), batch_size=0), "batch_size"),
        (lambda: vae.interpolate("a", "b", 0), "steps"),
        (lambda: vae.sample(2, center=torch.zeros(5)), "center"),
    ):
        with pytest.raises(ValueError, match=f"{name} must "):
            call()


def test_a_center_may_be_an_array():
    vae = tiny_vae(["the dog barks ."] * 8)
    center = vae.encode("the dog barks .")[0]
    assert vae.sample(1, scale=0.0, center=center.numpy()) == vae.decode(center)
