import json
import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from factories import close, is_recorded, recorded_model, tiny_model, tiny_vae
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import cdist
from torch.distributions import Normal

from optimus.api import SentenceVAE
from optimus.data.tokenizers import load_tokenizers
from optimus.decoding import Sampling, generate
from optimus.directions import Direction
from optimus.metrics.latent import sentence_noise

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
    for name in (n for n in arrays if n.startswith("analogy_z_")):
        degree = name.removeprefix("analogy_z_")
        (ours,) = vae.decode(torch.from_numpy(arrays[name]), CLEAN)
        theirs = texts[f"analogy_{degree}"]
        assert ours == theirs or is_recorded(ours, theirs, cut=True)  # their bound is not recorded


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


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.zeros(2, 5), r"of the shape \(N, 6\) or \(6,\), got \(2, 5\)"),
        (np.zeros(5), r"of the shape \(N, 6\) or \(6,\), got \(5,\)"),
        (torch.zeros(1, 2, 6), r"got \(1, 2, 6\)"),
        (torch.zeros(3, 6).index_fill(0, torch.tensor([1]), torch.nan), "row 1 of 3 is not"),
        (["a dog", "a cat"], "a tensor or an array of numbers, got list"),
    ],
)
def test_latents_that_are_none_are_named(latents, message):
    with pytest.raises(ValueError, match=message):
        tiny_vae(["the dog barks ."] * 8).decode(latents)


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


LINES = ["the dog barks .", "a cat sleeps on the old sofa .", "dogs bark", "the cat", "a big dog ."]


@pytest.fixture(scope="module")
def tiny():
    return tiny_vae(LINES * 4)


def test_encode_gives_what_is_asked_for(tiny, capsys):
    mean, logvar = tiny.posterior(LINES, batch_size=2)
    assert torch.equal(tiny.encode(LINES, 2), mean)
    assert torch.equal(tiny.encode(LINES, 2, output="logvar"), logvar)
    assert mean.shape == (len(LINES), tiny.latent_dim)
    array = tiny.encode(LINES, 2, as_numpy=True)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, mean.numpy())
    lengths = tiny.encode(LINES, normalize=True).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(len(LINES)))
    assert not capsys.readouterr().err
    tiny.encode(LINES, progress=True)
    assert "5/5" in capsys.readouterr().err
    with pytest.raises(ValueError, match="output must be mean, logvar or sample, got 'z'"):
        tiny.encode(LINES, output="z")
    with pytest.raises(ValueError, match="number 1 is 3"):
        tiny.encode(["a dog", 3])


def test_samples_of_the_posterior_have_its_spread(tiny):
    noise = torch.Generator().manual_seed(0)
    drawn = tiny.encode(["the dog barks ."] * 4000, output="sample", generator=noise)
    mean, logvar = (rows[0] for rows in tiny.posterior("the dog barks ."))
    torch.testing.assert_close(drawn.mean(dim=0), mean, rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.var(dim=0).log(), logvar, rtol=0, atol=0.1)


def test_weights_that_are_not_finite_are_told():
    vae = tiny_vae(LINES)
    vae.model.encoder.head.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="latents that are not finite"):
        vae.encode("a dog")


def test_neighbours_are_the_nearest_by_either_measure(tiny):
    latents = tiny.encode(LINES)
    for measure in ("euclidean", "cosine"):
        expected = cdist(latents, latents, measure)
        found = tiny.neighbours(LINES, LINES, 3, latents=latents.numpy(), measure=measure)
        for row, distances in zip(found, expected, strict=True):
            assert [one.number for one in row] == distances.argsort()[:3].tolist()
            assert [one.text for one in row] == [LINES[one.number] for one in row]
            assert [one.distance for one in row] == pytest.approx(sorted(distances)[:3], abs=1e-5)
    (row,) = tiny.neighbours("dogs bark", LINES, 9)
    assert len(row) == len(LINES)
    with pytest.raises(ValueError, match="one row for each of the 5 texts, got 2"):
        tiny.neighbours("a", LINES, latents=latents[:2])


