import json
from dataclasses import replace

import pytest
import torch

from fqgan.data.datasets import DataConfig
from fqgan.data.toy import toy_images
from fqgan.metrics.distances import write_moments
from fqgan.metrics.features import build_extractor
from fqgan.scoring import Scorer, ScoringOptions, data_statistics, open_scorer, record_evaluation


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
        record_evaluation(tmp_path, {"num_images": count}, extractor, published_images=50_000)
        for count in (100, 50_000)
    ]
    assert [(row["trial"], row["comparable"]) for row in found] == [(True, False), (False, True)]


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
        ({"num_images": 10, "splits": 10}, "too few for --scoring.splits"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        ScoringOptions(**options)
