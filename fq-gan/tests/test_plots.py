import json
import sys

import pytest

from fqgan import plots


def write_metrics(folder):
    rows = [
        {"step": step, "loss_real": 1.0, "loss_fake": 0.5, "fid": 9.0 - step}
        | {"blocks.0.1/codebook_perplexity": 2.0, "blocks.1.1/codebook_perplexity": 3.0}
        for step in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_curves_of_a_run_become_a_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write_metrics(tmp_path)
    plots.main([str(tmp_path)])
    path = tmp_path / "curves.png"
    assert capsys.readouterr().out.strip() == str(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_cure_is_named(tmp_path, monkeypatch, caplog):
    write_metrics(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install"):
        plots.plot_run(tmp_path)
    with caplog.at_level("INFO"):
        assert plots.try_plot(tmp_path) is None
    assert "matplotlib is not installed" in caplog.text


def test_a_folder_without_metrics_is_named(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(FileNotFoundError, match="no rows in metrics"):
        plots.plot_run(tmp_path)


def test_every_kind_of_curve_that_a_run_logged_has_a_panel(tmp_path):
    pytest.importorskip("matplotlib")
    losses = {"loss_discriminator": 2.0, "loss_cycle": 0.5, "loss_cam": 1.4}
    rows = [{"step": step, **losses} for step in range(1, 150)]
    rows += [{"step": 150, "kid_x100/a2b": 12.0, "judge_a.1/codebook_perplexity": 3.0}]
    panels = {title: list(curves) for title, curves in plots.panels_of(rows)}
    assert panels == {
        "loss": ["loss_discriminator"],
        "reconstruction and attention": ["loss_cycle", "loss_cam"],
        "R1": [],
        "path length": [],
        "FID": [],
        "KID x 100": ["kid_x100/a2b"],
        "codebook perplexity": ["judge_a.1/codebook_perplexity"],
    }
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert plots.plot_run(tmp_path).stat().st_size > 1000


def test_a_running_mean_uses_what_there_is_at_the_ends():
    assert plots.running_mean([0.0, 3.0, 6.0, 3.0]).tolist() == [1.5, 3.0, 4.0, 4.5]


def test_regularizers_have_panels_and_runs_counted_in_images_say_so(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        {"step": 32 * step, "iteration": step, "loss_r1": 0.1, "loss_path_length": 2.0}
        for step in (1, 2)
    ]
    panels = dict(plots.panels_of(rows))
    assert panels["R1"] == {"loss_r1": "r1"}
    assert panels["path length"] == {"loss_path_length": "path_length"}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert plots.plot_run(tmp_path).stat().st_size > 1000
