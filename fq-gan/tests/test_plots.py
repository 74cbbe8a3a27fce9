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
