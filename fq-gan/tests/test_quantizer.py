"""The feature quantizer against recorded runs, a plain computation, and its invariants."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from factories import Recorded, allowed, relative_error, run_ranks
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from fqgan import quantizer_kernels as quantizer_module
from fqgan.data.images import normalize
from fqgan.data.toy import toy_images
from fqgan.quantizer import FeatureQuantizer, QuantizerOptions, quantizer_statistics

TOLERANCE = 1e-5  # relative to the largest entry; fp32 sums in another order
CODE_TOLERANCE = 1e-4  # codes divide by smoothed counts as small as 1e-5


def plain(features, codes):
    """Index and codes of every vector by the full matrix of differences."""
    vectors = features.movedim(1, -1).reshape(-1, features.shape[1])
    index = (vectors.unsqueeze(1) - codes).square().sum(dim=2).argmin(dim=1)
    return index, codes[index]


def features(shape=(3, 6, 4, 5), seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_buffers(layer, recorded, prefix):
    for name in ("embed", "cluster_size", "embed_avg"):
        theirs = recorded[f"{prefix}/{name}"]
        near = allowed(CODE_TOLERANCE * 1e-2, recorded.device)
        torch.testing.assert_close(getattr(layer, name), theirs, rtol=CODE_TOLERANCE, atol=near)


@pytest.mark.golden
@pytest.mark.cases("biggan/quantizer/case*.npz")
@pytest.mark.parametrize("forward_mode", ["commit_only", "straight_through"])
def test_a_recorded_sequence_of_calls_is_reproduced(case, forward_mode, device):
    recorded = Recorded(case, device)
    near, gradient = allowed(TOLERANCE, device), allowed(TOLERANCE, device, gradient=True)
    settings = recorded.json("cfg")
    layer = FeatureQuantizer(
        settings["dim"], settings["K"], commitment_weight=settings["commit"],
        decay=settings["decay"], eps=settings["eps"], forward_mode=forward_mode,
    ).to(device)  # fmt: skip
    layer.load_state_dict(recorded.state("init"))
    for step in range(settings["steps"]):
        x = recorded[f"s{step}/x"].requires_grad_()
        out = layer(x)
        assert torch.equal(out.code_index.flatten(), recorded[f"s{step}/idx"].flatten())
        assert relative_error(out.loss, recorded[f"s{step}/diff"].flatten()) < near
        assert relative_error(out.codebook_perplexity, recorded[f"s{step}/ppl"]) < near
        expected = recorded[f"s{step}/out"] if forward_mode == "straight_through" else x
        assert relative_error(out.features, expected) < near
        ((out.features * recorded[f"s{step}/w"]).sum() + 3 * out.loss.mean()).backward()
        assert relative_error(x.grad, recorded[f"s{step}/grad_x"]) < gradient
        assert_buffers(layer, recorded, f"s{step}/after")
    before = copy.deepcopy(layer.state_dict())
    out = layer.eval()(recorded["eval/x"])
    assert relative_error(out.loss, recorded["eval/diff"].flatten()) < near
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.golden
@pytest.mark.cases("biggan/quantizer/dead_codes.npz")
def test_unused_codes_jump_and_decay_as_recorded(case):
    recorded = Recorded(case)
    channels, codes = recorded["init/embed"].shape
    inputs = recorded["x_all"]
    recorded_steps = {int(n.split("/")[0][1:]) for n in recorded.names if n.endswith("/ppl")}
    # The file does not name the decay: the counts, 0 before, sum to (1 - decay) x vectors.
    vectors = inputs[0].numel() / channels
    decay = 1.0 - float(recorded["s0/after/cluster_size"].sum()) / vectors
    layer = FeatureQuantizer(channels, codes, commitment_weight=1.0, decay=round(decay, 4))
    layer.load_state_dict(recorded.state("init"))
    weight = None
    for step, x in enumerate(inputs):
        out = layer(x)
        if step in recorded_steps:
            assert_buffers(layer, recorded, f"s{step}/after")
            theirs = recorded[f"s{step}/diff"].flatten()
            weight = weight or float(theirs.mean() / out.loss.mean())
            assert relative_error(out.loss * weight, theirs) < CODE_TOLERANCE
            assert relative_error(out.codebook_perplexity, recorded[f"s{step}/ppl"]) < 1e-4


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_quantizer.npz")
def test_zero_debiased_averages_agree_with_tensorflow(case):
    recorded = Recorded(case)
    settings = recorded.json("cfg")
    layer = FeatureQuantizer(
        settings["dim"], settings["K"], commitment_weight=settings["commit"],
        decay=settings["decay"], numerics="tf",
    )  # fmt: skip
    scope = next(n for n in recorded.names if n.startswith("init/") and n.endswith("/embedding"))
    scope = scope.removeprefix("init/").removesuffix("/embedding")
    layer.set_codes(recorded[f"init/{scope}/embedding"].t())
    steps = sorted({int(n[1:].split("/")[0]) for n in recorded.names if n.endswith("/loss")})
    for step in steps:
        x = recorded[f"s{step}/x"].movedim(-1, 1).requires_grad_()
        out = layer(x)
        out.loss.mean().backward()
        assert relative_error(out.loss.mean(), recorded[f"s{step}/loss"]) < TOLERANCE
        assert relative_error(out.codebook_perplexity, recorded[f"s{step}/ppl"]) < TOLERANCE
        assert relative_error(x.grad.movedim(1, -1), recorded[f"s{step}/grad_x"]) < TOLERANCE
        after = f"s{step}/after/{scope}"
        counts, sums = layer.averages()
        assert relative_error(layer.embed, recorded[f"{after}/embedding"]) < TOLERANCE
        assert relative_error(counts, recorded[f"{after}/ema_cluster_size"]) < TOLERANCE
        assert relative_error(sums, recorded[f"{after}/ema_dw"]) < TOLERANCE
        biased = recorded[f"{after}/{scope}/ema_dw/biased"]
        assert relative_error(layer.embed_avg, biased) < TOLERANCE
        assert layer.steps == recorded[f"{after}/{scope}/ema_dw/local_step"]


def test_the_nearest_code_is_that_of_the_full_distance_matrix():
    layer, x = FeatureQuantizer(6, 11), features()
    codes = layer.codes.clone()
    index, nearest = plain(x, codes)
    out = layer(x)
    assert torch.equal(out.code_index.flatten(), index)
    expected = (x.movedim(1, -1).reshape(-1, 6) - nearest).square().view(3, -1).mean(dim=1)
    torch.testing.assert_close(out.loss, 0.5 * expected)


def test_the_loss_of_vectors_that_lie_on_codes_is_zero_to_rounding():
    layer = FeatureQuantizer(6, 11).eval()
    x = layer.codes[torch.arange(22) % 11].t().reshape(6, 2, 11).movedim(1, 0).requires_grad_()
    out = layer(x)
    out.loss.sum().backward()
    assert out.loss.min() >= 0
    assert out.loss.max() < 1e-6 * x.detach().square().mean()
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("size", [64, 96, 128, 1000, 2048])
def test_of_equally_near_codes_the_first_one_is_taken(size):
    layer = FeatureQuantizer(3, size).eval()
    layer.set_codes(torch.randn(size // 2, 3).repeat(2, 1))
    out = layer(features((2, 3, 8, 8)))
    assert out.code_index.max() < size // 2
    layer.set_codes(torch.zeros(size, 3))  # as unused codes are with the numerics of TensorFlow
    assert torch.equal(layer(features((2, 3, 8, 8))).code_index, torch.zeros(2, 8, 8).long())


def test_chunks_do_not_change_the_result(monkeypatch):
    whole, x = FeatureQuantizer(6, 11), features()
    chunked = copy.deepcopy(whole)
    one = whole(x)
    monkeypatch.setattr(quantizer_module, "CPU_CHUNK", 11 * 7)
    many = chunked(x)
    assert torch.equal(one.code_index, many.code_index)
    torch.testing.assert_close(one.loss, many.loss)
    torch.testing.assert_close(whole.embed, chunked.embed)


@pytest.mark.parametrize("forward_mode", ["commit_only", "straight_through"])
def test_memory_layout_changes_neither_output_nor_gradient(forward_mode):
    layer = FeatureQuantizer(6, 11, forward_mode=forward_mode).eval()
    x = features()
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        leaf = x.clone(memory_format=layout).requires_grad_()
        out = layer(leaf)
        ((out.features**2).sum() + out.loss.sum()).backward()
        results.append((out.features.detach(), out.loss.detach(), leaf.grad))
        torch.testing.assert_close(leaf.detach(), x, rtol=0, atol=0)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_the_loss_is_that_of_autograd():
    layer, x = FeatureQuantizer(6, 11, commitment_weight=0.7).eval(), features()
    leaf, plain_leaf = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.arange(1.0, 4.0)
    (layer(leaf).loss * weights).sum().backward()
    _, nearest = plain(x, layer.codes)
    distance = (plain_leaf.movedim(1, -1).reshape(-1, 6) - nearest).square().view(3, -1)
    (0.7 * distance.mean(dim=1) * weights).sum().backward()
    torch.testing.assert_close(leaf.grad, plain_leaf.grad)


def test_straight_through_passes_codes_forward_and_gradients_unchanged():
    layer = FeatureQuantizer(6, 11, forward_mode="straight_through", commitment_weight=0.0).eval()
    x = features().requires_grad_()
    out = layer(x)
    _, nearest = plain(x.detach(), layer.codes)
    torch.testing.assert_close(out.features.movedim(1, -1).reshape(-1, 6), nearest)
    upstream = features(seed=1)
    out.features.backward(upstream)
    torch.testing.assert_close(x.grad, upstream)


def test_commit_only_returns_the_very_features():
    x = features()
    assert FeatureQuantizer(6, 11)(x).features is x


def test_the_warm_up_ends_after_its_number_of_training_calls():
    layer = FeatureQuantizer(6, 11, forward_mode="straight_through", warmup_calls=2)
    x = features()
    same = [torch.equal(layer(x).features, x) for _ in range(4)]
    assert same == [True, True, False, False]
    resumed = FeatureQuantizer(6, 11, forward_mode="straight_through", warmup_calls=2)
    resumed.load_state_dict(layer.state_dict())
    assert not torch.equal(resumed(x).features, x)


def test_under_autocast_the_dictionary_stays_fp32_and_features_keep_their_type():
    layer = FeatureQuantizer(6, 11, forward_mode="straight_through")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(features().bfloat16())
    assert out.features.dtype == torch.bfloat16
    assert out.loss.dtype == layer.embed.dtype == torch.float32


def test_casting_the_network_to_half_leaves_the_dictionary_alone():
    layer = FeatureQuantizer(6, 64)
    layer(features())
    before = layer.embed.clone()
    layer.half()
    assert layer.embed.dtype == torch.float32
    assert torch.equal(layer.embed, before)
    assert torch.isfinite(layer(features().half()).loss).all()


def test_calls_without_gradients_update_the_dictionary_too():
    layer = FeatureQuantizer(6, 11)
    with torch.no_grad():
        layer(features())
    assert layer.cluster_size.sum() > 0


def test_perplexity_is_one_for_one_code_and_k_for_all_used_alike():
    layer = FeatureQuantizer(2, 4).eval()
    layer.set_codes(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]]))
    collapsed = torch.zeros(1, 2, 2, 2)
    assert float(layer(collapsed).codebook_perplexity) == pytest.approx(1.0)
    assert float(layer.last_usage) == 0.25
    spread = layer.codes.t().reshape(1, 2, 2, 2)
    assert float(layer(spread).codebook_perplexity) == pytest.approx(4.0)
    assert float(layer.last_usage) == 1.0


def test_dead_codes_come_back_as_vectors_of_the_batch_and_stay():
    layer, other = FeatureQuantizer(6, 64, revive_below=0.05), FeatureQuantizer(6, 64)
    other.set_codes(layer.codes)
    x = features((8, 6, 4, 4))
    other(x)
    index = layer(x).code_index
    assert (layer.cluster_size >= 0.05 * layer.cluster_size.mean()).all()
    vectors = x.movedim(1, -1).reshape(-1, 6)
    distance = torch.cdist(layer.codes, vectors).min(dim=1).values
    unused = torch.bincount(index.flatten(), minlength=64) == 0
    assert unused.any()
    assert distance[unused].max() < 1e-2
    assert layer(x).codebook_perplexity > other(x).codebook_perplexity


def test_statistics_name_every_quantizer_of_a_network():
    network = torch.nn.Sequential(torch.nn.Identity(), FeatureQuantizer(6, 11))
    network[1](features())
    values = quantizer_statistics(network)
    assert set(values) == {
        f"1/{name}"
        for name in (
            *("codebook_perplexity", "usage", "average_perplexity", "average_usage"),
            *("dead", "replaced", "left_out"),
        )
    }
    assert 1 <= float(values["1/codebook_perplexity"]) <= 11
    assert quantizer_statistics(network[1]).keys() == {name.removeprefix("1/") for name in values}


def test_features_of_another_width_are_refused_in_words():
    with pytest.raises(ValueError, match="6 channels"):
        FeatureQuantizer(6, 11)(torch.zeros(1, 5, 2, 2))


def test_no_matrix_of_all_vectors_by_all_codes_is_made():
    layer = FeatureQuantizer(16, 2048)
    x = torch.randn(8, 16, 32, 32, requires_grad=True)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    with Watch():
        layer(x).loss.sum().backward()
    assert largest <= quantizer_module.CPU_CHUNK < 8 * 32 * 32 * 2048


def one_rank(rank, store):
    found = {}
    for statistics in ("all", "rank0", "local"):
        torch.manual_seed(0)
        layer = FeatureQuantizer(6, 11, statistics=statistics)
        x = torch.randn(8, 6, 4, 4, generator=torch.Generator().manual_seed(1))
        for _ in range(3):
            out = layer(x.chunk(2)[rank])
        found[statistics] = {"embed": layer.embed, "perplexity": out.codebook_perplexity}
    torch.save(found, f"{store}.{rank}")


def test_two_processes_share_a_dictionary_as_they_are_told(tmp_path):
    store = str(tmp_path / "store")
    run_ranks(one_rank, store)
    both = [torch.load(f"{store}.{rank}", weights_only=True) for rank in range(2)]
    x = torch.randn(8, 6, 4, 4, generator=torch.Generator().manual_seed(1))
    for statistics in ("all", "rank0", "local"):
        first, second = (found[statistics] for found in both)
        torch.manual_seed(0)
        alone = FeatureQuantizer(6, 11)
        for _ in range(3):
            out = alone(x if statistics == "all" else x.chunk(2)[0])
        torch.testing.assert_close(first["embed"], alone.embed, rtol=CODE_TOLERANCE, atol=1e-5)
        assert torch.equal(first["embed"], second["embed"]) == (statistics != "local")
        if statistics == "all":
            torch.testing.assert_close(first["perplexity"], out.codebook_perplexity)


def test_a_quantizer_is_built_as_the_options_say():
    options = QuantizerOptions(
        layers=(1,), commitment_weight=0.5, decay=0.7, forward="straight_through", warmup_calls=3
    )
    built = options.build(6, 16, "tf")
    assert (built.channels, built.codebook_size, built.numerics) == (6, 16, "tf")
    assert (built.commitment_weight, built.decay, built.warmup_calls) == (0.5, 0.7, 3)
    assert built.forward_mode == "straight_through"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": -1}, "--quantizer.codebook-size must not be negative"),
        ({"revive_below": -1.0}, "--quantizer.revive-below must not be negative"),
        ({"decay": 1.0}, r"--quantizer.decay must be in \[0, 1\)"),
        ({"layers": (1, 1)}, "--quantizer.layers must be different"),
        ({"layers": (-1,)}, "--quantizer.layers must be different"),
    ],
)
def test_options_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        QuantizerOptions(**changes)


NOT_FINITE = [float("nan"), float("inf"), float("-inf"), 1e30]  # the last has an infinite square


@pytest.mark.parametrize("numerics", ["biggan", "tf"])
@pytest.mark.parametrize("revive_below", [0.0, 0.1])
@pytest.mark.parametrize("value", NOT_FINITE)
def test_vectors_that_are_not_finite_are_left_out_and_counted(numerics, revive_below, value):
    layer = FeatureQuantizer(6, 11, numerics=numerics, revive_below=revive_below)
    x = features()
    x[0, 2, 1, 1] = x[2, 0, 3, 4] = value
    out = layer(x)
    assert layer.last_left_out == 2
    assert float(layer.averages()[0].sum()) > 0
    for buffer in layer.buffers():
        assert torch.isfinite(buffer).all()
    assert torch.isfinite(out.codebook_perplexity)
    assert not torch.isfinite(out.loss[[0, 2]]).any()
    layer(features())
    assert layer.last_left_out == 0


@pytest.mark.parametrize("numerics", ["biggan", "tf"])
def test_the_dictionary_is_that_of_the_finite_vectors_alone(numerics):
    torch.manual_seed(0)
    layer = FeatureQuantizer(6, 11, numerics=numerics)
    alone = copy.deepcopy(layer)
    x = features((1, 6, 1, 20))
    poisoned = torch.cat([x, torch.full((1, 6, 1, 3), float("nan"))], dim=3)
    layer(poisoned)
    alone(x)
    torch.testing.assert_close(layer.embed, alone.embed)
    torch.testing.assert_close(layer.cluster_size, alone.cluster_size)


@pytest.mark.parametrize("numerics", ["biggan", "tf"])
@pytest.mark.parametrize("revive_below", [0.0, 0.1])
def test_a_call_without_any_finite_vector_moves_nothing(numerics, revive_below):
    layer = FeatureQuantizer(6, 11, numerics=numerics, revive_below=revive_below)
    for _ in range(2):
        before = copy.deepcopy(layer.state_dict())
        layer(features() * float("nan"))
        for name, value in layer.state_dict().items():
            assert torch.equal(value, before[name])
        layer(features())


def test_dead_and_replaced_codes_are_reported_per_call_also_under_revival():
    layer = FeatureQuantizer(2, 4, revive_below=0.01)
    layer.set_codes(torch.tensor([[0.0, 0.0], [1.0, 0.0], [50.0, 0.0], [0.0, 50.0]]))
    x = torch.zeros(1, 2, 2, 4)
    x[0, 0, 1] = 1.0
    layer(x)
    values = quantizer_statistics(torch.nn.Sequential(layer))
    assert values["0/dead"] == values["0/replaced"] == 2
    layer(x)
    values = quantizer_statistics(torch.nn.Sequential(layer))
    assert values["0/replaced"] == 0
    assert values["0/dead"] == 2, "copies of the vectors of other codes: nothing uses them yet"
    for _ in range(20):
        layer(torch.tensor([0.0, 1.0, 50.0]).view(1, 1, 1, 3).repeat(1, 2, 4, 1))
    assert layer.dead_codes() <= 1


@pytest.mark.parametrize("vectors", [8, 8000])
def test_the_threshold_does_not_depend_on_the_number_of_vectors(vectors):
    layer = FeatureQuantizer(2, 4)
    layer.set_codes(torch.tensor([[0.0, 0.0], [1.0, 0.0], [50.0, 0.0], [0.0, 50.0]]))
    for _ in range(12):
        x = torch.zeros(1, 2, 1, vectors)
        x[0, 0, 0, : vectors // 2] = 1.0
        layer(x)
    assert layer.dead_codes() == 2


@pytest.mark.parametrize("numerics", ["biggan", "tf"])
def test_from_codes_with_counts_no_code_jumps(numerics):
    layer = FeatureQuantizer(6, 11, numerics=numerics)
    start = features((11, 6), seed=3)
    layer.set_codes(start, torch.arange(1.0, 12.0))
    far = torch.full((2, 6, 4, 4), 30.0)
    index = layer(far).code_index
    unused = torch.bincount(index.flatten(), minlength=11) == 0
    assert unused.sum() == 10
    torch.testing.assert_close(layer.codes[unused], start[unused], rtol=1e-3, atol=1e-4)


def test_codes_and_counts_of_another_kind_are_refused():
    layer = FeatureQuantizer(6, 11)
    for codes in (torch.zeros(11), torch.zeros(6, 11), torch.full((11, 6), float("nan"))):
        with pytest.raises(ValueError, match=r"codes (must be \(11, 6\)|hold NaN)"):
            layer.set_codes(codes)
    for counts in (torch.zeros(11), torch.ones(6), torch.full((11,), float("nan"))):
        with pytest.raises(ValueError, match="counts must be 11 positive numbers"):
            layer.set_codes(torch.zeros(11, 6), counts)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("forward_mode", ["commit_only", "straight_through"])
def test_activation_checkpointing_around_the_layer_is_refused_in_training(reentrant, forward_mode):
    layer = FeatureQuantizer(6, 11, forward_mode=forward_mode)

    def block(x):
        out = layer(x.sin())
        return out.features.cos(), out.loss

    def gradient(run):
        x = features().requires_grad_()
        passed, loss = run(x)
        (passed.sum() + loss.sum()).backward()
        return x.grad

    def checkpointed(x):
        return checkpoint(block, x, use_reentrant=reentrant)

    with pytest.raises(RuntimeError, match="activation checkpointing may not contain it"):
        gradient(checkpointed)
    layer.eval()
    torch.testing.assert_close(gradient(checkpointed), gradient(block))


def test_an_activation_in_place_is_named():
    layer = FeatureQuantizer(6, 11)
    out = layer(features().requires_grad_() * 1.0)
    with pytest.raises(RuntimeError, match="must have inplace=False"):
        (torch.relu_(out.features).sum() + out.loss.sum()).backward()


@pytest.mark.parametrize("numerics", ["biggan", "tf"])
def test_a_start_from_features_takes_vectors_of_the_first_call_and_no_code_jumps(numerics):
    layer = FeatureQuantizer(6, 32, numerics=numerics, codebook_start="features")
    x = features((8, 6, 4, 4))
    vectors = x.movedim(1, -1).reshape(-1, 6)
    torch.manual_seed(0)
    index = layer(x).code_index.flatten()
    nearest = torch.cdist(layer.codes, vectors)
    torch.manual_seed(0)
    chosen = vectors[torch.randperm(len(vectors))[:32]]
    assert len(index.unique()) == 32, "every vector that became a code is its own nearest one"
    mean = layer.averages()[0].mean()
    torch.testing.assert_close(mean, torch.tensor(len(vectors) / 32))
    # A code moves towards the mean of its vectors by the share that a call has in the averages.
    assert nearest.min(dim=1).values.max() < (layer.codes - chosen).norm(dim=1).max() + 1e-5
    assert layer.average_perplexity() > 20
    far = torch.full((2, 6, 4, 4), 30.0)
    before = layer.codes.clone()
    unused = torch.bincount(layer(far).code_index.flatten(), minlength=32) == 0
    assert unused.sum() == 31
    torch.testing.assert_close(layer.codes[unused], before[unused], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("numerics", ["biggan", "tf"])
def test_kmeans_plus_plus_finds_small_groups_far_away_and_no_code_jumps(numerics):
    groups = torch.zeros(8, 6)
    groups[1:7] = torch.eye(6) * 50
    groups[7] = 30.0
    sizes = torch.tensor([113, 3, 3, 3, 2, 2, 1, 1])
    torch.manual_seed(0)
    vectors = groups.repeat_interleave(sizes, dim=0) + 0.01 * torch.randn(128, 6)
    x = vectors[torch.randperm(128)].view(2, 8, 8, 6).permute(0, 3, 1, 2)
    found = {}
    for start in ("features", "kmeans++"):
        layer = FeatureQuantizer(6, 8, numerics=numerics, codebook_start=start, decay=0.9)
        layer(x)
        found[start] = (torch.cdist(groups, layer.codes).amin(dim=1) < 1).sum()
        mean = layer.averages()[0].mean()
        torch.testing.assert_close(mean, torch.tensor(128 / 8))
        before = layer.codes.clone()
        index = layer(torch.full((2, 6, 4, 4), 2000.0)).code_index.flatten()
        unused = torch.bincount(index, minlength=8) == 0
        assert unused.sum() == 7
        torch.testing.assert_close(layer.codes[unused], before[unused], rtol=1e-3, atol=1e-3)
    assert found == {"features": 1, "kmeans++": 8}


def test_kmeans_plus_plus_draws_no_vector_twice_and_takes_any_size_of_numbers():
    layer = FeatureQuantizer(2, 5, codebook_start="kmeans++")
    x = torch.zeros(1, 2, 2, 3)
    x[0, :, 0, 0] = 1e18  # its square does not overflow, that of a difference may
    x[0, :, 1, 2] = -1e19
    x[0, 0, 0, 1] = float("nan")
    layer(x)
    assert layer.started == 5
    assert layer.codes.isfinite().all()
    assert len(layer.codes.unique(dim=0)) == 3


@pytest.mark.parametrize("start", ["features", "kmeans++"])
@pytest.mark.parametrize("numerics", ["biggan", "tf"])
def test_a_start_from_few_vectors_goes_on_until_every_code_is_one(numerics, start):
    layer = FeatureQuantizer(6, 40, numerics=numerics, codebook_start=start)
    for call, started in ((0, 16), (1, 32), (2, 40), (3, 40)):
        x = features((1, 6, 4, 4), seed=call)
        if call == 1:  # as a run that was interrupted here
            saved, layer = layer, copy.deepcopy(layer)
            layer.load_state_dict(saved.state_dict())
        layer(x)
        assert layer.started == started
    assert layer.codes.norm(dim=1).max() < 10
    assert layer.codes.norm(dim=1).min() > 0.1


def test_a_start_from_features_leaves_out_what_is_not_finite():
    layer = FeatureQuantizer(6, 16, codebook_start="features")
    layer(torch.full((1, 6, 2, 2), float("nan")))
    assert layer.started == 0
    x = features((2, 6, 4, 4))
    x[0] = float("inf")
    layer(x)
    assert layer.started == 16
    assert layer.codes.isfinite().all()


def test_a_start_that_does_not_exist_is_named():
    known = r"codebook_start must be one of random, features, kmeans\+\+"
    with pytest.raises(ValueError, match=known):
        FeatureQuantizer(6, 11, codebook_start="kmeans")


def test_codes_that_were_given_with_counts_are_the_start():
    layer = FeatureQuantizer(6, 11, codebook_start="features")
    given = features((11, 6), seed=3)
    layer.set_codes(given, torch.ones(11))
    layer(torch.full((1, 6, 1, 1), 30.0))
    assert (torch.cdist(layer.codes, given).min(dim=1).values < 1e-3).sum() == 10


@pytest.mark.parametrize("numerics", ["biggan", "tf"])
def test_a_learned_dictionary_goes_on_with_a_revival_and_a_start_that_are_new_to_it(numerics):
    learned = FeatureQuantizer(6, 11, numerics=numerics)
    learned(features())
    asked = FeatureQuantizer(6, 11, numerics=numerics, revive_below=0.1, codebook_start="features")
    asked.load_state_dict(learned.state_dict())
    assert torch.equal(asked.embed, learned.embed)
    assert torch.equal(asked.average_uses, learned.cluster_size)
    assert asked.started == 11
    learned.load_state_dict(asked.state_dict())
    fresh = FeatureQuantizer(6, 11, numerics=numerics)
    asked.load_state_dict(fresh.state_dict())
    assert asked.started == 0


def test_the_averages_are_those_of_the_last_calls():
    layer = FeatureQuantizer(2, 4, revive_below=0.01)
    corners = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])
    layer.set_codes(corners, torch.ones(4))
    for _ in range(100):
        layer(corners.t().reshape(1, 2, 2, 2))
    assert float(layer.average_perplexity()) == pytest.approx(4.0, abs=1e-3)
    layer(torch.zeros(1, 2, 2, 2))
    assert float(layer.last_perplexity) == pytest.approx(1.0)
    # One call of five: counts 1.6, 0.8, 0.8, 0.8.
    assert float(layer.average_perplexity()) == pytest.approx(3.79, abs=0.01)
    assert layer.dead_codes() == 0
    assert quantizer_statistics(torch.nn.Sequential(layer))["0/average_usage"] == 1.0


def one_rank_from_features(rank, store):
    found = {}
    cases = itertools.product(("biggan", "tf"), ("features", "kmeans++"))
    for numerics, start in cases:
        for codes in (16, 200):  # fewer and more than the 128 vectors of both ranks
            torch.manual_seed(rank)
            layer = FeatureQuantizer(
                6, codes, numerics=numerics, codebook_start=start, revive_below=0.3
            )
            layer.embed.copy_(torch.ones_like(layer.embed))
            for call in range(8):
                layer(features((4, 6, 4, 4), seed=2 * call + rank) * (1 + call))
            found[f"{numerics}-{start}-{codes}"] = {
                **layer.state_dict(), "replaced": layer.last_replaced, "dead": layer.dead_codes()
            }  # fmt: skip
    torch.save(found, f"{store}.{rank}")


def test_two_processes_start_from_features_and_revive_alike(tmp_path):
    store = str(tmp_path / "store")
    run_ranks(one_rank_from_features, store)
    first, second = (torch.load(f"{store}.{rank}", weights_only=True) for rank in range(2))
    for case, state in first.items():
        for name, value in state.items():
            assert torch.equal(value, second[case][name]), (case, name)
        assert state["started"] == len(state["cluster_size"])
        assert float(state["uses"].sum()) > 0
    assert any(state["replaced"] > 0 for state in first.values())


@pytest.mark.parametrize("steps", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_the_five_lines_of_the_readme_keep_their_codes_in_use_in_a_plain_dcgan(steps):
    """On toy shapes with the recommended setting: perplexity at least K / 3 in the last tenth."""
    torch.manual_seed(0)
    images = normalize(toy_images(400, resolution=16).pixels)
    generator = torch.nn.Sequential(
        torch.nn.Linear(16, 512), torch.nn.Unflatten(1, (32, 4, 4)),
        torch.nn.BatchNorm2d(32), torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
        torch.nn.BatchNorm2d(16), torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1), torch.nn.Tanh(),
    )  # fmt: skip
    bottom = torch.nn.Conv2d(3, 16, 4, stride=2, padding=1)
    quantizer = FeatureQuantizer(16, 64, codebook_start="features", revive_below=0.1)
    top = torch.nn.Sequential(
        torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(16, 32, 4, stride=2, padding=1),
        torch.nn.LeakyReLU(0.2), torch.nn.Flatten(), torch.nn.Linear(512, 1),
    )  # fmt: skip

    def judge(x):
        hidden, quantization_loss, *_ = quantizer(bottom(x))
        return top(hidden), quantization_loss.mean()

    d_parameters = [*bottom.parameters(), *top.parameters()]
    d_step = torch.optim.Adam(d_parameters, 1e-3, (0.5, 0.99), fused=True)
    g_step = torch.optim.Adam(generator.parameters(), 1e-3, (0.5, 0.99), fused=True)
    perplexities = []
    for step in range(steps):
        fake, real = generator(torch.randn(8, 16)), images[torch.randint(400, (8,))]
        logits, quantization_loss = judge(torch.cat([fake.detach(), real]))
        d_loss = softplus(logits[:8]).mean() + softplus(-logits[8:]).mean() + quantization_loss
        d_step.zero_grad()
        d_loss.backward()
        d_step.step()
        logits, quantization_loss = judge(fake)
        g_loss = softplus(-logits).mean() + quantization_loss
        g_step.zero_grad()
        g_loss.backward()
        g_step.step()
        if step >= 0.9 * steps:
            perplexities.append(float(quantizer.average_perplexity()))
    assert sum(perplexities) / len(perplexities) > 64 / 3
    assert quantizer.dead_codes() < 64 / 8


@pytest.mark.parametrize("size", [8.5, "8", True, None])
def test_sizes_are_whole_numbers(size):
    for sizes in ((8, size), (size, 8)):
        with pytest.raises(TypeError, match="must be a whole number"):
            FeatureQuantizer(*sizes)
    with pytest.raises(TypeError, match="warmup_calls must be a whole number"):
        FeatureQuantizer(8, 8, warmup_calls=size)


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (torch.zeros(2, 8, 4, 4, dtype=torch.int64), "floating-point numbers, got torch.int64"),
        (np.zeros((2, 8, 4, 4)), "must be a tensor, got ndarray"),
        (torch.zeros(0, 8, 4, 4), "hold no vector"),
        (torch.zeros(2, 8, 0, 4), "hold no vector"),
    ],
)
def test_features_that_are_none_are_named(features, problem):
    quantizer = FeatureQuantizer(8, 8)
    before = quantizer.codes.clone()
    with pytest.raises((TypeError, ValueError), match=problem):
        quantizer(features)
    assert torch.equal(quantizer.codes, before)
    with pytest.raises(TypeError, match="codes must be a tensor"):
        quantizer.set_codes(before.numpy())
