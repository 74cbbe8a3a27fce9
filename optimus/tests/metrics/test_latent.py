import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from transformers import BertConfig, BertModel

from optimus.metrics.latent import (
    active_units,
    baseline_perplexity,
    gaussian_log_density,
    importance_log_weights,
    likelihood_report,
    log_marginal,
    mutual_information,
    reconstruction_report,
)

TOLERANCE = 1e-4  # |a - b| <= TOLERANCE * (1 + |b|): float32 scores of the recorded code


def near(value):
    return pytest.approx(value, abs=TOLERANCE * (1 + abs(value)))


def recorded_posteriors(folder):
    """Means and log-variances (N, Z) of the recorded sentences, by HF's BERT and a matrix."""
    config = BertConfig(**json.loads((folder / "config_encoder.json").read_text()))
    weights = load_file(folder / "weights_encoder.safetensors")
    head = weights.pop("linear.weight")
    bert = BertModel(config).eval()
    problems = bert.load_state_dict(weights, strict=False)
    assert not problems.unexpected_keys
    arrays = np.load(folder / "eval_batches.npz")
    pooled = []
    with torch.no_grad():
        for number in range(len({key.split("/")[0] for key in arrays})):
            ids = torch.from_numpy(arrays[f"{number}/bert"])
            pooled.append(bert(ids).pooler_output)
    return (torch.cat(pooled) @ head.T).chunk(2, dim=1)


@pytest.mark.golden
def test_mutual_information_active_units_and_kl_are_the_recorded_ones(golden_kind):
    folder = golden_kind("vae_trained", "metrics.json", "metrics.npz")
    expected = json.loads((folder / "metrics.json").read_text())
    arrays = np.load(folder / "metrics.npz")
    mean, logvar = recorded_posteriors(folder)
    eps = torch.from_numpy(arrays["mi_eps"]).squeeze(1)
    z = mean + (0.5 * logvar).exp() * eps
    assert mutual_information(mean, logvar, z) == near(expected["mi"])
    units = active_units(mean)
    assert units.count == expected["au"]
    np.testing.assert_allclose(units.variance, arrays["au_var"], rtol=TOLERANCE, atol=TOLERANCE)
    kl = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(dim=1)
    assert float(kl.mean()) == near(expected["kl"])
    assert expected["elbo"] == near(expected["nll"] + expected["kl"])


@pytest.mark.golden
def test_baseline_perplexities_are_the_recorded_ones(golden_kind):
    folder = golden_kind("vae_trained", "gpt2_baseline.json")
    case = json.loads((folder / "gpt2_baseline.json").read_text())
    nll = torch.tensor(case["loss_per_sentence"])
    ours = baseline_perplexity(nll, torch.tensor(case["lengths_incl_bos_eos"]))
    assert ours.of_means == near(case["perplexity1"])
    assert ours.of_totals == near(case["perplexity2"])


def posteriors(count=40, dim=3):
    return torch.randn(count, dim), torch.randn(count, dim) - 1


def test_the_density_agrees_with_torch_distributions():
    mean, logvar = posteriors()
    z = torch.randn(40, 3)
    expected = Normal(mean, (0.5 * logvar).exp()).log_prob(z).sum(dim=1)
    torch.testing.assert_close(gaussian_log_density(z, mean, logvar), expected)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_mutual_information_agrees_with_torch_distributions(chunk):
    mean, logvar = (x.double() for x in posteriors())
    each = Independent(Normal(mean, (0.5 * logvar).exp()), 1)
    z = each.sample()
    mixture = MixtureSameFamily(Categorical(torch.ones(40, dtype=torch.double)), each)
    expected = float(-each.entropy().mean() - mixture.log_prob(z).mean())
    assert mutual_information(mean, logvar, z, chunk) == pytest.approx(expected, abs=1e-9)


def test_mutual_information_has_its_two_limits():
    far = torch.eye(16) * 1000
    tight = torch.full((16, 16), -4.0)
    z = far + (0.5 * tight).exp() * torch.randn(16, 16)
    assert mutual_information(far, tight, z) == pytest.approx(math.log(16), abs=3)
    same = torch.zeros(500, 2)
    assert mutual_information(same, same, torch.randn(500, 2)) == pytest.approx(0, abs=0.2)


def test_importance_weighting_finds_the_marginal_of_a_linear_gaussian_model():
    # x | z ~ N(z, 1), z ~ N(0, 1): the posterior is N(x / 2, 1 / 2) and p(x) = N(0, 2)
    x = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.double)
    mean, logvar = x / 2, torch.full_like(x, math.log(0.5))
    z = mean[:, None] + math.sqrt(0.5) * torch.randn(3, 5, 1, dtype=torch.double)
    likelihood = Normal(z, 1.0).log_prob(x[:, None]).sum(dim=2)
    weights = importance_log_weights(likelihood, z, mean, logvar)
    expected = Normal(0.0, math.sqrt(2)).log_prob(x)  # the exact posterior has no variance
    torch.testing.assert_close(weights, expected.expand(3, 5))
    torch.testing.assert_close(log_marginal(weights), expected[:, 0])


def test_the_report_has_three_denominators():
    weights = torch.full((2, 4), -6.0)
    tokens, words = torch.tensor([5, 7]), torch.tensor([2, 3])
    likelihood = torch.full((2, 4), -5.0)
    report = likelihood_report(weights, likelihood, torch.tensor([1.0, 3.0]), tokens, words)
    assert report.iw_nll == pytest.approx(6)
    assert report.perplexity == pytest.approx(math.exp(12 / 12))
    assert report.perplexity_predicted == pytest.approx(math.exp(12 / 10))
    assert report.perplexity_word == pytest.approx(math.exp(12 / 7))
    assert (report.reconstruction, report.kl, report.elbo) == (5, 2, 7)
    unknown = likelihood_report(weights, likelihood, torch.ones(2), tokens, torch.zeros(2))
    assert math.isnan(unknown.perplexity_word)
    huge = likelihood_report(weights * 1e4, likelihood, torch.ones(2), tokens, words)
    assert huge.perplexity == math.inf


def test_the_bound_is_tighter_with_more_samples_and_never_above():
    mean, logvar = posteriors(60)
    z = mean[:, None] + (0.5 * logvar).exp()[:, None] * torch.randn(60, 50, 3)
    weights = importance_log_weights(-z.square().sum(dim=2), z, mean, logvar)
    one, many = weights.mean(), log_marginal(weights).mean()
    assert one <= many


def test_reconstruction_is_averaged_over_sentences_and_tokens():
    report = reconstruction_report(torch.tensor([2.0, 4.0]), torch.tensor([2, 10]))
    assert report == (3.0, 0.5)


def test_active_units_compare_with_their_threshold():
    mean = torch.tensor([[0.0, 0.0, 5.0], [0.2, 0.02, 5.0]])
    units = active_units(mean, threshold=0.02)
    assert units.count == 1
    np.testing.assert_allclose(units.variance, [0.02, 0.0002, 0.0], atol=1e-9)
    with pytest.raises(ValueError, match="at least 2"):
        active_units(mean[:1])


def test_the_estimate_of_the_information_scatters_around_its_bound():
    mean = 100 * torch.eye(8)  # posteriors far apart: the information is log 8
    draws = [
        mutual_information(mean, torch.zeros(8, 8), mean + torch.randn(8, 8)) for _ in range(400)
    ]
    assert max(draws) > math.log(8) > min(draws)
    assert sum(draws) / len(draws) == pytest.approx(math.log(8), abs=0.2)
