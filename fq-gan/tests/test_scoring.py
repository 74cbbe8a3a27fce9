"""Statistics of a data set are cached by content; saved samples are scored."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fqgan.data.datasets import DataConfig
from fqgan.data.images import ArrayImages
from fqgan.data.sets import read_samples
from fqgan.data.toy import toy_images
from fqgan.metrics.distances import inception_score, moments, write_moments
from fqgan.metrics.features import FeatureExtractor, Features, RandomFeatures, build_extractor
from fqgan.runtime import distributed
from fqgan.scoring import (
    Scorer,
    ScoringOptions,
    data_statistics,
    open_scorer,
    record_evaluation,
    score_samples,
)


def test_images_of_the_data_score_better_than_noise(tmp_path):
    images = toy_images(60, resolution=32)
    options = ScoringOptions(
        "random", num_images=40, batch_size=16, splits=2, cache_dir=str(tmp_path)
    )
    scorer = Scorer(options, images)
    real = images.read(torch.arange(60)).float() / 127.5 - 1
    good = scorer(lambda count: real[torch.randperm(60)[:count]])
    noise = scorer(lambda count: torch.rand(count, 3, 32, 32) * 2 - 1)
    assert good["fid"] < noise["fid"] / 4
    assert good["precision"] > noise["precision"]
    assert len(list(tmp_path.rglob("*.npz"))) == 1  # the data's statistics, made once


def test_an_evaluation_says_what_its_features_are_if_it_has_any(tmp_path):
    extractor = build_extractor("random")
    record_evaluation(tmp_path, {"fid": 1.0}, extractor)
    record_evaluation(tmp_path, {"ppl_wend": 2.0}, None)
    lines = (tmp_path / "evaluations.jsonl").read_text().splitlines()
    one, two = (json.loads(line) for line in lines)
    assert one["features"] == "random"
    assert not one["comparable"]
    assert not {"features", "protocol", "comparable"} & two.keys()
    assert {"date", "torch", "commit", "program"} <= two.keys()


def test_fewer_images_than_published_figures_have_are_a_trial(tmp_path):
    extractor = build_extractor("random")
    extractor.comparable = True
    found = [
        record_evaluation(
            tmp_path, {"num_images": count}, extractor, published={"num_images": 50_000}
        )
        for count in (100, 50_000)
    ]
    assert [(row["trial"], row["comparable"]) for row in found] == [(True, False), (False, True)]


def test_a_fid_of_fewer_images_than_features_is_not_comparable(tmp_path):
    extractor = build_extractor("random")
    extractor.comparable, dim = True, extractor.dim
    few, enough = (
        record_evaluation(tmp_path, {"fid": 1.0, **sizes}, extractor)
        for sizes in ({"num_images": dim + 1, "real_images": dim}, {"num_images": dim + 1})
    )
    assert (few["comparable"], enough["comparable"]) == (False, True)
    assert f"{dim} images are too few for the {dim} features of random" in few["warning"]
    assert "warning" not in enough
    kid = record_evaluation(tmp_path, {"kid_x100": 1.0, "num_images": 20}, extractor)
    assert kid["comparable"]  # unbiased for any number


def test_a_file_of_moments_takes_the_place_of_the_data(tmp_path):
    images = toy_images(60, resolution=32)
    real = images.read(torch.arange(60)).float() / 127.5 - 1
    options = ScoringOptions(
        "random", num_images=60, batch_size=20, splits=2, cache_dir=str(tmp_path)
    )
    scorer = Scorer(options, images)
    found = data_statistics(images, scorer.extractor, cache_dir=tmp_path).moments
    write_moments(tmp_path / "I32_inception_moments.npz", found)
    options = replace(options, moments=str(tmp_path / "I32_inception_moments.npz"))
    blind = open_scorer(options, DataConfig(source="folder", path="nowhere"), torch.device("cpu"))
    assert (scorer.num_real, blind.num_real) == (60, 60)

    def noise(count):
        generator = torch.Generator().manual_seed(0)
        return torch.rand(count, *real.shape[1:], generator=generator) * 2 - 1

    assert blind(noise).keys() == {"fid"}
    assert blind(noise)["fid"] == pytest.approx(scorer(noise)["fid"])
    wrong = found._replace(mean=torch.zeros(3), covariance=torch.eye(3))
    write_moments(options.moments, wrong)
    with pytest.raises(ValueError, match=r"--scoring\.moments .* of 3 features, .*random has 448"):
        Scorer(options, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_images": 0}, "--scoring.num-images must be at least 1"),
        ({"real_images": -1}, "--scoring.real-images must not be negative"),
        ({"num_images": 10, "splits": 10}, "too few for --scoring.splits"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        ScoringOptions(**options)


class MeanColour(FeatureExtractor):
    """Mean colours as features; their multiples as logits."""

    name, dim, comparable = "inception", 3, False
    protocol, key = "mean colours", "mean-colours"

    def __init__(self):
        super().__init__()
        self.calls = 0

    def extract(self, images):
        self.calls += 1
        colours = images.mean((2, 3))
        return Features(colours, 5 * colours)


def test_the_second_time_statistics_come_from_the_cache(tmp_path):
    extractor, images = MeanColour(), toy_images(50, resolution=16)
    first = data_statistics(images, extractor, cache_dir=tmp_path, batch_size=20)
    calls = extractor.calls
    second = data_statistics(images, extractor, cache_dir=tmp_path, batch_size=20)
    assert extractor.calls == calls
    assert torch.equal(first.moments.covariance, second.moments.covariance)
    assert torch.equal(first.features, second.features)


def test_other_data_and_other_numbers_have_their_own_entry(tmp_path):
    extractor, images = MeanColour(), toy_images(50, resolution=16)
    mirrored = ArrayImages(images.pixels.flip(2), images.labels, images.class_names, images.name)
    data_statistics(images, extractor, cache_dir=tmp_path)
    data_statistics(mirrored, extractor, cache_dir=tmp_path)
    data_statistics(images, extractor, cache_dir=tmp_path, num_images=20)
    assert len(list((tmp_path / "statistics").iterdir())) == 3


def test_a_damaged_entry_is_made_again(tmp_path):
    extractor, images = MeanColour(), toy_images(50, resolution=16)
    first = data_statistics(images, extractor, cache_dir=tmp_path)
    [file] = (tmp_path / "statistics").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again = data_statistics(images, extractor, cache_dir=tmp_path)
    assert torch.equal(first.moments.mean, again.moments.mean)


def test_statistics_are_those_of_all_features(tmp_path):
    extractor, images = RandomFeatures(), toy_images(60, resolution=16)
    found = data_statistics(images, extractor, cache_dir=tmp_path, batch_size=7)
    direct = moments(extractor(images.pixels.float() / 127.5 - 1).pool)
    torch.testing.assert_close(found.moments.mean, direct.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.moments.covariance, direct.covariance, rtol=1e-4, atol=1e-6)
    assert found.features.shape == (60, 448)


def test_samples_are_scored_by_the_tensorflow_protocol(tmp_path):
    pixels = toy_images(40, resolution=8).pixels.numpy()
    path = tmp_path / "samples.npz"
    np.savez(path, x=pixels, y=np.arange(40) % 10)
    scores = score_samples(path, MeanColour(), batch_size=9, splits=4)
    colours = torch.from_numpy(pixels).double().mean((2, 3)) / 127.5 - 1
    expected = inception_score((5 * colours).softmax(1), splits=4)
    assert scores["inception_score"] == pytest.approx(expected.mean, rel=1e-5)
    assert scores["protocol"] == "mean colours"
    with np.load(tmp_path / "TF_pool.npz") as pool:
        np.testing.assert_allclose(pool["pool_mean"], colours.mean(0), atol=1e-6)
        np.testing.assert_allclose(pool["pool_var"], np.cov(colours.T), atol=1e-6)


def test_bad_samples_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_samples(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    with pytest.raises(ValueError, match=r"is no \.npz file with samples under x"):
        read_samples(tmp_path / "other.npz")
    np.savez(tmp_path / "float.npz", x=np.zeros((2, 3, 4, 4)))
    with pytest.raises(ValueError, match="uint8"):
        read_samples(tmp_path / "float.npz")


def test_ranks_agree_on_whether_the_cache_is_used(tmp_path, monkeypatch):
    extractor, images = MeanColour(), toy_images(50, resolution=16)
    data_statistics(images, extractor, cache_dir=tmp_path)
    calls = extractor.calls
    # A peer that does not see the file yet makes everyone compute, or some would wait forever.
    gathered = distributed.gather_objects
    monkeypatch.setattr(
        distributed,
        "gather_objects",
        lambda value: [value, False] if isinstance(value, bool) else gathered(value),
    )
    data_statistics(images, extractor, cache_dir=tmp_path)
    assert extractor.calls > calls
