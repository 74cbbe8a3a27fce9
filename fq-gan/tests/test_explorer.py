""""""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from factories import tiny_config
from PIL import Image
from tiny_runs import TINY_STYLEGAN2, tiny_run, tiny_stylegan2
from torch import nn
from ugatit_runs import tiny_ugatit, tiny_weights

from fqgan.biggan.config import GeneratorConfig
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.biggan.sampling import Weights as BigganWeights
from fqgan.biggan.train import train as train_biggan
from fqgan.page.codebook import Codebook, colour_of, draw_codes, fired_codes, quantizers
from fqgan.page.explorer import BigganGallery, Draw, Stylegan2Gallery, load_explorer
from fqgan.quantizer import FeatureQuantizer
from fqgan.runs import save_weights
from fqgan.stylegan2.legacy import build_generator as build_stylegan2
from fqgan.stylegan2.sampling import Weights as Stylegan2Weights
from fqgan.stylegan2.train import train as train_stylegan2
from fqgan.ugatit.train import train as train_ugatit


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train_biggan(tiny_run(folder / "biggan", max_steps=1))
    train_stylegan2(
        tiny_stylegan2(
            folder / "stylegan2", schedule=replace(TINY_STYLEGAN2.schedule, total_kimg=0.004)
        )
    )
    train_ugatit(tiny_ugatit(folder / "ugatit", max_steps=1))
    return folder


@pytest.fixture
def junk(tmp_path):
    path = tmp_path / "letter.png"
    path.write_text("this is no picture")
    return path


@pytest.mark.parametrize("family", ["biggan", "stylegan2"])
def test_a_run_gives_sheets_ways_and_truncations(runs, family):
    explorer = load_explorer(runs / family)
    assert "data" in explorer.samples.source
    names = explorer.gallery.class_names
    one, other = names[0], names[-1]
    sheet = explorer.sheet([one, other], 3, 5, 1.0)
    assert sheet.width > sheet.height
    assert explorer.sheet([one, other], 3, 5, 1.0).tobytes() == sheet.tobytes()
    assert explorer.sheet([one, other], 3, 6, 1.0).tobytes() != sheet.tobytes()
    way = explorer.interpolation((one, 0), (other, 1), 4, 1.0)
    assert abs(way.width / way.height - (4 / 3 if one != other else 4)) < 0.1
    assert explorer.truncations(one, 0, 2).width > 0


@pytest.mark.parametrize("family", ["biggan", "stylegan2", "ugatit"])
def test_the_codes_of_a_sample_and_of_an_upload_are_shown(runs, family, tmp_path):
    explorer = load_explorer(runs / family)
    (domain, book), *_ = explorer.codebooks.items()
    layer = next(iter(book.sizes))
    picture, rows = explorer.codes(domain, layer, None, 2)
    assert picture.size == (480, 480)
    draws = book.fired[layer].codes[0].numel()
    assert sum(row[1] for row in rows) == draws
    code = explorer.code_at(domain, layer, None, 2, (0.999, 0.0))
    assert code == int(book.fired[layer].codes[2, 0, -1])
    sheet, sentence = explorer.patches(domain, layer, code)
    assert sheet is not None
    assert f"code {code} of {book.sizes[layer]}" in sentence
    Image.new("RGBA", (50, 30), "red").save(tmp_path / "red.png")
    _, rows = explorer.codes(domain, layer, str(tmp_path / "red.png"), 0, code)
    assert sum(row[1] for row in rows) == draws


def test_a_picture_is_translated_both_ways_with_a_heat_map(runs, tmp_path):
    explorer = load_explorer(runs / "ugatit")
    assert explorer.gallery is None
    for number, direction in enumerate(explorer.directions):
        found = explorer.translate(None, 1, direction)
        assert found.picture.size == found.translated.size == found.heatmap.size
        assert found.sentence.startswith(direction)
        domain = list(explorer.samples.images)[number]
        assert explorer.samples.images[domain].shape[0] > 1
    Image.new("L", (64, 40), 99).save(tmp_path / "grey.jpg")
    uploaded = explorer.translate(str(tmp_path / "grey.jpg"), 0, explorer.directions[0])
    assert uploaded.picture.getpixel((10, 10)) == (99, 99, 99)


