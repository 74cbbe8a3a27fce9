"""The published figures are whole tables that agree with their sums and a copy made by hand."""

from pathlib import Path

import pytest

from fqgan.runtime.published import read_published, read_tables

PUBLISHED = Path(__file__).parents[1] / "published"
FIGURES = {figure.key: figure for figure in read_published(PUBLISHED)}


def test_tables_are_whole():
    counts = {table.label: len(table.figures) for table in read_tables(PUBLISHED)}
    assert counts == {
        "BigGAN": 18,
        "BigGAN, by others": 5,
        "CIFAR-100 curves": 10,
        "ImageNet per class": 6,
        "Relative gain": 4,
        "Cost": 2,
        "Networks": 1,
        "FFHQ": 10,
        "U-GAT-IT with FQ": 2,
        "U-GAT-IT": 61,
    }


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        (("BigGAN", "BigGAN", "CIFAR-10", "FID"), "6.30"),
        (("BigGAN", "FQ-BigGAN", "CIFAR-100", "FID"), "7.42"),
        (("BigGAN", "FQ-BigGAN", "ImageNet 64x64", "IS"), "25.96"),
        (("BigGAN", "FQ-BigGAN", "ImageNet 128x128", "FID"), "13.77"),
        (("FFHQ", "FQ-StyleGAN", "FFHQ 1024x1024", "FID"), "4.89"),
        (("FFHQ", "StyleGAN2", "FFHQ 1024x1024", "FID"), "3.31"),
        (("U-GAT-IT with FQ", "FQ-U-GAT-IT", "anime2selfie", "KID x 100"), "10.23"),
        (("U-GAT-IT", "U-GAT-IT", "horse2zebra", "KID x 100"), "7.06 ± 0.80"),
        (("U-GAT-IT", "UNIT", "anime2selfie", "KID x 100"), "26.32 ± 0.92"),
        (("U-GAT-IT", "CartoonGAN", "selfie2anime", "KID x 100"), "15.85 ± 0.69"),
        (("ImageNet per class", "BigGAN, hardest class", "ImageNet", "MMD"), "≥ 0.066"),
        (("ImageNet per class", "BigGAN, hardest class", "ImageNet", "FID"), "≥ 2.5"),
    ],
)
def test_figures_checked_by_hand(key, printed):
    assert str(FIGURES[key]) == printed


def test_relative_gains_follow_from_the_published_scores():
    gains = [one for one in FIGURES.values() if one.metric == "FID change"]
    assert len(gains) == 4
    for gain in gains:
        with_fq = FIGURES["BigGAN", "FQ-BigGAN", gain.data, "FID"].value
        without = FIGURES["BigGAN", "BigGAN", gain.data, "FID"].value
        assert float(gain.value) == pytest.approx(100 * float(with_fq / without - 1), abs=0.006)


def test_curves_end_at_the_table_and_quantization_lowers_every_point_of_them():
    curves = {key[1:]: one.value for key, one in FIGURES.items() if key[0] == "CIFAR-100 curves"}
    assert (
        curves["FQ-BigGAN", "95k iterations", "FID"]
        == FIGURES["BigGAN", "FQ-BigGAN", "CIFAR-100", "FID"].value
    )
    for (row, data, metric), value in curves.items():
        if (row, metric) == ("BigGAN", "FID"):
            assert curves["FQ-BigGAN", data, metric] < value


def test_nobody_calls_a_leaderboards_row_the_best_run():
    assert not [key for key in FIGURES if "best run" in key[1]]
    listed = [one for one in FIGURES.values() if "leaderboards list" in one.row]
    assert len(listed) == 4
    assert {one.confidence for one in listed} == {"medium"}


def test_nothing_is_of_low_confidence_and_the_readme_is_of_high():
    assert "low" not in {one.confidence for one in FIGURES.values()}
    assert {one.confidence for one in FIGURES.values() if "README.md" in one.source} == {"high"}
