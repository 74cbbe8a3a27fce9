import json
import math

import numpy as np
import pytest
import torch
from factories import GRADIENT, close, recorded_model
from safetensors.torch import load_file
from torch.distributions import Normal, kl_divergence as reference_kl

from optimus.objectives import (
    Objective,
    beta_schedule,
    beta_tc_loss,
    free_bits_kl,
    info_vae_loss,
    kl_divergence,
    kl_loss,
    kl_parts,
    kl_per_dimension,
    learning_rate_at,
    maximum_mean_discrepancy,
    total_loss,
)
from optimus.released.checkpoints import authors_name, read_authors_checkpoint
from optimus.tasks.training import OriginalAdamW, parameter_groups

SCHEDULE = 1e-9
"""Tolerance of recorded schedules."""


@pytest.mark.golden
def test_beta_schedules_are_the_authors(golden_kind):
    recorded = np.load(golden_kind("schedules", "beta.npz") / "beta.npz")
    cases = [name for name in recorded if "_args/" not in name]
    assert cases
    for case in cases:
        kind, number = case.split("/")
        # their schedule without a zero phase is ours with a share of 0
        steps, start, stop, cycles, increase, zero = (*recorded[f"{kind}_args/{number}"], 0.0)[:6]
        values = beta_schedule(
            int(steps),
            start=start,
            stop=stop,
            num_cycles=int(cycles),
            ratio_increase=increase,
            ratio_zero=zero,
        )
        np.testing.assert_allclose(values, recorded[case], atol=SCHEDULE, rtol=0)


@pytest.mark.golden
def test_learning_rates_are_the_authors(golden_kind):
    recorded = np.load(golden_kind("schedules", "lr_warmup_linear.npz") / "lr_warmup_linear.npz")
    for case in (name for name in recorded if name.startswith("lr/")):
        warmup, total, base = recorded[case.replace("lr/", "args/")]
        values = [
            learning_rate_at(step, base=base, warmup_steps=int(warmup), total_steps=int(total))
            for step in range(len(recorded[case]))
        ]
        np.testing.assert_allclose(values, recorded[case], atol=SCHEDULE, rtol=0)


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["train_traj", "train_traj_lw"])
def test_training_follows_the_authors_trajectory(kind, golden_kind, device):
    folder, start = golden_kind(kind, "trajectory.json"), golden_kind("train_traj")
    saved = saved_states(start.parent / "checkpoints") if folder == start else {}
    model = recorded_model(start, "init").to(device).train()
    batches = np.load(folder / "batches.npz")
    groups = parameter_groups(model, weight_decay=0.01, compat=True)
    check_groups(model, groups, json.loads((folder / "param_groups.json").read_text()))
    optimizer = OriginalAdamW(groups, lr=0.0)
    for record in json.loads((folder / "trajectory.json").read_text()):
        follow(model, optimizer, batches, record, weighted=kind.endswith("_lw"))
        state = saved.get(record["step"] + 1)
        for name, parameter in model.named_parameters() if state else ():
            close(parameter.detach(), state[authors_name(name)], GRADIENT)
    if not (folder / "final.safetensors").exists():
        return
    final = load_file(folder / "final.safetensors")
    for name, parameter in model.named_parameters():
        close(parameter.detach(), final[authors_name(name)], GRADIENT)


