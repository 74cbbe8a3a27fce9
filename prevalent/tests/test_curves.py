"""Learning curves are drawn from whatever records a run has."""

import json

import pytest

from prevalent.curves import draw_scores


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": 2.0}, {"step": 2, "val_seen/spl": 0.1}]])
def test_a_picture_is_made_even_without_records(tmp_path, rows):
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert draw_scores(tmp_path, "spl") == f"curve: {tmp_path / 'curve.png'}"
    assert (tmp_path / "curve.png").stat().st_size > 1000
