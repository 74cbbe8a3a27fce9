from dataclasses import replace

import pytest
import torch
from factories import tiny_config
from tiny_runs import TINY_STYLEGAN2

from fqgan.biggan.config import GeneratorConfig
from fqgan.biggan.networks import build_generator
from fqgan.biggan.sampling import Weights as BigganWeights
from fqgan.page.explorer import BigganGallery, Place, Stylegan2Gallery
from fqgan.stylegan2.legacy import build_generator as build_stylegan2
from fqgan.stylegan2.sampling import Weights as Stylegan2Weights


def biggan(shared_dim=4, **options):
    config = tiny_config(generator=GeneratorConfig(channels=4, latent_dim=8, shared_dim=shared_dim))
    weights = BigganWeights(config, build_generator(config).eval(), ["a", "b", "c"], 0)
    return BigganGallery(weights, **options)


def stylegan2():
    config = replace(TINY_STYLEGAN2, conditional=True).networks(2)
    generator = build_stylegan2(config).eval()
    generator.style_average.normal_()
    return Stylegan2Gallery(Stylegan2Weights(config, generator, ["a", "b"], 0, 0.0))


@pytest.mark.parametrize("make", [biggan, stylegan2])
def test_a_place_has_one_picture_whatever_its_neighbours(make):
    gallery = make()
    places = [Place(3, 0), Place(4, 1), Place(3, 1)]
    images = gallery.images(places, 0.8)
    assert images.shape == (3, 3, gallery.resolution, gallery.resolution)
    torch.testing.assert_close(gallery.images(places[1:2], 0.8)[0], images[1])
    assert not torch.equal(images[0], images[2]), "the class matters"


@pytest.mark.parametrize("make", [biggan, stylegan2])
def test_a_way_begins_and_ends_at_its_places(make):
    gallery = make()
    first, last = Place(0, 0), Place(1, 1)
    way = gallery.between(first, last, 4, 0.9)
    assert len(way) == 4
    ends = gallery.images([first, last], 0.9)
    torch.testing.assert_close(way[[0, -1]], ends, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [biggan, stylegan2])
def test_full_truncation_makes_the_seed_irrelevant(make):
    images = make().images([Place(0, 0), Place(1, 0)], 0.0)
    torch.testing.assert_close(images[0], images[1])


def test_classes_without_a_shared_embedding_cannot_be_mixed_but_noise_can():
    gallery = biggan(shared_dim=0)
    assert len(gallery.between(Place(0, 1), Place(1, 1), 3, 1.0)) == 3
    with pytest.raises(ValueError, match="no shared class embedding"):
        gallery.between(Place(0, 0), Place(1, 1), 3, 1.0)


def test_standing_statistics_are_collected_once():
    gallery = biggan(statistics="standing", standing_batches=1)
    one, other = (gallery.images([Place(0, 0)], 1.0) for _ in range(2))
    assert torch.equal(one, other)
