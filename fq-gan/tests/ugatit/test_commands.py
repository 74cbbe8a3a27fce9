"""The command: a file, a folder, standard input, the test images of a run."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import run_ranks
from PIL import Image
from tiny_runs import begun
from ugatit_cases import image_pair, tiny_networks
from ugatit_runs import tiny_ugatit, tiny_weights

from fqgan import config as families
from fqgan.data import prepare
from fqgan.data.images import normalize, to_bytes
from fqgan.data.unpaired import Domains, UnpairedConfig, build_domains
from fqgan.metrics.distances import kernel_distance
from fqgan.metrics.features import RandomFeatures
from fqgan.runs import weights_of_run
from fqgan.runtime.logs import read_metrics
from fqgan.ugatit.commands import (
    EvaluateConfig,
    TranslateConfig,
    evaluate,
    translate,
    translate_main,
)
from fqgan.ugatit.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    TranslationScoring,
)
from fqgan.ugatit.networks import Translated, build_networks
from fqgan.ugatit.train import TranslationScorer, train
from fqgan.ugatit.translation import (
    Translator,
    comparison,
    heat_colours,
    load_discriminators,
    load_weights,
    save_comparison,
    save_weights,
    start_from,
)


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


def test_all_pictures_that_cannot_be_read_are_named_before_any_is_translated(
    weights, folder, tmp_path
):
    for name in ("a0.png", "z.jpg"):
        (folder / name).write_bytes(b"no picture")
    config = TranslateConfig(weights=str(weights), input=str(folder), device="cpu")
    with pytest.raises(ValueError, match=r"2 files cannot be read as images: a0\.png.*z\.jpg"):
        translate(config)
    assert not (weights / "translations").exists()


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
    with pytest.raises(ValueError, match=r"a_to_b\.safetensors is no whole weight file"):
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


def test_a_run_is_scored_as_during_training(tmp_path, capsys):
    train(tiny_ugatit(tmp_path, max_steps=2, evaluate_every=2))
    families.evaluate(["--run-dir", str(tmp_path), "--device", "cpu"])
    rows = json.loads(capsys.readouterr().out)
    logged = read_metrics(tmp_path)[-1]
    assert [row["data"] for row in rows] == ["filled2inked", "inked2filled"]
    for row in rows:
        for name in ("kid_x100", "kid_x100_std", "kid_x100_untranslated"):
            assert row[name] == pytest.approx(
                logged[f"{name}/{row['data']}"], rel=1e-3
            )  # memory order
        assert row["step"] == 2
        assert row["num_images"] == 10
        assert "not comparable" in row["protocol"]
    written = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").open()]
    assert written == rows


def test_a_folder_of_weights_needs_data_of_its_size(tmp_path):
    weights = tiny_weights(tmp_path / "model")
    with pytest.raises(ValueError, match=r"--data.resolution 256.*images of 24 pixels"):
        evaluate(EvaluateConfig(weights=str(weights), device="cpu"))


def test_two_sources_or_none_are_refused():
    with pytest.raises(ValueError, match="only one of"):
        EvaluateConfig(run_dir="a", weights="b")
    with pytest.raises(ValueError, match="no weights are given"):
        evaluate(EvaluateConfig())


@pytest.fixture(scope="module")
def ready_weights(tmp_path_factory):
    return load_weights(tiny_weights(tmp_path_factory.mktemp("weights") / "model"))


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    return load_weights(tiny_weights(tmp_path_factory.mktemp("weights") / "model", light=True))


def png(mode="RGB", size=(30, 20)):
    stream = io.BytesIO()
    random = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(random).convert(mode).save(stream, "TIFF" if mode == "CMYK" else "PNG")
    return stream.getvalue()


def test_a_path_bytes_and_a_stream_give_the_same_picture(ready_weights, tmp_path):
    content = png()
    (tmp_path / "photo.jpg").write_bytes(content)  # PNG bytes under a .jpg name
    translator = Translator(ready_weights)
    pictures = [
        np.asarray(translator(source))
        for source in (tmp_path / "photo.jpg", content, io.BytesIO(content))
    ]
    assert pictures[0].shape == (24, 24, 3)
    for other in pictures[1:]:
        assert np.array_equal(pictures[0], other)


def test_the_direction_chooses_the_generator(ready_weights):
    translator, content = Translator(ready_weights), png()
    image = translator.read(content)
    for direction, generator in (("a2b", ready_weights.a_to_b), ("b2a", ready_weights.b_to_a)):
        with torch.no_grad():
            expected = to_bytes(generator(image).images[0]).permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(translator(content, direction)), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA"])
def test_pictures_of_other_modes_are_translated(ready_weights, mode):
    assert Translator(ready_weights)(png(mode)).mode == "RGB"


def test_a_light_generator_takes_another_size_and_a_full_one_says_why_not(ready_weights, light):
    assert Translator(light, size=32)(png()).size == (32, 32)
    with pytest.raises(ValueError, match="--size 32: these weights translate 24 pixels only"):
        Translator(ready_weights, size=32)
    with pytest.raises(ValueError, match="--size must be a multiple of 4"):
        Translator(light, size=30)


def test_the_middle_is_cropped_if_asked(ready_weights):
    image = Image.new("RGB", (60, 20))
    image.paste((255, 0, 0), (0, 0, 15, 20))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    stretched, cropped = (
        Translator(ready_weights, shape=shape).read(stream.getvalue())
        for shape in ("stretch", "crop")
    )
    assert stretched.max() > 0.99
    assert cropped.max() < -0.99


def test_what_is_no_picture_is_named(ready_weights, tmp_path):
    translator = Translator(ready_weights)
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg does not exist"):
        translator.read(tmp_path / "absent.jpg")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read as an image"):
        translator.read(tmp_path / "cut.jpg")
    with pytest.raises(ValueError, match="the picture cannot be read as an image"):
        translator.read(b"")


def constant(value):
    """A generator that paints everything in one level, and looks at the left."""

    def translate(images):
        heatmap = torch.zeros(len(images), images.shape[2] // 4, images.shape[3] // 4)
        heatmap[:, :, 0] = 1.0
        return Translated(torch.full_like(images, value), torch.zeros(len(images), 2), heatmap)

    return translate


def test_heat_runs_from_blue_to_red():
    colours = heat_colours(torch.tensor([[[0.0, 4.0], [8.0, 4.0]]]), 2, 2)[0]
    assert colours[:, 0, 0].argmax() == 2
    assert colours[:, 0, 1].argmax() == 1
    assert colours[:, 1, 0].argmax() == 0
    assert heat_colours(torch.ones(2, 3, 3), 12, 8).shape == (2, 3, 12, 8)  # no heat anywhere
    assert colours.abs().max() <= 1


def test_a_comparison_has_the_authors_order():
    images = torch.full((2, 3, 8, 8), 0.1)
    shown = comparison(images, constant(0.5), constant(-0.5)).view(2, 7, 3, 8, 8)
    assert torch.equal(shown[:, 0], images)
    for column, value in ((2, -0.5), (4, 0.5), (6, -0.5)):  # same domain, translated, sent back
        assert torch.equal(shown[:, column], torch.full_like(images, value))
    for column in (1, 3, 5):
        assert (shown[:, column, 0, :, 0] > shown[:, column, 0, :, -1]).all()  # red at the left


def test_a_sheet_has_a_row_for_each_image(tmp_path):
    path = save_comparison(torch.zeros(3, 3, 8, 8), constant(0), constant(1), tmp_path / "s.png")
    with Image.open(path) as sheet:
        assert sheet.size == (7 * 10 + 2, 3 * 10 + 2)


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


@pytest.fixture
def saved(tmp_path):
    networks = build_networks(tiny_networks())
    folder = save_weights(tmp_path / "model", networks, domain_names=("selfie", "anime"), step=9)
    return folder, networks


def test_the_generators_come_back_as_they_were_saved(saved):
    folder, networks = saved
    weights = load_weights(folder)
    assert weights.config == tiny_networks()
    assert (weights.domain_names, weights.step) == (("selfie", "anime"), 9)
    a, b = image_pair(tiny_networks())
    with torch.no_grad():
        assert torch.equal(weights.a_to_b(a).images, networks.a_to_b(a).images)
        assert torch.equal(weights.b_to_a(b).images, networks.b_to_a(b).images)
    assert not weights.a_to_b.training


def test_discriminators_can_be_left_out(tmp_path):
    networks = build_networks(tiny_networks())
    folder = save_weights(tmp_path / "model", networks, discriminators=False)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["a_to_b.safetensors", "b_to_a.safetensors", "config.json"]
    other = build_networks(tiny_networks())
    judge = other.judge_a.state_dict()["local_branch.logit.weight"].clone()
    start_from(folder, other)
    assert torch.equal(other.a_to_b.last.weight, networks.a_to_b.last.weight)
    assert torch.equal(other.judge_a.local_branch.logit.weight, judge)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights were found in .*nowhere"):
        load_weights(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"--initial-weights .*nowhere"):
        start_from(tmp_path / "nowhere", build_networks(tiny_networks()))
    with pytest.raises(FileNotFoundError, match="no weights were found: --run-dir"):
        weights_of_run(tmp_path)


def test_a_run_has_its_weights_in_model(saved):
    folder, _ = saved
    assert weights_of_run(folder.parent) == folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generator": GeneratorConfig(3, num_blocks=1)}, "--generator.channels 2"),
        ({"generator": GeneratorConfig(2, num_blocks=2)}, "--generator.num-blocks 1"),
        ({"generator": GeneratorConfig(2, num_blocks=1, light=True)}, "--generator.no-light"),
        ({"discriminator": DiscriminatorConfig(3, depth=4)}, "--discriminator.channels 2"),
    ],
)
def test_weights_of_other_networks_are_refused_in_one_sentence(saved, changes, said):
    folder, _ = saved
    with pytest.raises(ValueError, match="belongs to another network") as caught:
        start_from(folder, build_networks(tiny_networks(**changes)))
    assert f"there it was {said}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("before", [(), (1,), (1, 2)])
def test_training_can_start_from_networks_with_other_dictionaries(tmp_path, before):
    plain = build_networks(tiny_networks(quantizer=QuantizerConfig(before, codebook_size=5)))
    folder = save_weights(tmp_path / "model", plain)
    networks = build_networks(tiny_networks())
    start_from(folder, networks)
    ours, theirs = networks.judge_a.local_branch.logit.weight, plain.judge_a.local_branch.logit
    assert torch.equal(ours, theirs.weight)


def test_the_discriminators_come_back_with_their_dictionaries(saved, tmp_path):
    folder, networks = saved
    for found, judge in zip(load_discriminators(folder), networks.discriminators(), strict=True):
        state = judge.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    bare = save_weights(tmp_path / "bare", networks, discriminators=False)
    with pytest.raises(FileNotFoundError, match="holds no discriminator"):
        load_discriminators(bare)
