import torch
from PIL import Image

from fqgan.ugatit.networks import Translated
from fqgan.ugatit.translation import comparison, heat_colours, save_comparison


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
