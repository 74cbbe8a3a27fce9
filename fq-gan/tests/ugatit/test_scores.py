"""KID of both directions is that of the features of what was translated."""

import pytest
import torch
from factories import run_ranks

from fqgan.data.images import normalize
from fqgan.data.unpaired import Domains, UnpairedConfig, build_domains
from fqgan.metrics.distances import kernel_distance
from fqgan.metrics.features import RandomFeatures
from fqgan.ugatit.config import TranslationScoring
from fqgan.ugatit.networks import Translated
from fqgan.ugatit.train import TranslationScorer

OPTIONS = TranslationScoring("random", subsets=5, batch_size=4)


@pytest.fixture(scope="module")
def domains():
    return build_domains(UnpairedConfig("toy", resolution=16, toy_images=120), "test")


def inverted(images):
    return Translated(-images, torch.zeros(len(images), 2), torch.zeros(len(images), 4, 4))


def untouched(images):
    return Translated(images, torch.zeros(len(images), 2), torch.zeros(len(images), 4, 4))


def test_scores_agree_with_an_independent_computation(domains):
    found = TranslationScorer(OPTIONS, domains, ("x", "y"))(untouched, inverted)
    a, b = (normalize(images.pixels) for images in domains)
    extractor = RandomFeatures()
    features = [extractor(images).pool for images in (a, b, -b)]
    options = {"subset_size": 6, "subsets": 5}
    kept = kernel_distance(features[1], features[0], **options)
    turned = kernel_distance(features[0], features[2], **options)
    assert found["x2y"]["kid_x100"] == pytest.approx(100 * kept.mean, rel=1e-3)
    assert found["y2x"]["kid_x100"] == pytest.approx(100 * turned.mean, rel=1e-3)
    assert found["y2x"]["kid_x100_std"] == pytest.approx(100 * turned.std, rel=1e-2)
    for row in found.values():
        assert row["kid_x100_untranslated"] == pytest.approx(
            100 * kernel_distance(features[0], features[1], **options).mean, rel=1e-3
        )


def scored_by(rank, store):
    domains = build_domains(UnpairedConfig("toy", resolution=16, toy_images=110), "test")
    found = TranslationScorer(OPTIONS, domains, ("x", "y"))(untouched, inverted)
    torch.save(found, f"{store}.{rank}")


def test_two_ranks_find_what_one_process_finds(tmp_path):
    run_ranks(scored_by, str(tmp_path / "store"))
    scored_by("alone", str(tmp_path / "store"))
    alone, *ranks = (torch.load(tmp_path / f"store.{name}") for name in ("alone", 0, 1))
    for found in ranks:
        for direction, row in alone.items():
            assert found[direction] == pytest.approx(row, rel=1e-4)


def test_too_few_images_are_named(domains):
    few = Domains(domains.a, build_domains(UnpairedConfig("toy", resolution=16), "test").b)
    options = TranslationScoring("random", subset_size=20)
    with pytest.raises(ValueError, match=r"12 test images are too few for KID.*subset-size 20"):
        TranslationScorer(options, few, ("x", "y"))
