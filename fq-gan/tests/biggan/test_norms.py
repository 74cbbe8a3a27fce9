"""Norm layers, standing statistics, and synchronization."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error, tiny_config

from fqgan.biggan import GeneratorConfig, build_generator, standing_statistics
from fqgan.biggan.layers import AffineNorm, LayerFactory

TOLERANCE = 1e-4


@pytest.mark.golden
@pytest.mark.cases("biggan/layers/*standing*.npz")
def test_recorded_standing_statistics_are_reproduced(case):
    recorded = Recorded(case)
    channels, condition = recorded["init/gain.weight"].shape
    layer = LayerFactory(True, 1, 1, 1e-6, norm="mybn").conditional_norm(channels, condition)
    layer.load_state_dict(recorded.state("init"))
    layer.bn.reset()
    layer.bn.accumulating = True
    steps = sorted(n.split("/")[0] for n in recorded.names if n.endswith("/x"))
    for step in [step for step in steps if step != "eval"]:
        out = layer(recorded[f"{step}/x"], recorded[f"{step}/y"])
        assert relative_error(out, recorded[f"{step}/out"]) < TOLERANCE
    state = layer.state_dict()
    for name, theirs in recorded.state("after").items():
        assert relative_error(state[name], theirs) < TOLERANCE, name
    for finished in (False, True):
        if finished:
            layer.bn.finish()
        out = layer.eval()(recorded["eval/x"], recorded["eval/y"])
        assert relative_error(out, recorded["eval/out"]) < TOLERANCE


@pytest.mark.parametrize("norm", ["bn", "mybn", "sync-bn"])
def test_standing_statistics_are_the_means_over_their_batches(norm):
    config = tiny_config(generator=GeneratorConfig(channels=4, latent_dim=8, norm=norm))
    generator = build_generator(config)
    first = generator.blocks[0][0].bn1
    holder = first.bn if norm == "mybn" else first
    latents = [(torch.randn(4, 8), torch.randint(3, (4,))) for _ in range(3)]
    inputs = []
    hook = first.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    standing_statistics(generator, latents)
    hook.remove()
    means = torch.stack([x.mean(dim=(0, 2, 3)) for x in inputs]).mean(dim=0)
    torch.testing.assert_close(holder.stored_mean, means, rtol=1e-4, atol=1e-5)
    assert not generator.training
    before = holder.stored_mean.clone()
    generator.train()(*latents[0])  # afterwards the running average goes on as before
    torch.testing.assert_close(
        holder.stored_mean, 0.9 * before + 0.1 * inputs[0].mean(dim=(0, 2, 3)), rtol=0.2, atol=0.1
    )


@pytest.mark.parametrize("norm", ["bn", "mybn", "sync-bn", "in"])
def test_training_mode_normalizes_the_batch(norm):
    x = 3 + 2 * torch.randn(4, 6, 5, 5)
    out = AffineNorm(6, norm)(x)
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        out.var(dim=(0, 2, 3), correction=0), torch.ones(6), atol=1e-3, rtol=0
    )


def test_group_norm_takes_fewer_groups_where_the_channels_do_not_divide():
    out = AffineNorm(24, "gn")(torch.randn(2, 24, 3, 3))
    grouped = out.view(2, 8, -1)
    torch.testing.assert_close(grouped.mean(dim=2), torch.zeros(2, 8), atol=1e-5, rtol=0)


def test_gain_and_bias_depend_on_the_class():
    layer = LayerFactory(True, 1, 1, 1e-8, num_classes=2).conditional_norm(3, 0)
    with torch.no_grad():
        layer.gain.weight.copy_(torch.tensor([[0.0], [1.0]]).expand(2, 3))
        layer.bias.weight.copy_(torch.tensor([[0.0], [5.0]]).expand(2, 3))
    x = torch.randn(1, 3, 4, 4).expand(2, 3, 4, 4)
    plain, doubled = layer(x, torch.tensor([0, 1]))
    torch.testing.assert_close(doubled, 2 * plain + 5)
