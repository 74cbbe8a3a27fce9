"""Several processes that fill one cache at once leave one valid entry."""

import pytest
import torch
from jobs import together
from PIL import Image

from fqgan.data.folders import read_folder
from fqgan.data.toy import toy_images
from fqgan.metrics.features import FeatureExtractor, Features
from fqgan.metrics.statistics import read_statistics
from fqgan.scoring import data_statistics


class MeanColour(FeatureExtractor):
    """Mean colours: cheap, and enough for statistics."""

    name, dim, comparable = "inception", 3, False
    protocol, key = "mean colours", "mean-colours"

    def extract(self, images):
        return Features(images.mean((2, 3)), None)


@pytest.mark.parametrize("attempt", range(3))
def test_statistics_made_by_several_processes_at_once_are_valid(tmp_path, attempt):
    images = toy_images(60, seed=attempt, resolution=16)
    together(lambda: data_statistics(images, MeanColour(), cache_dir=tmp_path))
    [file] = (tmp_path / "statistics").iterdir()
    alone = data_statistics(images, MeanColour(), cache_dir=tmp_path / "other")
    assert torch.equal(read_statistics(file).moments.covariance, alone.moments.covariance)


def test_a_list_of_files_made_by_several_processes_at_once_is_valid(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(40):
            Image.new("RGB", (4, 4)).save(tmp_path / "data" / name / f"{number}.png")

    def read():
        assert len(read_folder(tmp_path / "data", resolution=4, cache_dir=tmp_path / "cache")) == 80

    together(read)
    [file] = (tmp_path / "cache").rglob("*.json")
    before = file.stat().st_mtime_ns
    read()
    assert file.stat().st_mtime_ns == before, "the entry is used, not made again"
    assert not list((tmp_path / "cache").rglob("*.tmp"))
