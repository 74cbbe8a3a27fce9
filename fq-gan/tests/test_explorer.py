import shutil
from dataclasses import replace

import pytest
import torch
from factories import tiny_config
from PIL import Image
from tiny_runs import TINY_STYLEGAN2, tiny_run, tiny_stylegan2
from ugatit_runs import tiny_ugatit, tiny_weights

from fqgan.biggan.networks import build_generator
from fqgan.biggan.train import train as train_biggan
from fqgan.page.explorer import load_explorer
from fqgan.runs import save_weights
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
    way = explorer.way((one, 0), (other, 1), 4, 1.0)
    assert abs(way.width / way.height - (4 / 3 if one != other else 4)) < 0.1
    assert explorer.truncations(one, 0, 2).width > 0


@pytest.mark.parametrize("family", ["biggan", "stylegan2", "ugatit"])
def test_the_codes_of_a_sample_and_of_an_upload_are_shown(runs, family, tmp_path):
    explorer = load_explorer(runs / family)
    (domain, book), *_ = explorer.codebooks.items()
    layer = next(iter(book.sizes))
    picture, rows = explorer.codes(domain, layer, None, 2)
    assert picture.size == (480, 480)
    places = book.fired[layer].codes[0].numel()
    assert sum(row[1] for row in rows) == places
    code = explorer.code_at(domain, layer, None, 2, (0.999, 0.0))
    assert code == int(book.fired[layer].codes[2, 0, -1])
    sheet, sentence = explorer.patches(domain, layer, code)
    assert sheet is not None
    assert f"code {code} of {book.sizes[layer]}" in sentence
    Image.new("RGBA", (50, 30), "red").save(tmp_path / "red.png")
    _, rows = explorer.codes(domain, layer, str(tmp_path / "red.png"), 0, code)
    assert sum(row[1] for row in rows) == places


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
