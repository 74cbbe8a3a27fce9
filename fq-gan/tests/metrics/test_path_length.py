"""Path lengths of generators whose paths are known, and recorded arithmetic."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fqgan.metrics.latent_space import (
    VARIANTS,
    comparable_part,
    lerp,
    path_length,
    robust_mean,
    slerp,
)

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
