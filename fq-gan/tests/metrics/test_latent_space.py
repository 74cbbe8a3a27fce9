"""Path lengths of generators whose paths are known, and recorded arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fqgan.metrics.latent_space import (
    LPIPS,
    VARIANTS,
    comparable_part,
    conditional_entropy,
    entropy,
    lerp,
    linear_svm,
    load_lpips,
    mutual_information,
    path_length,
    random_lpips,
    robust_mean,
    separability,
    slerp,
)
from fqgan.metrics.networks import VGG16

# fp32 sines and cosines of another library.
TOLERANCE = 1e-4


def squared(a, b):
    return (a.double() - b.double()).square().sum(dim=(1, 2, 3))


def measure(name, **changes):
    """The path length of an image that shows its style, in every pixel."""
    options = {
        "draw_latents": lambda n: torch.randn(n, 3, dtype=torch.float64),
        "map_latents": lambda z: z[:, None] * 2,
        "synthesize": lambda w: w.transpose(1, 2)[..., None].expand(-1, 3, 8, 8),
        "distance": squared,
        "num_pairs": 400,
        "batch_size": 64,
    }
    return path_length(VARIANTS[name], **{**options, **changes})


@pytest.mark.parametrize("name", ["ppl_wend", "ppl_wfull", "ppl2_wend"])
def test_a_straight_path_is_as_long_as_its_ends_are_apart(name):
    pixels = 64 if name == "ppl2_wend" else 16  # the crop keeps a quarter
    torch.manual_seed(1)
    distances = (torch.randn(20000, 3) - torch.randn(20000, 3)).square().sum(dim=1) * 4 * pixels
    torch.manual_seed(2)
    assert measure(name, num_pairs=4000).mean == pytest.approx(
        robust_mean(distances).mean, rel=0.06
    )


@pytest.mark.parametrize("name", ["ppl_zend", "ppl_zfull"])
def test_an_arc_is_as_long_as_its_angle(name):
    ends = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64)
    drawn = iter(range(1000))
    found = measure(name, draw_latents=lambda n: ends[next(drawn) % 2].expand(n, 3))
    expected = (np.pi / 2) ** 2 * 4 * 16  # squared angle, styles doubled, 16 pixels
    assert found.mean == pytest.approx(expected, rel=1e-3)


def test_the_middle_of_the_lower_part_is_compared():
    images = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    part = comparable_part(images, crop=True)
    assert part.shape == (1, 3, 4, 4)
    assert torch.equal(part[0, 0], images[0, 0, 3:7, 2:6])


def test_large_images_are_averaged_down():
    images = torch.randn(1, 3, 1024, 1024)
    torch.testing.assert_close(
        comparable_part(images, crop=True), F.avg_pool2d(images[:, :, 384:896, 256:768], 2)
    )
    assert comparable_part(images, crop=False).shape == (1, 3, 256, 256)


def test_outliers_do_not_count():
    distances = torch.cat([torch.ones(198), torch.tensor([0.0, 1e6])])
    found = robust_mean(distances)
    assert (found.low, found.high, found.mean) == (1, 1, 1)


def test_two_ranks_share_the_pairs(two_ranks):
    def run(rank):
        numbers = iter(range(1000))

        def draw(n):
            # Starts at 0; ends at 1 on one rank and at 2 on the other.
            return torch.full((n, 3), float(next(numbers) % 2 * (rank + 1)), dtype=torch.float64)

        return measure("ppl2_wend", draw_latents=draw, num_pairs=10)

    first, second = two_ranks(run)
    assert first == second
    assert first.mean == pytest.approx((1 + 4) / 2 * 3 * 4 * 64, rel=1e-6)


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="at least 2 pairs, got 1"):
        measure("ppl_wend", num_pairs=1)


def test_lines_and_arcs_meet_their_ends():
    a, b = torch.randn(2, 4, 5)
    torch.testing.assert_close(lerp(a, b, torch.tensor(0.25)), a * 0.75 + b * 0.25)
    for t, end in ((0.0, a), (1.0, b)):
        found = slerp(a, b, torch.full((4, 1), t))
        torch.testing.assert_close(found, F.normalize(end), rtol=1e-4, atol=1e-5)


@pytest.mark.golden
@pytest.mark.cases("stylegan/metrics.npz")
def test_recorded_arcs_and_percentiles_agree(case):
    with np.load(case) as file:
        recorded = {name: file[name] for name in file.files}
    names = {"slerp/a", "slerp/b", "slerp/t", "slerp/out", "ppl/dist", "ppl/lo_hi_mean"}
    if not names <= set(recorded):
        pytest.skip("no recorded path lengths")
    a, b, t = (torch.from_numpy(recorded[f"slerp/{name}"]) for name in "abt")
    np.testing.assert_allclose(slerp(a, b, t), recorded["slerp/out"], rtol=0, atol=TOLERANCE)
    found = robust_mean(torch.from_numpy(recorded["ppl/dist"]))
    np.testing.assert_allclose(found, recorded["ppl/lo_hi_mean"], rtol=TOLERANCE)


def test_the_distance_is_the_published_formula():
    distance = random_lpips(width=0.1)
    a, b = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    total = torch.zeros(2)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    stages = [
        distance.network.stages((x - shift[:, None, None]) / scale[:, None, None]) for x in (a, b)
    ]
    for i, (first, second) in enumerate(zip(*stages, strict=True)):
        difference = torch.nn.functional.normalize(first) - torch.nn.functional.normalize(second)
        head = distance.get_buffer(f"head{i}")
        total += (difference.square() * head[:, None, None]).sum(1).mean(dim=(1, 2))
    torch.testing.assert_close(distance(a, b), total, rtol=2e-3, atol=1e-6)


def test_an_image_has_no_distance_to_itself_and_a_gradient_to_others():
    distance, images = random_lpips(), torch.rand(2, 3, 32, 32)
    assert torch.equal(distance(images, images), torch.zeros(2))
    moved = images.clone().requires_grad_()
    distance(moved + 0.1, images).sum().backward()
    assert moved.grad.abs().sum() > 0


def test_features_that_are_all_zero_have_finite_gradients():
    distance, images = random_lpips(), torch.rand(1, 3, 32, 32, requires_grad=True)
    with torch.no_grad():
        for layer in distance.network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.bias.fill_(-1e3)
    distance(images, torch.rand(1, 3, 32, 32)).sum().backward()
    assert torch.isfinite(images.grad).all()


def test_random_weights_depend_on_the_seed_alone():
    images = torch.rand(2, 1, 3, 16, 16)
    torch.manual_seed(5)
    first = random_lpips(1)(*images)
    torch.rand(3)
    assert torch.equal(random_lpips(1)(*images), first)
    assert not torch.equal(random_lpips(2)(*images), first)


def test_local_files_are_read_and_others_refused(tmp_path):
    network = VGG16(dense=False)
    vgg, heads = tmp_path / "vgg16.pth", tmp_path / "heads.pth"
    torch.save(network.state_dict(), vgg)
    with pytest.raises(FileNotFoundError, match=r"PerceptualSimilarity.*vgg\.pth"):
        load_lpips(vgg, heads)
    weights = [torch.rand(1, width, 1, 1) for width in network.stage_widths]
    torch.save({f"lin{i}.model.1.weight": w for i, w in enumerate(weights)}, heads)
    images = torch.rand(2, 1, 3, 16, 16)
    torch.testing.assert_close(load_lpips(vgg, heads)(*images), LPIPS(network, weights)(*images))
    torch.save({"lin0.model.1.weight": weights[0]}, heads)
    with pytest.raises(ValueError, match="does not hold the heads"):
        load_lpips(vgg, heads)
    torch.save({f"lin{i}.model.1.weight": weights[0] for i in range(5)}, heads)
    with pytest.raises(ValueError, match="heads for"):
        load_lpips(vgg, heads)


def test_entropies_worked_by_hand():
    assert entropy(torch.tensor([1.0, 1.0, 2.0])) == pytest.approx(1.5)
    independent = torch.tensor([[1.0, 3.0], [2.0, 6.0]])
    assert mutual_information(independent) == pytest.approx(0, abs=1e-12)
    assert conditional_entropy(independent) == pytest.approx(entropy(torch.tensor([1.0, 3.0])))
    assert conditional_entropy(torch.eye(2)) == pytest.approx(0, abs=1e-12)


def test_the_hyperplane_minimizes_its_objective():
    points = torch.randn(200, 4, dtype=torch.float64)
    sides = points[:, 0] + 0.5 * torch.randn(200) > 0.2
    found = linear_svm(points, sides)
    solution = torch.cat([found.weight, found.bias[None]]).requires_grad_()
    signs = torch.where(sides, 1.0, -1.0)
    values = points @ solution[:4] + solution[4]
    loss = solution.square().sum() / 2 + (1 - signs * values).clamp(min=0).square().sum()
    (gradient,) = torch.autograd.grad(loss, solution)
    assert gradient.abs().max() < 1e-6
    assert (found.predict(points) == sides).double().mean() > 0.8


def test_what_a_hyperplane_divides_scores_1_and_chance_scores_more():
    latents = torch.randn(400, 3)
    divided, chance = latents @ torch.tensor([1.0, -2.0, 0.5]), torch.randn(400)
    perfect = separability(latents, divided[:, None])
    assert perfect.score == pytest.approx(1, abs=1e-6)
    both = separability(latents, torch.stack([divided, chance], dim=1))
    assert both.conditional_entropies[1] > 0.8
    assert both.score == pytest.approx(2 ** float(both.conditional_entropies.sum()))


def test_only_the_surest_images_count():
    latents = torch.tensor([[-2.0], [-1.0], [1.0], [2.0], [3.0], [-3.0], [3.0], [-3.0]])
    # The four unsure ones contradict the others.
    logits = torch.tensor([-5.0, -6.0, 7.0, 8.0, -0.1, 0.2, -0.3, 0.4])[:, None]
    assert separability(latents, logits).score == pytest.approx(1, abs=1e-6)
    assert separability(latents, logits, keep=1.0).score > 1.5
    with pytest.raises(ValueError, match="needs more than 2 images"):
        separability(latents[:2], logits[:2])


@pytest.mark.golden
@pytest.mark.cases("stylegan/metrics.npz")
def test_recorded_entropies_agree(case):
    with np.load(case) as file:
        recorded = {n: torch.from_numpy(np.array(file[n])) for n in file.files if "ls/" in n}
    if "ls/p" not in recorded:
        pytest.skip("no recorded entropies")
    table = recorded["ls/p"]
    for name, function in (
        ("cond_entropy", conditional_entropy),
        ("mutual_info", mutual_information),
        ("entropy", entropy),
    ):
        assert function(table) == pytest.approx(float(recorded[f"ls/{name}"]), rel=TOLERANCE)
