import pytest
import torch

from fqgan.data.toy import toy_images
from fqgan.scoring import Scorer, ScoringOptions


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