def test_what_a_user_can_mend_is_one_sentence(runs, junk):
    biggan, ugatit = load_explorer(runs / "biggan"), load_explorer(runs / "ugatit")
    with pytest.raises(ValueError, match=r"letter\.png cannot be read as an image"):
        ugatit.translate(str(junk), 0, ugatit.directions[0])
    (layer, *_) = biggan.codebooks["images"].sizes
    with pytest.raises(ValueError, match=r"letter\.png cannot be read as an image"):
        biggan.codes("images", layer, str(junk), 0)
    with pytest.raises(ValueError, match="the codes of this layer are 0 to 7, got 8"):
        biggan.patches("images", layer, 8)
    with pytest.raises(ValueError, match="a seed is a number from 0"):
        biggan.sheet([], 2, None, 1.0)
    with pytest.raises(ValueError, match="no class 'dragon'"):
        biggan.truncations("dragon", 0, 1)
    with pytest.raises(ValueError, match="translate images and draw none"):
        ugatit.sheet([], 2, 0, 1.0)
    with pytest.raises(ValueError, match="draw images and translate none"):
        biggan.translate(None, 0, "a to b")


def test_weights_alone_bring_no_data_but_pictures_of_ones_own_do(tmp_path, runs):
    config = tiny_config()
    save_weights(tmp_path / "bare", config, build_generator(config))
    bare = load_explorer(tmp_path / "bare")
    assert "drawn by the generator" in bare.samples.source
    assert not bare.codebooks
    (tmp_path / "mine").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 48), (80 * number, 0, 0)).save(tmp_path / f"mine/{number}.png")
    own = load_explorer(runs / "biggan" / "model", tmp_path / "mine")
    assert own.samples.images["images"].shape == (3, 3, 32, 32)
    assert own.codebooks["images"].images.shape[0] == 3
    translator = load_explorer(tiny_weights(tmp_path / "pair"))
    with pytest.raises(ValueError, match="upload a picture"):
        translator.translate(None, 0, translator.directions[0])
    with pytest.raises(ValueError, match="no image to cut patches from"):
        translator.patches("selfie", next(iter(translator.codebooks["selfie"].sizes)), 0)


