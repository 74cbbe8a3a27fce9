"""Results of runs stand beside the figures of their scripts, or by themselves with the reason."""

import json
from pathlib import Path

import pytest

from fqgan.report import comparison, main
from fqgan.runtime.report import ReportConfig


def write_evaluation(runs: Path, run: str, **row) -> None:
    folder = runs / run
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "evaluations.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def line_of(runs: Path, *key: str):
    made = comparison(ReportConfig(runs=runs))
    return next(line for _, lines in made.tables for line in lines if line.figure.key == key)


IMAGENET = ("BigGAN", "FQ-BigGAN", "ImageNet 64x64", "FID")


def test_ours_stands_beside_a_published_figure_of_the_same_features_only(tmp_path):
    assert line_of(tmp_path, *IMAGENET).state == "not run"
    write_evaluation(tmp_path, "imagenet64/fq-biggan", features="random", fid=1.0)
    line = line_of(tmp_path, *IMAGENET)
    assert line.state == "run otherwise"
    assert line.ours[0].differs == "random features, not inception-torch"
    write_evaluation(
        tmp_path, "imagenet64/fq-biggan", features="inception-torch", fid=9.668, protocol="50,000"
    )
    line = line_of(tmp_path, *IMAGENET)
    assert line.state == "met"
    assert "9.67" in [str(one) for one in line.ours]


def test_a_trial_is_marked_and_compares_with_nothing(tmp_path):
    about = {"trial": True, "kind": "biggan"}
    write_evaluation(
        tmp_path, "imagenet64/fq-biggan", features="inception-torch", fid=9.67, provenance=about
    )
    line = line_of(tmp_path, *IMAGENET)
    assert line.state == "run otherwise"
    assert "(trial)" in str(line.ours[0])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"split": "test"}, "against the images of the split test, not of train"),
        ({"limit": 3000}, "of 3000 images of the data, not of all"),
        ({"z_std": 0.5}, "with a z_std of 0.5, not 1"),
    ],
)
def test_a_score_of_other_images_compares_with_nothing(tmp_path, row, said):
    about = {"features": "inception-torch", "fid": 9.67}
    write_evaluation(tmp_path, "imagenet64/fq-biggan", **about, **row)
    line = line_of(tmp_path, *IMAGENET)
    assert (line.state, line.ours[0].differs) == ("run otherwise", said)


def test_each_direction_of_a_translation_has_its_own_value(tmp_path):
    for name, value in (("selfie2anime", 12.3), ("anime2selfie", 11.1)):
        write_evaluation(
            tmp_path, "ugatit/selfie2anime", features="inception", data=name, kid_x100=value
        )
    for name, value in (("selfie2anime", "12.30"), ("anime2selfie", "11.10")):
        line = line_of(tmp_path, "U-GAT-IT with FQ", "FQ-U-GAT-IT", name, "KID x 100")
        assert [str(one) for one in line.ours if not one.differs] == [value]


def test_a_run_of_no_published_row_is_listed_by_itself(tmp_path, capsys):
    write_evaluation(tmp_path, "mine", features="random", protocol="offline", fid=1.25, step=7)
    main(["--runs", str(tmp_path)])
    text = capsys.readouterr().out
    assert "| mine, step 7 |  | FID | 1.25 |  | no published row (random, offline) |" in text
    main(["--runs", str(tmp_path), "--out", str(tmp_path / "report.md")])
    assert (tmp_path / "report.md").read_text() == text


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_line_that_is_no_evaluation_is_named_and_left_out(tmp_path, content, capsys):
    (tmp_path / "evaluations.jsonl").write_text(content + "\n")
    main(["--runs", str(tmp_path)])
    assert f"{tmp_path / 'evaluations.jsonl'}:1 is " in capsys.readouterr().out