def saved_states(folder):
    """Steps done -> the authors' tensors of their checkpoint, which is one of the recorded run."""
    steps = {int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-full-*")}
    return {step: read_authors_checkpoint(folder, step=step).tensors for step in steps}


def follow(model, optimizer, batches, record, weighted):
    """One optimizer step, held against its record."""
    step = record["step"]
    device = model.device
    *ids, eps = (
        torch.from_numpy(batches[f"{step}/{key}"]).to(device) for key in ("x0", "x1", "eps")
    )
    objective = Objective(free_bits=0.5 if record["fb_mode"] == 1 else 0.0)
    losses = model(*ids, objective=objective, beta=record["beta"], eps=eps)
    # The toy vocabulary lacks the id their count leaves out: they divide by the padded length.
    lengths = torch.full((len(ids[1]),), ids[1].shape[1], device=device) if weighted else None
    loss = total_loss(losses.reconstruction, losses.kl, record["beta"], lengths).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = record["lr"]
    optimizer.step()
    optimizer.zero_grad()
    close(loss.detach(), record["loss"], GRADIENT)
    close(losses.reconstruction.mean().detach(), record["loss_rec"], GRADIENT)
    close(losses.kl.mean().detach(), record["loss_kl"], GRADIENT)
    close(norm, record["grad_norm"], GRADIENT)


def check_groups(model, groups, recorded):
    names = {id(parameter): authors_name(name) for name, parameter in model.named_parameters()}
    members = [{names[id(parameter)] for parameter in group["params"]} for group in groups]
    buffers = {"decoder.lm_head.weight"}  # tied, hence the same parameter as wte
    keys = ("decay", "no_decay") if "no_decay" in recorded else tuple(recorded)
    for found, key in zip(members, keys, strict=False):
        assert found - buffers == set(recorded[key]) - buffers, key


def test_kl_agrees_with_torch_distributions():
    mean, logvar = torch.randn(2, 5, 8)
    expected = reference_kl(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(kl_divergence(mean, logvar), expected)


def test_masked_dimensions_cost_nothing_and_the_others_all_of_it():
    mean = torch.tensor([[0.0, 1.0, 3.0]])  # KL 0, 0.5 and 4.5 nats
    logvar = torch.zeros_like(mean)
    assert free_bits_kl(mean, logvar, 0.5).item() == pytest.approx(4.5)  # strictly above
    assert free_bits_kl(mean, logvar, 0.5, "floor").item() == pytest.approx(0.5 + 0.5 + 4.5)


def test_mask_and_floor_have_the_same_gradient():
    mean, logvar = torch.randn(2, 5, 8).requires_grad_()
    gradients = [
        torch.autograd.grad(free_bits_kl(mean, logvar, 0.6, rule).sum(), mean, retain_graph=True)[0]
        for rule in ("mask", "floor")
    ]
    torch.testing.assert_close(*gradients)


def test_free_bits_are_off_while_beta_is_zero():
    mean, logvar = torch.randn(2, 5, 8) * 0.1
    objective = Objective(free_bits=10.0)
    torch.testing.assert_close(kl_loss(objective, mean, logvar, 0.0), kl_divergence(mean, logvar))
    assert not kl_loss(objective, mean, logvar, 0.1).any()


def test_deterministic_connect_takes_the_variance_as_one():
    mean, logvar = torch.randn(2, 5, 8)
    expected = kl_per_dimension(mean, torch.zeros_like(logvar)).sum(dim=1)
    objective = Objective(kind="deterministic-connect")
    torch.testing.assert_close(kl_loss(objective, mean, logvar, 1.0), expected)


def test_a_schedule_worked_by_hand():
    values = beta_schedule(12, ratio_increase=0.25, ratio_zero=0.5)
    expected = [0.0] * 7 + [1 / 3, 2 / 3, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match=r"free-bits must be a finite number >= 0, got -1"):
        Objective(free_bits=-1)
    with pytest.raises(ValueError, match="at least one step and one cycle"):
        beta_schedule(0)


def posteriors(rows=6, width=3, seed=0):
    noise = torch.Generator().manual_seed(seed)
    mean, logvar, eps = torch.randn(3, rows, width, generator=noise, dtype=torch.double)
    logvar = 0.5 * logvar - 1
    return mean + (0.5 * logvar).exp() * eps, mean, logvar


def test_the_parts_of_the_kl_agree_with_a_mixture_of_normals():
    latent, mean, logvar = posteriors()
    rows, size = len(latent), 100
    found = kl_parts(latent, mean, logvar, size)
    densities = [Normal(m, (0.5 * v).exp()) for m, v in zip(mean, logvar, strict=True)]
    for i, z in enumerate(latent):
        each = torch.stack([one.log_prob(z).exp() for one in densities])  # (B, Z)
        aggregate = torch.log(each.prod(dim=1).sum() / (rows * size))
        marginals = torch.log(each.sum(dim=0) / (rows * size)).sum()
        posterior, prior = densities[i].log_prob(z).sum(), Normal(0.0, 1.0).log_prob(z).sum()
        expected = (posterior - aggregate, aggregate - marginals, marginals - prior)
        torch.testing.assert_close(torch.stack([part[i] for part in found]), torch.stack(expected))
        torch.testing.assert_close(sum(part[i] for part in found), posterior - prior)


def test_a_weight_of_one_is_the_kl_and_others_add_total_correlation():
    rows = posteriors()
    parts = kl_parts(*rows, 50)
    torch.testing.assert_close(beta_tc_loss(*rows, 1.0, 50), sum(parts))
    torch.testing.assert_close(
        beta_tc_loss(*rows, 3.0, 50), sum(parts) + 2 * parts.total_correlation
    )
    drawn = [beta_tc_loss(*posteriors(500, 4, seed), 1.0, 500).mean() for seed in range(40)]
    exact = [kl_divergence(*posteriors(500, 4, seed)[1:]).mean() for seed in range(40)]
    assert np.mean(drawn) == pytest.approx(np.mean(exact), rel=0.02)


def test_the_discrepancy_agrees_with_a_double_loop():
    first, second = torch.randn(2, 5, 3, dtype=torch.double)

    def kernel(a, b):
        return math.exp(-sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)) / 6)

    pairs = [(i, j) for i in range(5) for j in range(5)]
    within = sum(kernel(rows[i], rows[j]) for rows in (first, second) for i, j in pairs if i != j)
    across = sum(kernel(first[i], second[j]) for i, j in pairs)
    expected = within / 20 - 2 * across / 25
    assert float(maximum_mean_discrepancy(first, second)) == pytest.approx(expected)


def test_the_discrepancy_is_zero_on_average_and_grows_with_distance():
    def mean_of(shift):
        draws = torch.randn(100, 2, 40, 4, generator=torch.Generator().manual_seed(1))
        return float(torch.stack([maximum_mean_discrepancy(a, b + shift) for a, b in draws]).mean())

    assert abs(mean_of(0.0)) < 2e-3
    assert 0.02 < mean_of(0.5) < mean_of(1.0)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        maximum_mean_discrepancy(torch.zeros(1, 3), torch.zeros(1, 3))


def test_info_vae_is_kl_and_discrepancy_in_their_shares():
    latent, mean, logvar = posteriors()
    prior = torch.randn_like(latent)
    discrepancy = maximum_mean_discrepancy(latent, prior)
    for alpha, weight in ((1.0, 10.0), (0.0, 1.0), (0.3, 5.0)):
        expected = (1 - alpha) * kl_divergence(mean, logvar) + (alpha + weight - 1) * discrepancy
        found = info_vae_loss(latent, mean, logvar, alpha, weight, prior)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ("cosine", [0.0, 0.5, 1.0, 0.853553, 0.5, 0.146447, 0.0]),
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_learning_rates_warm_up_and_then_follow_their_schedule(schedule, values):
    options = {"base": 1.0, "warmup_steps": 2, "total_steps": 6, "schedule": schedule}
    found = [learning_rate_at(step, **options) for step in range(7)]
    np.testing.assert_allclose(found, values, atol=1e-6)
