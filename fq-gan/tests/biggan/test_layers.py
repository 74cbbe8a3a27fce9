"""Blocks, attention, norm and spectral layers against recorded training calls."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, allowed, relative_error, tiny_config

from fqgan.biggan.config import GeneratorConfig
from fqgan.biggan.layers import (
    AffineNorm,
    DiscriminatorBlock,
    GeneratorBlock,
    LayerFactory,
    SelfAttention,
    standing_statistics,
    upsample,
)
from fqgan.biggan.networks import build_generator

TOLERANCE = 1e-4
ABSOLUTE = 1e-5  # of quantities whose true value is 0, such as gradients of biases before a norm


def factory(recorded, **changes):
    vectors = sum(n.startswith("init/") and ".u" not in n and n[5:6] == "u" for n in recorded.names)
    options = {"spectral": True, "vectors": max(vectors, 1), "iterations": 1, "sn_eps": 1e-6}
    return LayerFactory(**{**options, **changes})


def conv(recorded):
    """The number of iterations is in the file's name: snconv_sv2_it2."""
    outputs, inputs, kernel, _ = recorded["init/weight"].shape
    return factory(recorded, iterations=recorded.iterations).conv(inputs, outputs, kernel)


def linear(recorded):
    outputs, inputs = recorded["init/weight"].shape
    return factory(recorded, sn_eps=1e-12).linear(inputs, outputs)


def embedding(recorded):
    return factory(recorded, sn_eps=1e-8).embedding(*recorded["init/weight"].shape)


def conditional(recorded, norm="bn"):
    channels, condition = recorded["init/gain.weight"].shape
    layers = factory(recorded, norm=norm)
    if "init/gain.u0" in recorded.names:
        return layers.conditional_norm(channels, condition)
    classes, channels = recorded["init/gain.weight"].shape
    return factory(recorded, num_classes=classes).conditional_norm(channels, 0)


def generator_block(recorded):
    outputs, inputs = recorded["init/conv1.weight"].shape[:2]
    return GeneratorBlock(
        inputs, outputs, factory(recorded), condition_dim=recorded["init/bn1.gain.weight"].shape[1]
    )


def discriminator_block(recorded):
    """Whether the block is the first and whether it halves shows in name and output."""
    width, inputs = recorded["init/conv1.weight"].shape[:2]
    outputs = len(recorded["init/conv2.weight"])
    return DiscriminatorBlock(
        inputs, outputs, factory(recorded), wide=width == outputs, first="first" in recorded.stem,
        down=recorded["s0/out"].shape[-1] < recorded["in0"].shape[-1],
    )  # fmt: skip


BUILDERS = {
    "snconv": conv,
    "snlinear": linear,
    "snembedding": embedding,
    "attention": lambda recorded: SelfAttention(recorded["in0"].shape[1], factory(recorded)),
    "ccbn_mybn": lambda recorded: conditional(recorded, "mybn"),
    "ccbn": conditional,
    "bn": lambda recorded: AffineNorm(recorded["in0"].shape[1], "bn"),
    "gblock": generator_block,
    "dblock": discriminator_block,
}


def close(ours, theirs, tolerance=TOLERANCE):
    return relative_error(ours, theirs) < tolerance or (ours - theirs).abs().max() < ABSOLUTE


@pytest.mark.golden
@pytest.mark.cases("biggan/layers/*.npz")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_recorded_training_calls_are_reproduced(case, layout, device):
    if case.stem.endswith("standing"):
        pytest.skip("standing statistics are walked by test_norms")
    recorded = Recorded(case, device)
    recorded.stem = case.stem
    recorded.iterations = int(case.stem.split("_it")[1]) if "_it" in case.stem else 1
    builder = next((b for start, b in BUILDERS.items() if case.stem.startswith(start)), None)
    assert builder is not None, f"{case.name} is of a kind that this test does not know"
    layer = builder(recorded).to(device, memory_format=layout)
    layer.load_state_dict(recorded.state("init"))
    gradient = allowed(TOLERANCE, device, gradient=True)
    inputs = [recorded[n] for n in sorted(recorded.names) if n.startswith("in") and "/" not in n]
    steps = sorted({n.split("/")[0] for n in recorded.names if n.endswith("/out")} - {"eval"})
    for step in steps:
        leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
        layer.zero_grad()
        out = layer(*leaves)
        assert close(out.detach(), recorded[f"{step}/out"])
        weights = torch.linspace(-1, 1, out.numel(), device=device).view(out.shape)
        (out * weights).sum().backward()
        for number, leaf in enumerate(leaves):
            if f"{step}/grad_in{number}" in recorded.names:
                assert close(leaf.grad, recorded[f"{step}/grad_in{number}"], gradient)
        for name, theirs in recorded.state(f"{step}/grad_p").items():
            ours = layer.get_parameter(name).grad
            assert close(ours, theirs, gradient), f"gradient of {name}"
        state = layer.state_dict()
        for name, theirs in recorded.state(f"{step}/after").items():
            assert close(state[name], theirs), f"{name} after {step}"
    layer.eval()
    assert close(layer(*inputs).detach(), recorded["eval/out"])


def test_the_generator_block_equals_its_plain_form():
    layers = LayerFactory(True, 1, 1, 1e-8, num_classes=3)
    block = GeneratorBlock(6, 4, layers, condition_dim=0).eval()
    x, y = torch.randn(2, 6, 5, 5), torch.tensor([0, 2])
    hidden = block.conv1(upsample(torch.relu(block.bn1(x, y))))
    hidden = block.conv2(torch.relu(block.bn2(hidden, y)))
    torch.testing.assert_close(block(x, y), hidden + block.conv_sc(upsample(x)))


def test_attention_weighs_values_by_softmax_of_query_times_key():
    attention = SelfAttention(16, LayerFactory(False, 1, 1, 1e-8))
    with torch.no_grad():
        attention.gamma.fill_(0.7)
    x = torch.randn(2, 16, 4, 4)
    pool = torch.nn.MaxPool2d(2)
    query, key = attention.theta(x).flatten(2), pool(attention.phi(x)).flatten(2)
    value = pool(attention.g(x)).flatten(2)
    weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
    mixed = (value @ weights.transpose(1, 2)).view(2, 8, 4, 4)
    torch.testing.assert_close(attention(x), 0.7 * attention.o(mixed) + x)


def test_attention_on_fewer_than_eight_channels_is_refused():
    with pytest.raises(ValueError, match="8 channels"):
        SelfAttention(4, LayerFactory(True, 1, 1, 1e-8))


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


def test_attention_asks_for_one_head_so_that_no_scores_are_kept(monkeypatch):
    """Of three dimensions PyTorch would keep all (B, HW, HW/4) scores on a GPU."""
    shapes, attend = [], torch.nn.functional.scaled_dot_product_attention

    def watched(query, key, value, **options):
        shapes.append(tuple(query.shape))
        return attend(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    layers = LayerFactory(spectral=False, vectors=1, iterations=1, sn_eps=1e-6)
    assert SelfAttention(16, layers)(torch.randn(2, 16, 4, 4)).shape == (2, 16, 4, 4)
    assert shapes == [(2, 1, 16, 2)]
