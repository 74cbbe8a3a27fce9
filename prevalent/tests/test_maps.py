"""Top-down maps."""

import pytest

pytest.importorskip("matplotlib")

from prevalent.page.scenes import draw_map, save_map
from prevalent.simulator import SimulatorError
from tests.factories import make_graphs

WALKS = {"path": ["a", "b", "c"], "agent": ["a", "a", "d"]}


def test_a_map_is_written_without_a_display(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    save_map(tmp_path / "map.png", make_graphs(), "house", WALKS, title="house")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_walk_is_drawn_through_its_viewpoints():
    from matplotlib.figure import Figure

    axes = draw_map(make_graphs(), "house", WALKS, axes=Figure().add_subplot())
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines["path"] == [[0, 0], [0, 2], [2, 2]]
    assert lines["agent"] == [[0, 0], [0, 0], [2, 0]]


def test_a_walk_through_an_unknown_viewpoint_is_refused():
    from matplotlib.figure import Figure

    with pytest.raises(SimulatorError, match="'z'"):
        draw_map(make_graphs(), "house", {"x": ["z"]}, axes=Figure().add_subplot())
