"""The command: a file, a folder, standard input, the test images of a run."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_runs import begun
from ugatit_runs import tiny_ugatit, tiny_weights

from fqgan.data import prepare
from fqgan.ugatit.commands import TranslateConfig, translate, translate_main


@pytest.fixture
def weights(tmp_path):
    return tiny_weights(tmp_path / "model")


@pytest.fixture
def folder(tmp_path):
    """Two pictures whose names differ in their endings only, another one, and no picture."""
    place = tmp_path / "photos"
    place.mkdir()
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(place / name, "PNG")
    (place / "notes.txt").write_text("")
    return place


def names(paths, start):
    return [str(path.relative_to(start)) for path in paths]


def test_one_file_becomes_one_picture(weights, folder, tmp_path, capsys):
    words = ["--weights", str(weights), "--input", str(folder / "b.png"), "--device", "cpu"]
    translate_main([*words, "--out", str(tmp_path / "out")])
    path = tmp_path / "out" / "selfie2anime" / "b.png"
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as image:
        assert image.size == (24, 24)


def test_a_folder_both_directions_heat_maps_and_sheets(weights, folder, tmp_path):
    config = TranslateConfig(
        weights=str(weights),
        input=str(folder),
        direction="both",
        heatmaps=True,
        sheet=2,
        device="cpu",
    )
    written = names(translate(config), weights / "translations")
    for direction in ("selfie2anime", "anime2selfie"):
        for stem in ("a.jpg", "a.png", "b"):
            assert f"{direction}/{stem}.png" in written
            assert f"{direction}/{stem}_heatmap.png" in written
        assert f"{direction}_sheet.png" in written
    assert len(written) == 14
    with Image.open(weights / "translations" / "selfie2anime_sheet.png") as sheet:
        assert sheet.size == (7 * 26 + 2, 2 * 26 + 2)


def test_an_upload_comes_from_standard_input(weights, folder, tmp_path, monkeypatch):
    content = (folder / "a.jpg").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    config = TranslateConfig(weights=str(weights), input="-", direction="b2a", device="cpu")
    assert names(translate(config), weights / "translations") == ["anime2selfie/picture.png"]


def test_without_input_the_test_images_of_the_run_are_translated(weights, tmp_path):
    prepare.main(["toy-domains", "--out", str(tmp_path / "toy"), "--toy-images", "100",
                  "--resolution", "24"])  # fmt: skip
    run = tiny_ugatit(tmp_path)
    run = replace(run, data=replace(run.data, source="folders", path=str(tmp_path / "toy")))
    begun(tmp_path, run)
    written = translate(TranslateConfig(run_dir=str(tmp_path), limit=2, device="cpu"))
    assert names(written, tmp_path / "translations") == [
        "selfie2anime/00000.png",
        "selfie2anime/00001.png",
        "anime2selfie/00000.png",
        "anime2selfie/00001.png",
    ]


def test_a_run_on_toy_images_asks_for_input(weights, tmp_path):
    begun(tmp_path, tiny_ugatit(tmp_path))
    with pytest.raises(ValueError, match=r"are no files: give --input.*toy-domains"):
        translate(TranslateConfig(run_dir=str(tmp_path), device="cpu"))


def test_fractions_are_cut_off_as_the_authors_do_if_asked(weights, folder, tmp_path):
    pixels = []
    for truncate in (False, True):
        config = TranslateConfig(
            weights=str(weights), input=str(folder / "b.png"), truncate=truncate, device="cpu"
        )
        with Image.open(translate(config)[0]) as image:
            pixels.append(np.asarray(image).astype(int))
    difference = pixels[0] - pixels[1]
    assert difference.min() >= 0
    assert difference.max() == 1


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    for options in ({"run_dir": str(tmp_path)}, {"weights": str(tmp_path)}):
        with pytest.raises(FileNotFoundError, match="no weights were found"):
            translate(TranslateConfig(input="a.png", device="cpu", **options))


def test_a_damaged_checkpoint_and_one_of_another_width_are_named(weights, tmp_path, folder):
    config = json.loads((weights / "config.json").read_text())
    options = TranslateConfig(weights=str(weights), input=str(folder), device="cpu")
    config["generator"]["channels"] = 4
    (weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"a_to_b\.safetensors does not fit"):
        translate(options)
    (weights / "a_to_b.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"a_to_b\.safetensors is damaged"):
        translate(options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input": "nowhere"}, "--input nowhere is neither a file nor a folder"),
        ({}, "nothing to translate: give --input"),
    ],
)
def test_input_that_is_not_there_is_named(weights, options, said):
    with pytest.raises((FileNotFoundError, ValueError), match=said):
        translate(TranslateConfig(weights=str(weights), device="cpu", **options))


def test_an_empty_folder_and_bad_options_are_named(weights, tmp_path):
    (tmp_path / "empty").mkdir()
    config = TranslateConfig(weights=str(weights), input=str(tmp_path / "empty"), device="cpu")
    with pytest.raises(ValueError, match="holds no image"):
        translate(config)
    with pytest.raises(ValueError, match="no weights are given"):
        translate(TranslateConfig())
    with pytest.raises(ValueError, match="only one of"):
        TranslateConfig(run_dir="a", weights="b")
    with pytest.raises(ValueError, match="--sheet must not be negative"):
        TranslateConfig(sheet=-1)
