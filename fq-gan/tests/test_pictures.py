import pytest
import torch
from PIL import Image

from fqgan.pictures import check_picture, enlarged, read_square, tiled


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
