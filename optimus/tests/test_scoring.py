import json
import math

import numpy as np
import pytest
import torch
from factories import close, recorded_model, tiny_batch, tiny_model
from torch.distributions import Normal

from optimus.scoring import importance_scores, language_model_nll


def recorded_sentences(folder):
    batches = np.load(folder / "eval_batches.npz")
    for number in sorted({int(name.split("/")[0]) for name in batches}):
        yield number, *(torch.from_numpy(batches[f"{number}/{key}"]) for key in ("bert", "gpt2"))


@pytest.mark.golden
def test_importance_weighted_perplexity_is_the_authors(golden_kind):
    folder = golden_kind("vae_trained", "metrics.npz", "metrics.json")
    model, recorded = recorded_model(folder), json.loads((folder / "metrics.json").read_text())
    noise = np.load(folder / "metrics.npz")["iwnll_eps"]
    marginal, kl, nll, tokens = [], [], [], 0
    for number, encoder_ids, decoder_ids in recorded_sentences(folder):
        eps = torch.from_numpy(noise[number]).reshape(1, -1, noise.shape[-1])
        scores = importance_scores(model, encoder_ids, decoder_ids, eps=eps, mask_padding=False)
        marginal.append(scores.log_marginal().item())
        kl.append(scores.kl.item())
        nll.append(-scores.log_likelihood.mean().item())
        tokens += decoder_ids.numel()
    close(math.exp(-sum(marginal) / tokens), recorded["perplexity"])
    close(np.mean(kl) + np.mean(nll), recorded["elbo"])
    close(np.mean(nll), recorded["nll"])
    close(np.mean(kl), recorded["kl"])


@pytest.mark.golden
def test_a_padded_batch_is_scored_as_the_authors_do(golden_kind):
    folder = golden_kind("vae_trained", "metrics.npz")
    model, recorded = recorded_model(folder), np.load(folder / "metrics.npz")
    chunks, batch, samples, latent_dim = recorded["loss_iw_b4/eps"].shape
    eps = torch.from_numpy(recorded["loss_iw_b4/eps"]).transpose(0, 1)
    lines = json.loads(next(folder.glob("cached_*.json")).read_text())[:batch]
    ids = [
        torch.nn.utils.rnn.pad_sequence([torch.tensor(line[key]) for line in lines], True, pad)
        for key, pad in (
            ("bert_token", model.config.encoder_pad_token_id),
            ("gpt2_token", model.config.pad_token_id),
        )
    ]
    noise = eps.reshape(batch, chunks * samples, latent_dim)
    scores = importance_scores(model, *ids, eps=noise, mask_padding=False)
    close(scores.kl, recorded["loss_iw_b4/kl"])
    close(scores.log_marginal(), recorded["loss_iw_b4/log_prob_iw"])
    close(scores.log_likelihood.mean(dim=1), recorded["loss_iw_b4/log_gen"])


@pytest.mark.golden
def test_reconstruction_is_the_authors(golden_kind):
    folder = golden_kind("vae_trained", "metrics.npz", "metrics.json")
    model, recorded = recorded_model(folder), json.loads((folder / "metrics.json").read_text())
    noise = np.load(folder / "metrics.npz")["rec_eps"]
    losses, tokens = [], 0
    for number, *ids in recorded_sentences(folder):
        with torch.no_grad():
            losses.append(model(*ids, eps=torch.from_numpy(noise[number])[None]).reconstruction)
        tokens += ids[1].numel()
    close(torch.cat(losses).mean(), recorded["rec_s"])
    close(torch.cat(losses).sum() / tokens, recorded["rec_w"])


@pytest.mark.golden
def test_the_language_model_baseline_is_the_authors(golden_kind):
    folder = golden_kind("vae_trained", "gpt2_baseline.json")
    recorded = json.loads((folder / "gpt2_baseline.json").read_text())
    model = recorded_model(folder)
    found = [language_model_nll(model, ids).item() for _, _, ids in recorded_sentences(folder)]
    close(found, recorded["loss_per_sentence"])


def test_weights_are_those_of_torch_distributions():
    model = tiny_model()
    encoder_ids, decoder_ids = tiny_batch(model)
    scores = importance_scores(model, encoder_ids, decoder_ids, num_samples=5)
    posterior = Normal(scores.mean[:, None], (0.5 * scores.logvar).exp()[:, None])
    prior = Normal(0.0, 1.0).log_prob(scores.latent).sum(dim=-1)
    density = posterior.log_prob(scores.latent).sum(dim=-1)
    for k in range(5):
        nll = model.decoder.nll(decoder_ids, scores.latent[:, k])
        torch.testing.assert_close(scores.log_likelihood[:, k], -nll, rtol=1e-4, atol=1e-4)
    expected = (scores.log_likelihood + prior - density).double()
    torch.testing.assert_close(scores.log_weight, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk_tokens", [1, 30, 10**6])
def test_chunks_change_nothing(chunk_tokens):
    model = tiny_model()
    batch = tiny_batch(model)
    eps = torch.randn(3, 7, 6)
    whole = importance_scores(model, *batch, eps=eps)
    parts = importance_scores(model, *batch, eps=eps, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(parts.log_weight, whole.log_weight, rtol=1e-4, atol=1e-4)


def test_more_samples_tighten_the_bound_on_average():
    model = tiny_model(spread=3.0)
    batch = tiny_batch(model)
    scores = importance_scores(model, *batch, num_samples=400)
    assert (scores.log_marginal() >= scores.log_weight.mean(dim=1)).all()