def test_scores_agree_with_sums_over_the_samples(tiny):
    scores = tiny.score(LINES, 3, batch_size=2, seed=7)
    for number, text in enumerate(LINES):
        mean, logvar = (rows[0] for rows in tiny.posterior(text))
        posterior = Normal(mean, (logvar / 2).exp())
        eps = sentence_noise([number], 4, tiny.latent_dim, 7)[0, 1:]
        z = posterior.mean + posterior.stddev * eps
        ids = torch.tensor(tiny.tokenizers.encode_decoder([text]))
        with torch.no_grad():
            nll = tiny.model.decoder.nll(ids.expand(3, -1), z).double()
        weight = -nll + (Normal(0.0, 1.0).log_prob(z) - posterior.log_prob(z)).sum(1).double()
        expected = nll.mean(), -(weight.logsumexp(0) - math.log(3))
        found = scores.reconstruction[number], scores.iw_nll[number]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert scores.tokens[number] == ids.shape[1]
        assert scores.words[number] == len(text.split())
    torch.testing.assert_close(scores.elbo, scores.reconstruction + scores.kl)
    later = tiny.score(LINES[2:], 3, seed=7, first=2)
    for whole, part in zip(scores, later, strict=True):
        torch.testing.assert_close(whole[2:], part, rtol=1e-5, atol=1e-5)


def test_what_is_longer_than_the_positions_is_cut_and_said(tiny, caplog):
    long = "the dog barks . " * 30
    assert tiny.encode([long, "a dog"]).isfinite().all()
    assert "1 sentences have more than the encoder's 40 tokens: cut" in caplog.text
    assert tiny.score([long], 2).tokens.tolist() == [39]


def test_a_direction_leads_to_sentences_that_have_it(tiny):
    direction = tiny.direction(LINES[:2], LINES[2:], name="long")
    latents = tiny.encode(LINES)
    moved = direction.move(latents[2:].mean(dim=0, keepdim=True), 1.0)
    torch.testing.assert_close(moved[0], latents[:2].mean(dim=0))
    assert tiny.move(LINES, direction, 0.0) == tiny.reconstruct(LINES)
    with pytest.raises(ValueError, match="of 3 dimensions, the latents have 6"):
        tiny.move("a", Direction(torch.ones(3)))


def test_a_model_moves_between_devices(tiny):
    assert tiny.to("cpu") is tiny
    assert tiny.device == torch.device("cpu")
    with pytest.raises(ValueError, match="--device tpu: choose one of"):
        tiny.to("tpu")


