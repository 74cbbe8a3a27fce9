import numpy as np
import pytest
import torch
from factories import close, recorded_model, tiny_batch, tiny_model

from optimus.models.encoder import Posterior


@pytest.mark.golden
def test_the_posterior_agrees_with_the_authors_with_and_without_mask(golden_kind):
    folder = golden_kind("vae_random", "encoder_out.npz")
    model = recorded_model(folder)
    expected = np.load(folder / "encoder_out.npz")
    ids = torch.from_numpy(np.load(folder / "inputs.npz")["x0"])
    with torch.no_grad():
        masked, bare = model.encode(ids), model.encode(ids, mask_padding=False)
        kinds = torch.from_numpy(expected["token_type_ids"])
        segments = model.encoder.pooled(ids, ids > 0, kinds)
        pooled = model.encoder.pooled(ids, ids > 0)
    close(masked.mean, expected["mu"])
    close(masked.logvar, expected["logvar"])
    close(bare.mean, expected["mu_nomask"])
    close(bare.logvar, expected["logvar_nomask"])
    close(pooled, expected["pooled"])
    close(segments, expected["pooled_token_type"])


def test_samples_have_the_posterior_moments():
    posterior = Posterior(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]]))
    samples = posterior.sample(num_samples=20000)[0]
    torch.testing.assert_close(samples.mean(dim=0), posterior.mean[0], atol=0.1, rtol=0)
    torch.testing.assert_close(samples.var(dim=0).log(), posterior.logvar[0], atol=0.1, rtol=0)


def test_given_noise_is_used_as_it_is():
    posterior = Posterior(torch.zeros(2, 3), torch.full((2, 3), 2.0).log() * 2)
    eps = torch.randn(2, 4, 3)
    torch.testing.assert_close(posterior.sample(eps), 2 * eps)


def test_padding_changes_nothing():
    model = tiny_model()
    ids, _ = tiny_batch(model)
    more = torch.nn.functional.pad(ids, (0, 5))
    torch.testing.assert_close(model.encode(more).mean, model.encode(ids).mean)


def test_the_head_stays_in_float32_under_autocast():
    model = tiny_model()
    ids, _ = tiny_batch(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = model.encode(ids)
    assert posterior.mean.dtype == posterior.logvar.dtype == torch.float32


def test_an_overlong_sentence_is_named():
    model = tiny_model()
    with pytest.raises(ValueError, match="41 encoder tokens exceeds the encoder's 40 positions"):
        model.encode(torch.ones(1, 41, dtype=torch.long))
