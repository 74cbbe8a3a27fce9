import json

import pytest
import torch

from fqgan.data.toy import toy_images
from fqgan.metrics.features import build_extractor
from fqgan.scoring import Scorer, ScoringOptions, record_evaluation


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
    assert two.keys() == {"ppl_wend", "date"}


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