def test_auto_classes_give_the_model_after_import_optimus(tiny, tmp_path):
    tiny.save_pretrained(tmp_path)
    code = (
        "import sys, optimus\nassert 'torch' not in sys.modules\n"
        "from transformers import AutoConfig, AutoModel\n"
        f"model = AutoModel.from_pretrained({str(tmp_path)!r})\n"
        f"print(type(model).__name__, AutoConfig.from_pretrained({str(tmp_path)!r}).latent_dim)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["OptimusModel", "6"], done.stderr


def test_a_model_goes_to_the_hub_and_comes_back(tiny, tmp_path, monkeypatch):
    class Hub:
        def create_repo(self, name, **_):
            assert name == "me/vae"

        def upload_folder(self, repo_id, folder_path, **_):
            shutil.copytree(folder_path, tmp_path / "hub")
            return SimpleNamespace(commit_url="https://hub/1")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: tmp_path / "hub")
    assert tiny.push_to_hub("me/vae") == "https://hub/1"
    again = SentenceVAE.from_hub("me/vae")
    assert torch.equal(again.encode(LINES), tiny.encode(LINES))

    def refuse(*_, **__):
        raise RuntimeError("no network\nmore")

    monkeypatch.setattr(Hub, "create_repo", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(OSError, match=r"could not send me/vae to the hub: no network$"):
        tiny.push_to_hub("me/vae")
    with pytest.raises(OSError, match=r"could not fetch me/vae from the hub: no network$"):
        SentenceVAE.from_hub("me/vae")


@pytest.fixture(scope="module")
def small():
    return tiny_vae(["a dog is in the park .", "the cat sits ."] * 5)


@pytest.mark.parametrize("texts", [5, None, b"abc", {"a": 1}, ["a", 5], ["a", None], np.array("a")])
def test_what_is_no_text_is_named(small, texts):
    for call in (small.encode, small.score, small.reconstruct):
        with pytest.raises((TypeError, ValueError), match="texts must be"):
            call(texts)


def test_a_folder_inside_a_model_is_told_which_to_give(small, tmp_path):
    small.save_pretrained(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"no config\.json; give .*model$"):
        SentenceVAE.from_pretrained(tmp_path / "model/tokenizers")


def test_half_a_character_is_named(small):
    with pytest.raises(ValueError, match=r"number 1 holds half a character .*decode"):
        small.encode(["a", "b\ud800"])


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_latents_that_overflow_the_decoder_are_refused(small, strategy):
    with pytest.raises(ValueError, match="too large for its arithmetic"):
        small.decode(np.full(6, 1e30), Sampling(strategy))
    with pytest.raises(ValueError, match="too large for its arithmetic"):
        generate(small.model, torch.full((1, 6), 1e30), Sampling(strategy), static=True)


@pytest.mark.parametrize("number", [2.5, "2", True])
def test_counts_are_whole_numbers(small, number):
    for name, call in (
        ("batch_size", lambda: small.encode("a", number)),
        ("batch_size", lambda: small.decode(np.zeros(6), batch_size=number)),
        ("num_steps", lambda: small.interpolate("a", "b", number)),
        ("count", lambda: small.sample(number)),
        ("count", lambda: small.neighbours("a", ["b"], number)),
        ("num_samples", lambda: small.score("a", number)),
        ("--decoding.max-new-tokens", lambda: Sampling(max_new_tokens=number)),
    ):
        with pytest.raises(TypeError, match=f"{name} must be a whole number, got"):
            call()


def test_other_arguments_of_a_wrong_kind_are_named(small):
    for problem, call in (
        ("sampling must be a Sampling", lambda: small.decode(np.zeros(6), "greedy")),
        ("scale must be a number", lambda: small.sample(1, scale="a")),
        ("scale must be finite", lambda: small.sample(1, scale=math.nan)),
        ("degree must be a number", lambda: small.analogy("a", "b", "c", None)),
        ("direction must be a Direction", lambda: small.move("a", "b")),
        ("steps must be dataset or", lambda: small.interpolate("a", "b", 2, steps="foo")),
        ("texts are empty", lambda: small.neighbours("a", [])),
        ("latents must be real numbers", lambda: small.decode(torch.ones(6, dtype=torch.bool))),
        ("clean must be True or False", lambda: Sampling(clean="no")),
    ):
        with pytest.raises((TypeError, ValueError), match=problem):
            call()
    assert small.analogy("a", "b", []) == []


def test_a_model_is_not_saved_over_a_file_or_a_run(small, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    for place in ("file", "file/below", "run"):
        with pytest.raises(ValueError, match=r"give (another place|a new folder)"):
            small.save_pretrained(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "run" / "config.json").read_text() == "{}"
    small.save_pretrained(tmp_path / "new" / "one")
    assert SentenceVAE.from_pretrained(tmp_path / "new" / "one").latent_dim == small.latent_dim


def test_weights_with_a_tensor_too_few_or_of_another_shape_are_refused(small, tmp_path):
    small.save_pretrained(tmp_path)
    file, name = tmp_path / "model.safetensors", "decoder.memory.weight"
    lacking = {key: one for key, one in load_file(file).items() if key != name}
    for tensors in (lacking, {**lacking, name: torch.zeros(3, 3)}):
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"lacks 1 tensors .* such as decoder\.memory\.weight"):
            SentenceVAE.from_pretrained(tmp_path)
