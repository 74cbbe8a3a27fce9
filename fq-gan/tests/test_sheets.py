import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.pictures import grid, midpoints, save_sheet


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
