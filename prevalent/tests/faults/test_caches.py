"""Several processes that fill one cache or folder at once leave one valid entry."""

import h5py
import numpy as np
import pytest
from jobs import together

from prevalent.data.features import FeatureStore, synthetic_features, write_tsv
from prevalent.data.instructions import Instruction
from prevalent.data.toy import ToyConfig, write_toy
from prevalent.data.triplets import collect_triplets, read_triplets, write_triplets
from prevalent.simulator.graph import Graphs
from tests.factories import make_graphs, random_scan, write_connectivity

NAMES = [f"house_{number}" for number in range(40)]


@pytest.mark.parametrize("attempt", range(3))
def test_distances_made_by_several_processes_at_once_are_valid(tmp_path, attempt):
    for seed in range(4):
        write_connectivity(tmp_path / "c", f"scan{seed}", random_scan(10 * attempt + seed, 60))
    cache = tmp_path / "cache"
    alone = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "other")

    def load():
        graphs = Graphs.load(tmp_path / "c", cache_dir=cache)
        np.testing.assert_array_equal(graphs.all_distances, alone.all_distances)
        np.testing.assert_array_equal(graphs.all_next_hops, alone.all_next_hops)

    together(load)
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    load()
    assert file.stat().st_mtime_ns == before, "the entry is used, not made again"


@pytest.mark.parametrize("kind", ["tsv", "hdf5"])
def test_features_converted_by_several_processes_at_once_are_valid(tmp_path, kind):
    store, cache = synthetic_features(NAMES, 16), tmp_path / "cache"
    path = tmp_path / f"f.{kind}"
    if kind == "tsv":
        write_tsv(path, store.items())
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("features", data=store.array, compression="gzip")
            file.create_dataset("ids", data=NAMES, dtype=h5py.string_dtype())

    def check():
        opened = FeatureStore.open(path, cache_dir=cache)
        assert list(opened.rows) == NAMES
        np.testing.assert_array_equal(opened.array, store.array)

    together(check)
    entries = {file.suffixes[-1]: file for file in cache.iterdir()}
    assert entries.keys() == {".npy", ".json"}
    before = entries[".npy"].stat().st_mtime_ns
    check()
    assert entries[".npy"].stat().st_mtime_ns == before, "the entry is used, not made again"


def test_triplets_collected_by_several_processes_at_once_are_valid(tmp_path):
    walks = [Instruction(f"{i}_0", i, "house", ("a", "b", "c"), 0.1 * i, "") for i in range(300)]
    table = collect_triplets(make_graphs(), walks, np.arange(3000).reshape(300, 10))
    together(lambda: write_triplets(tmp_path / "shortest.json", table))
    assert [path.name for path in tmp_path.iterdir()] == ["shortest.json"]
    assert list(read_triplets([tmp_path]).records()) == list(table.records())


def test_a_toy_world_made_by_several_processes_at_once_is_valid(tmp_path):
    size = ToyConfig(train_houses=1, unseen_houses=1, train_paths=8, held_out_paths=4, dialogs=2)
    write_toy(tmp_path / "alone", size)
    together(lambda: write_toy(tmp_path / "world", size), count=2)
    files = {
        path.relative_to(tmp_path / "alone"): path.read_bytes()
        for path in (tmp_path / "alone").rglob("*")
        if path.is_file()
    }
    found = {path for path in (tmp_path / "world").rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "world") for path in found} == files.keys()
    for name, content in files.items():
        assert (tmp_path / "world" / name).read_bytes() == content, name
