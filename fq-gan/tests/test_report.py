import json
from pathlib import Path

import pytest

from fqgan.report import NOT_RUN, ReportConfig, main, our_value, report
from fqgan.runtime.published import read_published

PUBLISHED = Path(__file__).parents[1] / "published"


def figure(**wanted):
    return next(
        entry
        for entry in read_published(PUBLISHED)
        if all(getattr(entry, name) == value for name, value in wanted.items())
    )


@pytest.mark.parametrize(
    ("row", "dataset", "metric", "value"),
    [
        ("BigGAN", "CIFAR-10", "FID", 6.30),
        ("FQ-BigGAN", "CIFAR-10", "FID", 5.59),
        ("FQ-BigGAN", "CIFAR-100", "FID", 7.42),
        ("FQ-BigGAN", "ImageNet 64x64", "IS", 25.96),
        ("FQ-BigGAN", "ImageNet 128x128", "FID", 13.77),
        ("FQ-StyleGAN", "FFHQ 1024x1024", "FID", 4.89),
        ("FQ-U-GAT-IT", "selfie2anime", "KID x 100", 11.40),
    ],
)
def test_the_headline_figures_are_there(row, dataset, metric, value):
    assert figure(row=row, dataset=dataset, metric=metric).value == value


def test_relative_gains_follow_from_the_published_scores():
    for entry in read_published(PUBLISHED):
        if entry.metric == "FID change":
            ours = figure(row="FQ-BigGAN", dataset=entry.dataset, metric="FID").value
            base = figure(row="BigGAN", dataset=entry.dataset, metric="FID").value
            assert entry.value == pytest.approx(100 * (ours / base - 1), abs=0.06)


def write_evaluation(runs, script, **row):
    folder = runs / script
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "evaluations.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_our_value_stands_beside_a_published_one_of_the_same_features_only(tmp_path):
    entry = figure(row="FQ-BigGAN", dataset="CIFAR-10", metric="FID")
    assert our_value(entry, tmp_path) == NOT_RUN
    place = "cifar10/fq-biggan"
    write_evaluation(tmp_path, place, features="random", fid=1.0)
    assert "not comparable" in our_value(entry, tmp_path)
    write_evaluation(tmp_path, place, features="inception-torch", fid=5.7)
    write_evaluation(tmp_path, place, features="inception", fid=9.0)
    assert our_value(entry, tmp_path) == "5.70"


def test_each_direction_of_a_translation_has_its_own_value(tmp_path):
    for name, value in (("selfie2anime", 12.3), ("anime2selfie", 11.1)):
        write_evaluation(
            tmp_path, "ugatit/selfie2anime", features="inception", data=name, kid_x100=value
        )
    for name, value in (("selfie2anime", "12.30"), ("anime2selfie", "11.10")):
        entry = figure(row="FQ-U-GAT-IT", dataset=name)
        assert our_value(entry, tmp_path) == value


def test_the_report_names_rows_that_were_not_run_and_lists_our_runs(tmp_path, capsys):
    write_evaluation(tmp_path, "mine", features="random", protocol="offline", fid=1.25, step=7)
    main(["--runs", str(tmp_path)])
    text = capsys.readouterr().out
    assert NOT_RUN in text
    assert "| mine | 7 |" in text
    assert "1.25" in text
    main(["--runs", str(tmp_path), "--out", str(tmp_path / "report.md")])
    assert (tmp_path / "report.md").read_text().startswith("## ")


def test_a_folder_without_figures_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="--published"):
        report(ReportConfig(published=str(tmp_path)))


def test_a_damaged_evaluation_is_named(tmp_path):
    (tmp_path / "evaluations.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"evaluations.jsonl has a line that is not JSON"):
        report(ReportConfig(runs=str(tmp_path)))