def test_data_that_went_away_are_replaced_by_drawn_images(runs, tmp_path):
    shutil.copytree(runs / "biggan", tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    text = config.read_text().replace('"source": "toy"', '"source": "hdf5"')
    text = text.replace('"path": ""', '"path": "gone.hdf5"')
    config.write_text(text)
    explorer = load_explorer(tmp_path / "run")
    assert "drawn by the generator" in explorer.samples.source
    assert torch.isfinite(explorer.samples.images["images"]).all()


def test_an_empty_folder_and_bad_pictures_are_named(tmp_path, runs):
    with pytest.raises(FileNotFoundError, match="run `fqgan demo --run-dir x` first"):
        load_explorer(tmp_path, command="fqgan demo --run-dir x")
    with pytest.raises(FileNotFoundError, match=r"--images .* is not a folder"):
        load_explorer(runs / "biggan", tmp_path / "none")
    with pytest.raises(ValueError, match="holds no image"):
        load_explorer(runs / "biggan", tmp_path)


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
    draws = [Draw(3, 0), Draw(4, 1), Draw(3, 1)]
    images = gallery.images(draws, 0.8)
    assert images.shape == (3, 3, gallery.resolution, gallery.resolution)
    torch.testing.assert_close(gallery.images(draws[1:2], 0.8)[0], images[1])
    assert not torch.equal(images[0], images[2]), "the class matters"


@pytest.mark.parametrize("make", [biggan, stylegan2])
def test_a_way_begins_and_ends_at_its_places(make):
    gallery = make()
    first, last = Draw(0, 0), Draw(1, 1)
    way = gallery.interpolate(first, last, 4, 0.9)
    assert len(way) == 4
    ends = gallery.images([first, last], 0.9)
    torch.testing.assert_close(way[[0, -1]], ends, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [biggan, stylegan2])
def test_full_truncation_makes_the_seed_irrelevant(make):
    images = make().images([Draw(0, 0), Draw(1, 0)], 0.0)
    torch.testing.assert_close(images[0], images[1])


def test_classes_without_a_shared_embedding_cannot_be_mixed_but_noise_can():
    gallery = biggan(shared_dim=0)
    assert len(gallery.interpolate(Draw(0, 1), Draw(1, 1), 3, 1.0)) == 3
    with pytest.raises(ValueError, match="no shared class embedding"):
        gallery.interpolate(Draw(0, 0), Draw(1, 1), 3, 1.0)


def test_standing_statistics_are_collected_once():
    gallery = biggan(statistics="standing", standing_batches=1)
    one, other = (gallery.images([Draw(0, 0)], 1.0) for _ in range(2))
    assert torch.equal(one, other)


class Corners(nn.Module):
    """Looks at 2 x 2 places of an image; code 0 is black, code 1 is white."""

    def __init__(self):
        super().__init__()
        self.quantizer = FeatureQuantizer(3, 3)
        self.quantizer.set_codes(torch.tensor([[-1.0] * 3, [1.0] * 3, [9.0] * 3]))

    def forward(self, images):
        return self.quantizer(nn.functional.avg_pool2d(images, images.shape[-1] // 2))


def bright_corners(*levels):
    """Images of 16 pixels, black but for the lower right quarter."""
    images = -torch.ones(len(levels), 3, 16, 16)
    for image, level in zip(images, levels, strict=True):
        image[:, 8:, 8:] = level
    return images


def book_of(images):
    network = Corners().eval()
    return Codebook(network, network, images, batch_size=2)


def test_the_code_and_the_distance_of_every_place_are_found():
    fired = book_of(bright_corners(0.5)).fired["quantizer"]
    assert fired.codes.tolist() == [[[0, 0], [0, 1]]]
    torch.testing.assert_close(fired.distance[0, 1, 1], torch.tensor(3 * 0.25))


def test_shares_add_up_to_one_and_a_dead_code_has_none():
    shares = book_of(bright_corners(1.0, 1.0, -1.0)).shares("quantizer")
    torch.testing.assert_close(shares, torch.tensor([10 / 12, 2 / 12, 0.0]))


def test_patches_show_the_places_nearest_to_the_code_first():
    book = book_of(bright_corners(0.6, -1.0, 1.0))
    patches = book.patches("quantizer", 1)
    assert patches.shape == (2, 3, 16, 16)
    assert patches[0].max() == 1.0, "the nearest comes first"
    assert abs(float(patches[1].max()) - 0.6) < 1e-6
    assert len(book.patches("quantizer", 2)) == 0
    assert len(book.patches("quantizer", 0, count=2)) == 2


def test_without_images_there_is_nothing_to_cut_from():
    book = book_of(torch.zeros(0, 3, 16, 16))
    assert book.shares("quantizer").sum() == 0
    assert len(book.patches("quantizer", 0)) == 0
    assert book.read(bright_corners(1.0))["quantizer"].codes.shape == (1, 2, 2)


def test_looking_leaves_a_discriminator_and_its_hooks_as_they_were():
    network = build_discriminator(tiny_config()).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.long)
    found = fired_codes(network, lambda: network(images, labels))
    assert list(found) == list(quantizers(network)) == ["blocks.0.1", "blocks.2.1"]
    assert found["blocks.0.1"].codes.shape == (2, 16, 16)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(not part._forward_hooks for part in network.modules())


def test_a_map_has_the_colours_of_its_codes_and_darkens_the_others():
    image = Image.new("RGB", (8, 8), "white")
    index = torch.tensor([[0, 1], [1, 1]])
    drawn = draw_codes(image, index, size=80)
    assert drawn.size == (80, 80)
    corner = drawn.getpixel((2, 2))
    expected = tuple(255 * 0.55 + level * 0.45 for level in colour_of(0))
    assert all(abs(a - b) <= 1.5 for a, b in zip(corner, expected, strict=True))
    only = draw_codes(image, index, code=1, size=80)
    assert only.getpixel((2, 2))[0] < 100
    assert only.getpixel((78, 78)) == (255, 255, 255)


def test_a_fine_map_has_no_numbers():
    index = torch.zeros(64, 64, dtype=torch.long)
    drawn = draw_codes(Image.new("RGB", (64, 64)), index, size=128)
    assert len(drawn.getcolors()) == 1
