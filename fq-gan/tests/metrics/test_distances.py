"""Moments are exact, also when merged from batches and ranks."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch

from fqgan.metrics.distances import (
    Moments,
    RunningMoments,
    author_moments_name,
    cover,
    extrapolated_distance,
    frechet_distance,
    inception_score,
    kernel_distance,
    manifold_scores,
    moments,
    neighbour_radii,
    newton_schulz_distance,
    newton_schulz_root,
    polynomial_mmd,
    precision_recall,
    read_moments,
    write_moments,
)
from fqgan.metrics.statistics import read_any_statistics, read_statistics


def test_moments_agree_with_numpy():
    features = torch.randn(200, 7) * 2 + 50
    running = RunningMoments(7)
    for part in features.split(33):
        running.add(part)
    for found in (running.result(), moments(features)):
        double = features.double().numpy()
        np.testing.assert_allclose(found.mean, double.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(double.T), rtol=1e-9, atol=1e-12)
        assert found.num_images == 200


def test_two_ranks_have_the_moments_of_all_images(two_ranks):
    features = torch.randn(50, 6) * 3 + 100

    def run(rank):
        running = RunningMoments(6)
        running.add(features[:17] if rank == 0 else features[17:])
        return running.result()

    expected = moments(features)
    for found in two_ranks(run):
        torch.testing.assert_close(found.mean, expected.mean)
        torch.testing.assert_close(found.covariance, expected.covariance)
        assert found.num_images == 50


def test_moments_survive_a_file_and_the_authors_file_is_read(tmp_path):
    content = moments(torch.randn(20, 4))
    write_moments(tmp_path / "deep" / "own.npz", content)
    found = read_moments(tmp_path / "deep" / "own.npz")
    assert torch.equal(found.covariance, content.covariance)
    assert found.num_images == 20
    np.savez(tmp_path / "author.npz", mu=np.zeros(4, "f4"), sigma=np.eye(4))
    assert read_moments(tmp_path / "author.npz").num_images == 0


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="fqgan prepare moments"):
        read_moments(tmp_path / "none.npz")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"holds no moments: it is no whole \.npz file of mu"):
        read_moments(tmp_path / "junk.npz")
    write_moments(tmp_path / "odd.npz", Moments(torch.zeros(3), torch.zeros(2, 2), 5))
    with pytest.raises(ValueError, match="holds no moments"):
        read_moments(tmp_path / "odd.npz")


IMPOSSIBLE = [
    ({"sigma": -np.eye(4)}, "sigma has negative eigenvalues"),
    ({"sigma": np.triu(np.ones((4, 4))) + 3 * np.eye(4)}, "sigma is not symmetric"),
    ({"sigma": np.full((4, 4), np.inf)}, "sigma holds NaN or infinity"),
    ({"mu": np.full(4, np.nan)}, "mu holds NaN or infinity"),
    ({"mu": np.array(["a"] * 4)}, "mu <U1"),
    ({"num_images": -3}, "num_images is -3"),
]


@pytest.mark.parametrize(("changed", "problem"), IMPOSSIBLE)
def test_moments_that_no_images_have_are_refused_in_every_file(tmp_path, changed, problem):
    whole = {"mu": np.zeros(4), "sigma": np.eye(4), "num_images": 9}
    own = {"features": np.zeros((9, 4), "f4"), "key": "k"}
    for beside, read in (({}, read_moments), ({}, read_any_statistics), (own, read_statistics)):
        np.savez(tmp_path / "a.npz", **{**whole, **beside})
        read(tmp_path / "a.npz")
        np.savez(tmp_path / "a.npz", **{**whole, **beside, **changed})
        with pytest.raises(ValueError, match=rf"a\.npz holds no moments.*: {problem}"):
            read(tmp_path / "a.npz")


def test_what_rounding_leaves_in_moments_is_no_mistake(tmp_path):
    few = torch.randn(10, 40)  # a covariance without 31 directions
    rounded = moments(few).covariance.float().numpy()
    rounded[0, 1] += 1e-7
    np.savez(tmp_path / "a.npz", mu=np.zeros(40, "f4"), sigma=rounded)
    assert read_moments(tmp_path / "a.npz").covariance.shape == (40, 40)
    np.savez(tmp_path / "a.npz", mu=np.zeros(4), sigma=np.zeros((4, 4)))
    assert not read_moments(tmp_path / "a.npz").covariance.any()


def test_features_that_are_no_numbers_are_refused(tmp_path):
    for array, problem in (
        (np.full((9, 4), np.nan, "f4"), "feats holds NaN"),
        (np.full((9, 4), 1e300), "feats holds NaN, infinity or what float32 cannot hold"),
        (np.zeros((9, 4), bool), "feats is bool"),
        (np.zeros((9, 4), complex), "feats is complex128"),
        (np.zeros(9), r"feats is float64 \(9,\), \(N, D\) numbers are needed"),
        (np.zeros((1, 4), "f4"), "two rows or more"),
    ):
        np.savez(tmp_path / "feats.npz", feats=array)
        with pytest.raises(ValueError, match=rf"feats\.npz.*{problem}"):
            read_any_statistics(tmp_path / "feats.npz")


@pytest.mark.parametrize("kind", ["i8", "u1"])
def test_whole_numbers_are_features_too(tmp_path, kind):
    array = np.random.default_rng(0).integers(0, 9, (12, 4)).astype(kind)
    np.savez(tmp_path / "feats.npz", feats=array)
    read = read_any_statistics(tmp_path / "feats.npz")
    torch.testing.assert_close(read.features, torch.from_numpy(array.astype("f4")))
    expected = np.cov(array.astype("f8"), rowvar=False)
    torch.testing.assert_close(read.moments.covariance, torch.from_numpy(expected))


def test_one_image_has_no_covariance():
    running = RunningMoments(3)
    running.add(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        running.result()


def test_only_the_suffix_is_taken_off_a_data_set_name():
    assert author_moments_name("I64_hdf5") == "I64_inception_moments.npz"
    assert author_moments_name("fifth_df") == "fifth_df_inception_moments.npz"


# The authors take the root of a float32 product; ours is exact to about 1e-9.
FID_TOLERANCE = 1e-3


def gaussian(mean, covariance):
    return Moments(torch.tensor(mean).double(), torch.tensor(covariance).double(), 100)


def test_gaussians_of_one_dimension_have_a_closed_form():
    a, b = gaussian([1.0], [[4.0]]), gaussian([3.5], [[9.0]])
    assert frechet_distance(a, b) == pytest.approx(2.5**2 + (2 - 3) ** 2)


def test_commuting_covariances_have_a_closed_form():
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    first, second = torch.rand(2, 5, dtype=torch.float64)
    a, b = (
        Moments(torch.zeros(5).double(), turn @ spread.diag() @ turn.T, 0)
        for spread in (first, second)
    )
    expected = float((first.sqrt() - second.sqrt()).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)


def test_a_distribution_has_no_distance_to_itself_even_when_singular():
    few = moments(torch.randn(10, 40))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)


def test_the_distance_is_symmetric():
    a, b = moments(torch.randn(50, 8)), moments(torch.randn(60, 8) * 2 + 1)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_different_features_and_nan_are_refused():
    with pytest.raises(ValueError, match="of 3 and of 4 features"):
        frechet_distance(moments(torch.randn(9, 3)), moments(torch.randn(9, 4)))
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(moments(torch.randn(9, 3)), moments(torch.full((9, 3), torch.nan)))


@pytest.mark.golden
def test_biggan_distances_agree(golden):
    path = golden / "biggan" / "misc" / "metrics.npz"
    if not path.exists():
        pytest.skip("no recorded BigGAN metrics")
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    a, b = (moments(torch.from_numpy(case[name])) for name in ("pool1", "pool2"))
    np.testing.assert_allclose(a.mean, case["mu1"], atol=1e-5)  # a float32 mean
    np.testing.assert_allclose(a.covariance, case["sigma1"], atol=1e-10)
    np.testing.assert_allclose(a.covariance, case["torch_cov1"], atol=1e-5)
    assert frechet_distance(a, b) == pytest.approx(float(case["fid_numpy"]), rel=FID_TOLERANCE)
    found = newton_schulz_distance(a, b)
    assert found == pytest.approx(float(case["fid_torch"]), rel=FID_TOLERANCE)
    root = newton_schulz_root(torch.from_numpy(case["sigma1"]).float())
    np.testing.assert_allclose(root, case["sqrt_newton_schulz"][0], atol=1e-5)


@pytest.mark.golden
def test_stylegan_distance_agrees(golden):
    path = golden / "stylegan" / "metrics.npz"
    if not path.exists():
        pytest.skip("no recorded StyleGAN metrics")
    with np.load(path) as case:
        a, b = (moments(torch.from_numpy(case[name])) for name in ("feat_real", "feat_fake"))
        assert frechet_distance(a, b) == pytest.approx(float(case["fid"]), rel=FID_TOLERANCE)


def by_loops(x, y):
    def cubic(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    same_x = sum(cubic(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    same_y = sum(cubic(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    between = sum(cubic(a, b) for a in x for b in y)
    return same_x / (n * (n - 1)) + same_y / (m * (m - 1)) - 2 * between / (n * m)


def test_the_estimate_equals_direct_sums():
    x, y = torch.randn(7, 4).double(), torch.randn(5, 4).double() + 0.5
    assert float(polynomial_mmd(x, y)) == pytest.approx(by_loops(x, y), rel=1e-10)


def test_one_full_subset_is_the_whole_estimate():
    x, y = torch.randn(6, 3), torch.randn(6, 3) + 1
    found = kernel_distance(x, y, subset_size=1000, subsets=3)
    assert found.mean == pytest.approx(float(polynomial_mmd(x, y)), rel=1e-9)
    assert found.std == pytest.approx(0, abs=1e-9)


def test_subsets_are_estimated_one_by_one():
    x, y = torch.randn(40, 4), torch.randn(30, 4)
    generator = torch.Generator().manual_seed(7)
    values = []
    for _ in range(6):
        i = torch.randperm(40, generator=generator)[:10]
        j = torch.randperm(30, generator=generator)[:10]
        values.append(by_loops(x[i].double(), y[j].double()))
    found = kernel_distance(x, y, subset_size=10, subsets=6, seed=7)
    assert found.mean == pytest.approx(statistics.mean(values), rel=1e-9)
    assert found.std == pytest.approx(statistics.pstdev(values), rel=1e-9)


def test_the_estimate_of_equal_distributions_has_mean_zero():
    torch.manual_seed(0)
    values = torch.stack([polynomial_mmd(*torch.randn(2, 20, 4)) for _ in range(400)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 20
    assert float(values.min()) < 0


def test_a_seed_repeats_the_draws_and_a_shift_is_seen():
    x, y = torch.randn(50, 4), torch.randn(50, 4)
    options = {"subset_size": 20, "subsets": 10}
    assert kernel_distance(x, y, seed=1, **options) == kernel_distance(x, y, seed=1, **options)
    assert kernel_distance(x, y + 2, **options).mean > 10 * kernel_distance(x, y, **options).mean


def test_too_few_images_for_kid_are_refused():
    with pytest.raises(ValueError, match="at least 2 images of each kind, got 1 and 5"):
        kernel_distance(torch.randn(1, 3), torch.randn(5, 3))


def test_certain_and_even_predictions_score_the_number_of_classes():
    assert inception_score(torch.eye(5).repeat(4, 1), splits=2).mean == pytest.approx(5)


def test_equal_predictions_score_one():
    score = inception_score(torch.full((20, 5), 0.2), splits=4)
    assert score.mean == pytest.approx(1)
    assert score.std == pytest.approx(0, abs=1e-9)


def test_a_hand_worked_score():
    # Marginal (.5, .5); each row: KL = .75 log 1.5 + .25 log .5.
    score = inception_score(torch.tensor([[0.75, 0.25], [0.25, 0.75]]), splits=1)
    assert score.mean == pytest.approx(1.5**0.75 * 0.5**0.25)


def test_the_remainder_is_dropped_and_too_few_images_are_refused():
    probabilities = torch.rand(13, 4).softmax(1)
    assert inception_score(probabilities, 3) == inception_score(probabilities[:12], 3)
    with pytest.raises(ValueError, match="13 images cannot be cut into 20 splits"):
        inception_score(probabilities, 20)


@pytest.mark.golden
def test_scores_agree_with_the_recorded_ones(golden):
    found = 0
    path = golden / "biggan" / "misc" / "metrics.npz"
    if path.exists():
        with np.load(path) as case:
            probabilities = torch.from_numpy(case["probs"])
            softmax = torch.from_numpy(case["logits"]).softmax(1)
            torch.testing.assert_close(softmax, probabilities)
            for name in case.files:
                if name.startswith("is_"):
                    score = inception_score(probabilities, int(name.removeprefix("is_")))
                    np.testing.assert_allclose(score, case[name], rtol=1e-5, atol=1e-6)
                    found += 1
    path = golden / "stylegan" / "metrics.npz"
    if path.exists():
        with np.load(path) as case:
            score = inception_score(torch.from_numpy(case["probs"]))
            np.testing.assert_allclose(score, (case["is_mean"], case["is_std"]), rtol=1e-5)
            found += 1
    if not found:
        pytest.skip("no recorded Inception scores")


# The recorded distances are squared and were rounded to half precision.
HALF_TOLERANCE = 2e-2


def line(*places):
    return torch.tensor(places, dtype=torch.float32)[:, None]


def test_a_hand_worked_case():
    # k = 1. Real 0, 1, 5: radii 1, 1, 4 cover [-1, 2] and [1, 9]. Fake 1.5, 9.5, 30: radii 8, 8,
    # 20.5 cover [-6.5, 17.5] and more.
    real, fake = line(0, 1, 5), line(1.5, 9.5, 30)
    assert neighbour_radii(real, 1).tolist() == [1, 1, 4]
    assert neighbour_radii(fake, 1).tolist() == [8, 8, 20.5]
    found = precision_recall(real, fake, k=1)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 1


def test_a_set_covers_itself_and_nothing_far_away():
    features = torch.randn(30, 5)
    assert precision_recall(features, features) == (1, 1)
    assert precision_recall(features, features + 100) == (0, 0)


def test_chunks_change_nothing():
    features, probes = torch.randn(2, 25, 4)
    radii = neighbour_radii(features)
    torch.testing.assert_close(neighbour_radii(features, chunk=4), radii)
    whole, parts = cover(features, radii, probes), cover(features, radii, probes, chunk=4)
    assert torch.equal(whole.inside, parts.inside)
    assert torch.equal(whole.nearest, parts.nearest)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="3 neighbours need more than 3 images, got 3"):
        precision_recall(torch.randn(3, 2), torch.randn(9, 2))


def borderline(references, probes):
    """How many of ``probes`` lie so near to the rim of a ball that half precision may err."""
    squared, radii = torch.cdist(probes, references).square(), neighbour_radii(references).square()
    surely = (squared <= radii * (1 - HALF_TOLERANCE)).any(dim=1)
    perhaps = (squared <= radii * (1 + HALF_TOLERANCE)).any(dim=1)
    return int((perhaps & ~surely).sum())


def compare_recorded(real, fake, precision, recall):
    """Against scores that were computed from distances rounded to half precision."""
    found = precision_recall(real, fake)
    for ours, theirs, references, probes in (
        (found.precision, precision, real, fake),
        (found.recall, recall, fake, real),
    ):
        allowed = borderline(references, probes) / len(probes)
        assert ours == pytest.approx(theirs, rel=0, abs=allowed + 1e-6)


def test_a_borderline_image_may_differ_in_half_precision_and_no_other():
    real = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    fake = real[:10] + 90.0  # far away
    away = (fake[0] - real[0]) / torch.dist(fake[0], real[0])
    outermost = (real @ away).argmax()
    fake[3] = real[outermost] + away * neighbour_radii(real)[outermost] * 1.003
    exact = precision_recall(real, fake)
    assert borderline(real, fake) == 1
    compare_recorded(real, fake, exact.precision + 0.1, exact.recall)
    with pytest.raises(AssertionError):
        compare_recorded(real, fake, exact.precision + 0.2, exact.recall)


@pytest.mark.golden
def test_recorded_manifolds_agree(golden):
    path = golden / "stylegan" / "metrics.npz"
    if not path.exists():
        pytest.skip("no recorded StyleGAN metrics")
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    real, fake = (torch.from_numpy(case[name]) for name in ("feat_real", "feat_fake"))
    compare_recorded(real, fake, float(case["pr/precision"][0]), float(case["pr/recall"][0]))
    radii = neighbour_radii(real)
    np.testing.assert_allclose(radii**2, case["pr/radii_real"][:, 0], rtol=HALF_TOLERANCE)
    np.testing.assert_allclose(
        neighbour_radii(fake) ** 2, case["pr/radii_fake"][:, 0], rtol=HALF_TOLERANCE
    )
    covered = cover(real, radii, fake)
    squared = torch.cdist(fake, real).square()
    theirs = squared.gather(1, torch.from_numpy(case["pr/nearest"]).long().view(-1, 1))[:, 0]
    assert (theirs <= squared.amin(dim=1) * (1 + HALF_TOLERANCE)).all()  # the nearest or as near
    # A quotient of two rounded numbers, one of them close to 0.
    np.testing.assert_allclose(covered.realism, case["pr/realism"], rtol=0.1)


def test_features_that_are_none_are_refused_by_every_score():
    good, damaged = torch.randn(30, 4), torch.randn(30, 4)
    damaged[3, 1] = torch.nan
    scores = (kernel_distance, polynomial_mmd, precision_recall, manifold_scores)
    for score in scores:
        with pytest.raises(ValueError, match="NaN or infinity"):
            score(good, damaged)
        with pytest.raises(ValueError, match=r"of 4 and .* of 5 features cannot be compared"):
            score(good, torch.randn(30, 5))
        with pytest.raises(TypeError, match="must be a tensor, got ndarray"):
            score(good, good.numpy())
    for score in (moments, inception_score, lambda one: extrapolated_distance(moments(good), one)):
        with pytest.raises(ValueError, match="NaN or infinity"):
            score(damaged)
        with pytest.raises(ValueError, match=r"\(N, D\)"):
            score(good[0])
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        moments(good[:1])
    with pytest.raises(ValueError, match="softmax"):
        inception_score(good)
