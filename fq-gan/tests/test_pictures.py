""""""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.pictures import check_picture, enlarged, grid, midpoints, read_square, save_sheet, tiled


def test_the_middle_square_of_any_picture_is_read(tmp_path):
    wide = Image.new("RGBA", (90, 30), "black")
    wide.paste("white", (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    found = read_square(tmp_path / "wide.png", 16)
    assert found.shape == (1, 3, 16, 16)
    assert bool((found == 1.0).all())


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(40), b"<svg/>"])
def test_what_is_no_picture_is_named_without_its_folder(tmp_path, content):
    (tmp_path / "odd.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"^odd\.png cannot be read as an image"):
        check_picture(tmp_path / "odd.png")


def test_a_picture_on_its_side_is_turned(tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "side.jpg", exif=exif)
    assert check_picture(tmp_path / "side.jpg").size == (10, 20)


def test_small_images_are_enlarged_in_whole_steps():
    images = torch.rand(5, 3, 32, 32) * 2 - 1
    sheet = tiled(images, 3)
    assert sheet.size == (3 * 98 + 2, 2 * 98 + 2)
    assert enlarged(images[0]).size == (384, 384)
    assert enlarged(torch.zeros(3, 512, 512)).size == (512, 512)


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/interp*.npz")
def test_midpoints_are_those_of_the_authors(case):
    recorded = np.load(case)
    first, last = (torch.from_numpy(recorded[name])[:, 0] for name in ("x0", "x1"))
    outputs = [name for name in recorded.files if name.startswith("out")]
    assert outputs
    for name in outputs:
        found = midpoints(first, last, int(name.removeprefix("out")))
        torch.testing.assert_close(found, torch.from_numpy(recorded[name]), rtol=1e-6, atol=1e-6)


def test_a_grid_is_filled_row_by_row_with_black_borders():
    images = torch.arange(1, 4, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    sheet = grid(images, 2, border=1)
    assert sheet.shape == (3, 7, 7)
    assert sheet[0, 1, 1] == 1
    assert sheet[0, 1, 4] == 2
    assert sheet[0, 4, 1] == 3
    assert sheet[:, 0].sum() == 0
    assert sheet[0, 4, 4] == 0


def test_the_range_of_a_sheet_is_fixed(tmp_path):
    images = torch.stack([torch.full((3, 2, 2), value) for value in (-1.0, 0.0, 1.0)])
    path = save_sheet(images, tmp_path / "new" / "sheet.png", 3, border=0)
    pixels = np.asarray(Image.open(path))
    assert pixels[0, ::2, 0].tolist() == [0, 128, 255]
