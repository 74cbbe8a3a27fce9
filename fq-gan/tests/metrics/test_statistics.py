"""Collecting features, comparing two sets, and files of statistics."""

import pytest
import torch

from fqgan.metrics.distances import frechet_distance, moments
from fqgan.metrics.features import FeatureExtractor, Features
from fqgan.metrics.statistics import collect, compare, read_statistics, write_statistics


class Corner(FeatureExtractor):
    """The values of a corner pixel."""

    name, dim, comparable, protocol, key = "random", 3, False, "corner pixels", "corner"

    def extract(self, images):
        return Features(images[:, :, 0, 0], images[:, :, 0, 0] * 4)


def endless(seed=0, batch=7):
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.rand(batch, 3, 2, 2, generator=generator) * 2 - 1


def test_exactly_the_asked_number_is_scored_unless_the_protocol_keeps_the_surplus():
    extractor = Corner()
    found = collect(extractor, endless(), 20)
    assert found.moments.num_images == len(found.features) == len(found.logits) == 20
    extractor.keeps_surplus = True
    surplus = collect(extractor, endless(), 20)
    assert surplus.moments.num_images == 21
    assert len(surplus.features) == 20


def test_images_are_rounded_to_256_levels_unless_told_otherwise():
    images = [torch.full((2, 3, 1, 1), 0.1)]
    rounded = collect(Corner(), images, 2).features
    torch.testing.assert_close(rounded, torch.full((2, 3), 140 / 127.5 - 1))
    exact = collect(Corner(), images, 2, quantize=False).features
    torch.testing.assert_close(exact, torch.full((2, 3), 0.1))


def test_kept_features_are_a_fixed_choice_from_the_whole_set():
    ramp = torch.linspace(-1, 1, 100).view(100, 1, 1, 1).expand(100, 3, 2, 2)
    found = collect(Corner(), ramp.split(8), 100, quantize=False, max_features=20)
    places = found.features[:, 0]
    assert len(places) == 20
    assert places.min() < -0.6
    assert places.max() > 0.6
    again = collect(Corner(), ramp.split(30), 100, quantize=False, max_features=20)
    assert torch.equal(found.features, again.features)


def test_two_ranks_score_as_one_does(two_ranks):
    images = torch.rand(21, 3, 2, 2) * 2 - 1
    expected = moments(images[:, :, 0, 0])

    def run(rank):
        share = images[rank::2].split(4)
        return collect(Corner(), share, 21, quantize=False, max_features=9)

    for found in two_ranks(run):
        assert found.moments.num_images == len(found.logits) == 21
        assert len(found.features) == 9
        torch.testing.assert_close(found.moments.covariance, expected.covariance)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="7 images came where 20"):
        collect(Corner(), [next(endless())], 20)


def test_scores_are_those_of_the_single_functions():
    real, fake = collect(Corner(), endless(1), 60), collect(Corner(), endless(2), 40)
    scores = compare(real, fake, splits=4, subset_size=30, subsets=5)
    expected = frechet_distance(moments(real.features), moments(fake.features))
    assert scores["fid"] == pytest.approx(expected, rel=1e-6)
    names = {"fid", *(f"kid_x100{end}" for end in ("", "_std", "_low", "_high"))}
    names |= {"precision", "recall", "density", "coverage"}
    assert set(scores) == names | {"inception_score", "inception_score_std"}
    assert all(isinstance(value, float) for value in scores.values())
    without = fake._replace(logits=None)
    assert set(compare(real, without)) == names


def test_statistics_of_different_features_are_not_compared():
    real = collect(Corner(), endless(1), 20)
    with pytest.raises(ValueError, match="corner and of other cannot be compared"):
        compare(real, real._replace(key="other"))


def test_statistics_survive_a_file(tmp_path):
    content = collect(Corner(), endless(), 20)
    write_statistics(tmp_path / "deep" / "file.npz", content)
    found = read_statistics(tmp_path / "deep" / "file.npz")
    assert compare(content, content) == compare(found, found)
    assert found.key == "corner"
    (tmp_path / "junk.npz").write_bytes(b"PK junk")
    with pytest.raises(ValueError, match="holds no whole statistics"):
        read_statistics(tmp_path / "junk.npz")
