"""Files that carry code: every kind that is read, with a canary that must never appear."""

import json
import pickle
from argparse import Namespace

import h5py
import numpy as np
import pytest
import torch
from hostile import Bomb, written

from prevalent.config import ModelConfig
from prevalent.convert import main as convert
from prevalent.data.features import FeatureStore
from prevalent.data.instructions import read_paths
from prevalent.data.results import read_results
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import load_model, read_weights, save_model
from prevalent.released.snapshots import load_weights, read_snapshot
from prevalent.runtime.checkpoint import Checkpoint, Progress
from prevalent.runtime.files import digest
from prevalent.runtime.weight_files import compare_tensors
from prevalent.simulator.graph import load_graphs
from prevalent.tasks.hanna import load_weights as load_hanna
from tests.factories import random_scan, write_connectivity
from tests.small_agents import make_follower
from tests.small_hanna import make_agent

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")
KINDS = ["zip", "legacy", "pickle", "global"]


def test_the_canary_would_appear_if_a_file_were_run(tmp_path):
    for kind in ("pickle", "global"):
        path = written(kind, tmp_path / kind, tmp_path / "file.bin")
        with path.open("rb") as file:
            pickle.load(file)
        assert (tmp_path / kind).exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors"])
def test_weights_with_code_are_refused_by_name(tmp_path, canary, kind, name):
    path = written(kind, canary, tmp_path / name)
    with pytest.raises(ValueError, match=name):
        read_weights(path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_of_the_authors_with_code_is_refused_by_name(tmp_path, canary, kind):
    path = written(kind, canary, tmp_path / "best_val_unseen")
    with pytest.raises(ValueError, match="best_val_unseen"):
        read_snapshot(path)
    with pytest.raises(ValueError, match="best_val_unseen"):
        load_weights(path, "r2r", make_follower().modules)


@pytest.mark.parametrize("kind", KINDS)
def test_agents_of_dialogs_and_of_hanna_with_code_are_refused_by_name(tmp_path, canary, kind):
    for part in ("enc", "dec"):
        written(kind, canary, tmp_path / f"run_{part}_iter_9")
    with pytest.raises(ValueError, match="run_enc_iter_9"):
        convert([str(tmp_path / "run_enc_iter_9"), str(tmp_path / "run")])
    path = written(kind, canary, tmp_path / "hanna_last.ckpt")
    with pytest.raises(ValueError, match=r"hanna_last\.ckpt"):
        load_hanna(path, make_agent().modules)


def test_code_inside_the_options_of_a_checkpoint_of_hanna_is_refused(tmp_path, canary):
    """Their options are the one class beside tensors that is let in."""
    content = {"hparams": Namespace(bomb=Bomb(canary)), "model_state_dict": {}}
    torch.save(content, tmp_path / "hanna_last.ckpt")
    with pytest.raises(ValueError, match=r"hanna_last\.ckpt is refused: it holds more"):
        load_hanna(tmp_path / "hanna_last.ckpt", make_agent().modules)
    torch.save({"model": Namespace(lr=1.0)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_weights(tmp_path / "pytorch_model.bin")  # nowhere else


@pytest.mark.parametrize("content", [{"a": "text"}, {1: torch.ones(2)}, [torch.ones(2)], {"a": {}}])
def test_weights_that_are_no_named_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no tensor|not named tensors"):
        compare_tensors(torch.nn.Linear(2, 2), read_weights(tmp_path / "pytorch_model.bin"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_a_run_is_refused_even_with_a_right_digest(tmp_path, canary, kind):
    model, progress = torch.nn.Linear(2, 2), Progress()
    Checkpoint(tmp_path, model=model, progress=progress).save(3)
    folder = tmp_path / "checkpoints" / "00000003"
    written(kind, canary, folder / "model.pt")
    digests = json.loads((folder / "digest.json").read_text())
    digests["model"] = digest(folder / "model.pt")
    (folder / "digest.json").write_text(json.dumps(digests))
    with pytest.raises(ValueError, match=r"model\.pt is refused"):
        Checkpoint(tmp_path, model=model, progress=progress).load_latest()


@pytest.mark.parametrize("kind", KINDS)
def test_training_arguments_beside_a_released_model_are_never_opened(tmp_path, canary, kind):
    sizes = ModelConfig(
        vocab_size=12, hidden_size=4, num_heads=1, intermediate_size=4, num_language_layers=1,
        num_cross_layers=1, image_dim=8, max_positions=8,
    )  # fmt: skip
    save_model(tmp_path / "model", PrevalentForPretraining(sizes))
    written(kind, canary, tmp_path / "model" / "training_args.bin")
    assert load_model(tmp_path / "model").bert.config.vocab_size == 12


def test_features_with_pickled_objects_are_refused(tmp_path, canary):
    path = tmp_path / "features.npy"
    np.save(path, np.array([Bomb(canary)] * 3, dtype=object))
    path.with_suffix(".ids.json").write_text(json.dumps(["s_a", "s_b", "s_c"]))
    with pytest.raises(ValueError, match=r"features\.npy.* holds more than numbers"):
        FeatureStore.open(path)


def test_a_pickle_in_place_of_features_is_refused(tmp_path, canary):
    for suffix in (".npy", ".h5", ".hdf5", ".tsv"):
        path = written("pickle", canary, tmp_path / f"features{suffix}")
        path.with_suffix(".ids.json").write_text(json.dumps(["s_a"]))
        with pytest.raises((ValueError, OSError)):
            FeatureStore.open(path)


def test_an_hdf5_file_with_pickled_values_is_only_ever_numbers(tmp_path, canary):
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["features"] = np.void(pickle.dumps(Bomb(canary)))
    with pytest.raises((ValueError, OSError, KeyError)):
        FeatureStore.open(tmp_path / "features.h5")


def test_a_graph_cache_with_pickled_objects_is_ignored(tmp_path, canary):
    folder, cache = tmp_path / "connectivity", tmp_path / "cache"
    write_connectivity(folder, "house", random_scan(1))
    expected = load_graphs(folder, cache_dir=cache).all_distances
    (path,) = cache.glob("graphs-*.npz")
    np.savez(path, sizes=np.array([Bomb(canary)], dtype=object))
    np.testing.assert_array_equal(load_graphs(folder, cache_dir=cache).all_distances, expected)


@pytest.mark.parametrize("content", ["pickle", "call"])
def test_json_is_only_ever_data(tmp_path, canary, content):
    paths = [tmp_path / "R2R_train.json", tmp_path / "results.json"]
    for path in paths:
        if content == "pickle":
            written("pickle", canary, path)
        else:
            path.write_text(f'__import__("os").system("touch {canary}")')
    with pytest.raises(ValueError, match=r"R2R_train\.json"):
        read_paths(tmp_path, "train")
    with pytest.raises(ValueError, match=r"results\.json"):
        read_results(paths[1], "r2r")
