"""Pictures of users come in; sheets with titles and videos go out."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data.images import to_bytes
from fqgan.pictures import (
    check_picture,
    enlarged,
    grid,
    loop_through,
    midpoints,
    read_square,
    save_sheet,
    save_video,
    tiled,
)


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


def test_titles_stand_beside_rows_and_above_columns(tmp_path):
    images = -torch.ones(4, 3, 32, 32)
    save_sheet(images, tmp_path / "plain.png", 2)
    save_sheet(images, tmp_path / "titled.png", 2, row_titles=("cat", "dog"), column_titles="12")
    plain, titled = (Image.open(tmp_path / f"{name}.png") for name in ("plain", "titled"))
    assert titled.width > plain.width
    assert titled.height > plain.height
    pixels = np.asarray(titled)
    assert pixels[:, : titled.width - plain.width].max() > 200
    assert pixels[: titled.height - plain.height].max() > 200
    assert pixels[titled.height - plain.height :, titled.width - plain.width :].max() == 0


def test_a_way_is_closed_and_keeps_the_spread_of_noise():
    points = torch.randn(3, 2000)
    line, arc = loop_through(points, 30), loop_through(points, 30, keep_spread=True)
    for way in (line, arc):
        torch.testing.assert_close(way[[0, 10, 20]], points, rtol=1e-4, atol=1e-4)
    assert (arc.std(dim=1) - 1).abs().max() < 0.1
    assert line.std(dim=1).min() < 0.8
    with pytest.raises(ValueError, match="cannot go through 3 points"):
        loop_through(points, 2)


def test_a_video_shows_every_frame(tmp_path):
    frames = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 3, 8, 8)
    with Image.open(save_video(frames, tmp_path / "a.gif")) as video:
        assert video.n_frames == 6
        assert video.size == (192, 192)
        assert video.info["duration"] == 40  # milliseconds, 25 a second
        for number, level in enumerate(to_bytes(frames[:, 0, 0, 0]).tolist()):
            video.seek(number)
            assert abs(np.asarray(video.convert("RGB")).mean() - level) < 1
    with pytest.raises(ValueError, match=r"must end with \.gif or \.mp4"):
        save_video(frames, tmp_path / "a.avi")


@pytest.mark.parametrize("size", [(8, 8), (33, 33), (128, 192)])
def test_an_mp4_plays_back_frame_by_frame(tmp_path, size):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    grey = torch.linspace(-1, 1, 12)
    frames = grey.view(12, 1, 1, 1).expand(12, 3, *size)
    reader = imageio_ffmpeg.read_frames(str(save_video(frames, tmp_path / "a.mp4", per_second=20)))
    about = next(reader)
    assert (about["codec"], about["fps"]) == ("h264", 20)
    width, height = about["size"]
    assert width % 2 == height % 2 == 0
    assert min(width, height) >= 96
    assert width / height == size[1] / size[0]
    shown = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    assert len(shown) == 12
    for frame, level in zip(shown, to_bytes(grey).tolist(), strict=True):
        assert abs(frame.mean() - level) < 4, "a lossy format, and no more than that"
        assert frame.std() < 4


def test_an_mp4_needs_a_package_and_says_so(tmp_path, monkeypatch):
    sent = []

    def write_frames(path, size, **options):
        assert size == (192, 192)
        while True:
            sent.append((yield))

    fake = types.ModuleType("imageio_ffmpeg")
    fake.write_frames = write_frames
    fake.__spec__ = importlib.util.spec_from_loader("imageio_ffmpeg", None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", fake)
    save_video(torch.zeros(3, 3, 8, 8), tmp_path / "a.mp4")
    assert [frame.shape for frame in sent] == [(192, 192, 3)] * 3
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'fq-gan\[video\]'"):
        save_video(torch.zeros(3, 3, 8, 8), tmp_path / "a.mp4")
