"""Blocks, attention, norm and spectral layers against recorded training calls."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error

from fqgan.biggan.layers import (
    AffineNorm,
    DiscriminatorBlock,
    GeneratorBlock,
    LayerFactory,
    SelfAttention,
    upsample,
)

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


def close(ours, theirs):
    return relative_error(ours, theirs) < TOLERANCE or (ours - theirs).abs().max() < ABSOLUTE


@pytest.mark.golden
@pytest.mark.cases("biggan/layers/*.npz")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_recorded_training_calls_are_reproduced(case, layout):
    if case.stem.endswith("standing"):
        pytest.skip("standing statistics are walked by test_norms")
    recorded = Recorded(case)
    recorded.stem = case.stem
    recorded.iterations = int(case.stem.split("_it")[1]) if "_it" in case.stem else 1
    builder = next((b for start, b in BUILDERS.items() if case.stem.startswith(start)), None)
    assert builder is not None, f"{case.name} is of a kind that this test does not know"
    layer = builder(recorded).to(memory_format=layout)
    layer.load_state_dict(recorded.state("init"))
    inputs = [recorded[n] for n in sorted(recorded.names) if n.startswith("in") and "/" not in n]
    steps = sorted({n.split("/")[0] for n in recorded.names if n.endswith("/out")} - {"eval"})
    for step in steps:
        leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
        layer.zero_grad()
        out = layer(*leaves)
        assert close(out.detach(), recorded[f"{step}/out"])
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        for number, leaf in enumerate(leaves):
            if f"{step}/grad_in{number}" in recorded.names:
                assert close(leaf.grad, recorded[f"{step}/grad_in{number}"])
        for name, theirs in recorded.state(f"{step}/grad_p").items():
            assert close(layer.get_parameter(name).grad, theirs), f"gradient of {name}"
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
