from fqgan.biggan.presets import PRESETS, SMOKE
from fqgan.demo import main
from fqgan.runtime.logs import read_metrics


def test_the_demo_ends_with_a_sheet_a_score_and_curves(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, "demo", ("in miniature", SMOKE))
    main(["--run-dir", str(tmp_path), "--max-steps", "2"])
    sheet, curves, scores = capsys.readouterr().out.splitlines()
    assert "fixed_000002.png" in sheet
    assert (tmp_path / "samples" / "fixed_000002.png").exists()
    assert "curves" in curves
    assert "not comparable" in scores
    assert "fid" in read_metrics(tmp_path)[-1]
