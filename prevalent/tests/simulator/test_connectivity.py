"""Reading connectivity files: cache, damage, missing scans."""

import json

import numpy as np
import pytest

from prevalent.simulator import Graphs, SimulatorError
from prevalent.simulator.graph import UPRIGHT, parse_connectivity, read_scans
from tests.factories import make_scan, random_scan, write_connectivity


def test_files_give_back_the_scan_they_were_written_from(tmp_path):
    scan = make_scan(edges=[("a", "b"), ("b", "c")], excluded=["d"])
    path = write_connectivity(tmp_path, "house", scan)
    read = parse_connectivity(path.read_bytes(), path)
    assert read.viewpoints == scan.viewpoints
    np.testing.assert_array_equal(read.positions, scan.positions)
    np.testing.assert_array_equal(read.included, scan.included)
    np.testing.assert_array_equal(read.edges, scan.edges)
    np.testing.assert_array_equal(read.rotations, np.tile(UPRIGHT, (4, 1, 1)))


def test_edges_to_excluded_viewpoints_are_dropped(tmp_path):
    path = write_connectivity(tmp_path, "house", make_scan(excluded=["c"]))
    graphs = Graphs.load(tmp_path, cache_dir=tmp_path / "cache")
    assert graphs.by_name("house").neighbors("b") == ["a"]
    assert path.is_file()


def test_a_cached_load_equals_the_first_one(tmp_path):
    write_connectivity(tmp_path / "c", "one", random_scan(1))
    write_connectivity(tmp_path / "c", "two", random_scan(2, size=30))
    cold = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    warm = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    for name in (
        "positions",
        "rotations",
        "included",
        "edges",
        "all_distances",
        "all_next_hops",
        "neighbors",
    ):
        np.testing.assert_array_equal(getattr(cold, name), getattr(warm, name))
    assert (cold.scans, cold.viewpoints) == (warm.scans, warm.viewpoints)


def test_a_changed_file_is_not_served_from_the_cache(tmp_path):
    for seed in (1, 2):
        write_connectivity(tmp_path / "c", "one", random_scan(seed))
        graphs = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
        np.testing.assert_array_equal(graphs.positions, random_scan(seed).positions)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"xx" + b])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    write_connectivity(tmp_path / "c", "one", random_scan(1))
    cold = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    cache = next((tmp_path / "cache").iterdir())
    cache.write_bytes(damage(cache.read_bytes()))
    again = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(cold.all_distances, again.all_distances)


def test_loading_works_where_the_cache_cannot_be_written(tmp_path):
    write_connectivity(tmp_path / "c", "one", random_scan(1))
    (tmp_path / "file").write_text("")
    assert Graphs.load(tmp_path / "c", cache_dir=tmp_path / "file" / "cache").scans == ("one",)


def test_a_truncated_file_is_named(tmp_path):
    path = write_connectivity(tmp_path, "one", random_scan(1))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SimulatorError, match=r"one_connectivity\.json' is truncated"):
        Graphs.load(tmp_path, cache_dir=tmp_path / "cache")


def test_a_missing_field_is_named(tmp_path):
    path = write_connectivity(tmp_path, "one", random_scan(1))
    rows = json.loads(path.read_text())
    del rows[3]["pose"]
    path.write_text(json.dumps(rows))
    with pytest.raises(SimulatorError, match="pose"):
        Graphs.load(tmp_path, cache_dir=tmp_path / "cache")


def test_an_edge_in_one_direction_only_is_refused(tmp_path):
    path = write_connectivity(tmp_path, "house", make_scan())
    rows = json.loads(path.read_text())
    rows[0]["unobstructed"][2] = True
    path.write_text(json.dumps(rows))
    with pytest.raises(SimulatorError, match="from 'a' to 'c' in one direction only"):
        Graphs.load(tmp_path, cache_dir=tmp_path / "cache")


def test_a_missing_scan_or_folder_is_named(tmp_path):
    write_connectivity(tmp_path, "one", random_scan(1))
    with pytest.raises(SimulatorError, match="scan 'castle' has no connectivity file"):
        Graphs.load(tmp_path, scans=["one", "castle"], cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Graphs.load(tmp_path / "nowhere")


def test_scans_txt_gives_the_order(tmp_path):
    for name in ("one", "two"):
        write_connectivity(tmp_path, name, make_scan())
    assert read_scans(tmp_path) == ["one", "two"]
    (tmp_path / "scans.txt").write_text("two\none\n")
    assert read_scans(tmp_path) == ["two", "one"]
