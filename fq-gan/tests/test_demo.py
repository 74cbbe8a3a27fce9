import re

import pytest
import torch
from PIL import Image

from fqgan.biggan.config import SMOKE
from fqgan.config import presets_of
from fqgan.data.images import normalize
from fqgan.data.toy import SHAPES, toy_images
from fqgan.page.demo import DemoConfig, demo, main as demo_main
from fqgan.page.shapes import recognised, train_judge
from fqgan.runtime.logs import read_metrics
from fqgan.stylegan2.config import SMOKE as STYLEGAN2_SMOKE
from fqgan.ugatit.config import SMOKE as UGATIT_SMOKE


def test_the_demo_ends_with_a_sheet_a_score_and_curves(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(presets_of("biggan"), "demo", ("in miniature", SMOKE))
    demo_main(["--run-dir", str(tmp_path), "--max-steps", "2"])
    sheet, curves, scores, codes, shapes = capsys.readouterr().out.splitlines()
    assert "fixed_000002.png" in sheet
    assert (tmp_path / "samples" / "fixed_000002.png").exists()
    assert "curves" in curves
    assert "not comparable" in scores
    assert codes.startswith("codes in use")
    assert codes.count(" dead) in blocks.") == 4
    assert re.match(
        r"shapes that a classifier .* of 50 images .*: \d+ of 10; shares: circle \d", shapes
    )
    assert all(f"{name} " in shapes for name in SHAPES)
    assert re.search(r"within a class: \d\.\d\d, of the data's 0\.\d\d; sheet", shapes)
    with Image.open(tmp_path / "samples" / "shapes.png") as drawn:
        assert drawn.height == 10 * 34 + 2, "a row a shape"
        assert drawn.width > 10 * 34 + 2, "and a title"
    assert "fid" in read_metrics(tmp_path)[-1]


@pytest.mark.slow
def test_a_classifier_recognises_all_ten_shapes_of_the_demo(tmp_path):
    shapes = demo(DemoConfig(run_dir=str(tmp_path)))[-1]
    shares = re.findall(r"(\w+) (\d\.\d\d)", shapes.split("shares: ")[1].split(";")[0])
    assert [name for name, _ in shares] == list(SHAPES)
    assert min(float(share) for _, share in shares) > 0.7
    spread, real = map(float, re.findall(r"(?:class:|data's) (\d\.\d\d)", shapes))
    assert spread > real / 3, "one picture a class would be recognised too"


def test_the_demo_of_ugatit_ends_with_two_sheets_and_two_scores(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(presets_of("ugatit"), "ugatit-demo", ("in miniature", UGATIT_SMOKE))
    demo_main(["--family", "ugatit", "--run-dir", str(tmp_path), "--max-steps", "2", "--baseline"])
    sheets, curves, there, back = capsys.readouterr().out.splitlines()
    for way, line in (("filled2inked", there), ("inked2filled", back)):
        assert str(tmp_path / "samples" / f"{way}_000002.png") in sheets
        assert (tmp_path / "samples" / f"{way}_000002.png").exists()
        assert f"KID x 100 of {way}" in line
        assert "at 0, " in line
    assert "curves" in curves


def test_the_demo_of_stylegan2_counts_images(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(
        presets_of("stylegan2"), "stylegan2-demo", ("in miniature", STYLEGAN2_SMOKE)
    )
    demo_main(["--family", "stylegan2", "--run-dir", str(tmp_path), "--max-steps", "8"])
    sheet, curves, scores, codes = capsys.readouterr().out.splitlines()
    assert "codes in use" in codes
    assert str(tmp_path / "samples" / "fixed_00000008.png") in sheet
    assert "curves" in curves
    assert "FID by images" in scores
    assert scores.endswith(" at 8")


def test_the_demos_of_the_families_have_folders_of_their_own():
    folders = {DemoConfig(family, runs="r").folder for family in ("biggan", "ugatit", "stylegan2")}
    assert folders == {"r/demo", "r/ugatit-demo", "r/stylegan2-demo"}
    assert DemoConfig("ugatit", run_dir="elsewhere", runs="r").folder == "elsewhere"


def test_a_negative_number_of_iterations_is_named():
    with pytest.raises(ValueError, match="--max-steps must not be negative"):
        DemoConfig(max_steps=-1)


@pytest.mark.parametrize("size", [16, 32])
def test_the_judge_of_the_demo_recognises_shapes_that_it_never_saw_and_no_noise(size):
    before = torch.get_rng_state()
    judge = train_judge(steps=100, batch_size=64, resolution=size)
    assert torch.equal(torch.get_rng_state(), before)
    images = toy_images(300, seed=9, resolution=size)
    shares = recognised(judge, normalize(images.pixels), images.labels)
    assert list(shares) == list(SHAPES)
    assert sum(shares.values()) / 10 > 0.7
    noise = torch.randn(300, 3, size, size)
    assert sum(recognised(judge, noise, images.labels).values()) / 10 < 0.3
