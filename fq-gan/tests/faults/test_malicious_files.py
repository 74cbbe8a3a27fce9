"""Files that carry code: every kind that is read, with a canary that must never appear."""

import io
import json
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch
from hostile import Bomb
from scipy.io import savemat

from fqgan.data.folders import read_author_index
from fqgan.data.hdf5 import read_hdf5
from fqgan.data.small_images import read_cifar, read_svhn
from fqgan.data.tfrecords import read_tfrecords
from fqgan.metrics.distances import read_moments
from fqgan.metrics.features import load_inception
from fqgan.metrics.statistics import read_statistics
from fqgan.page.explorer import check_picture
from fqgan.released.biggan import read_released_set, read_tfhub_arrays
from fqgan.released.loading import load_torch_file
from fqgan.released.stylegan2 import read_network_pickle
from fqgan.runtime.checkpoint import Checkpoint, Progress
from fqgan.runtime.files import digest
from fqgan.runtime.weight_files import read_weight_file


def arrays_with_code(canary):
    """Bytes of an npz whose arrays are pickled objects."""
    content, trap = io.BytesIO(), np.empty(1, dtype=object)
    trap[0] = Bomb(canary)
    names = ("mu", "sigma", "imgs", "num_images", "features", "key")
    np.savez(content, **dict.fromkeys(names, trap))  # type: ignore[arg-type]
    return content.getvalue()


def test_the_bomb_goes_off_where_nothing_is_checked(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "other")))
    assert (tmp_path / "other").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_of_every_format_are_refused(tmp_path, canary, protocol):
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps({"G": [Bomb(canary)]}, protocol=protocol))
    with pytest.raises(ValueError, match=r"network\.pkl was not loaded"):
        read_network_pickle(path)
    with pytest.raises(ValueError, match=r"network\.pkl"):
        load_torch_file(path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch"):
        shutil.copy(path, folder / name)
    with pytest.raises(ValueError, match="is not a CIFAR file"):
        read_cifar("cifar10", tmp_path, "test")


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_are_refused(tmp_path, canary, zipped):
    path = tmp_path / "state_dict.pth"
    torch.save({"config": Bomb(canary)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="was not loaded"):
        load_torch_file(path)
    with pytest.raises(ValueError, match="holds no Inception weights"):
        load_inception("torchvision", path)
    (tmp_path / "set").mkdir()
    for name in ("G", "G_ema", "D", "state_dict"):
        shutil.copy(path, tmp_path / "set" / f"{name}.pth")
    with pytest.raises(ValueError, match="was not loaded"):
        read_released_set(tmp_path / "set")


def test_a_part_of_a_checkpoint_with_code_is_refused(tmp_path, canary):
    run = tmp_path / "run"
    Checkpoint(run, progress=Progress()).save(1)
    folder = run / "checkpoints" / "00000001"
    torch.save({"step": Bomb(canary)}, folder / "progress.pt")
    known = json.loads((folder / "digest.json").read_text())
    assert "progress" in known
    known["progress"] = digest(folder / "progress.pt")
    (folder / "digest.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match=r"checkpoint"):
        Checkpoint(run, progress=Progress()).load_latest()


@pytest.mark.parametrize(
    "read", [read_moments, read_statistics, read_author_index, read_tfhub_arrays]
)
def test_arrays_of_objects_are_refused(tmp_path, canary, read):
    path = tmp_path / "arrays.npz"
    path.write_bytes(arrays_with_code(canary))
    with pytest.raises(ValueError, match=r"arrays\.npz|allow_pickle"):
        read(path)


def test_labels_of_objects_beside_images_are_refused(tmp_path, canary):
    trap = np.empty(1, dtype=object)
    trap[0] = Bomb(canary)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = np.zeros((1, 3, 8, 8), np.uint8)
    np.save(tmp_path / "images-labels.npy", trap, allow_pickle=True)
    with pytest.raises(ValueError, match="images"):
        read_hdf5(tmp_path / "images.h5")


@pytest.mark.parametrize("name", ["imgs.hdf5", "model.safetensors", "toy-r03.tfrecords", "a.png"])
def test_a_pickle_under_another_name_is_refused(tmp_path, canary, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(canary)))
    readers = {
        ".hdf5": read_hdf5,
        ".safetensors": read_weight_file,
        ".tfrecords": lambda file: read_tfrecords(file, 8),
        ".png": check_picture,
    }
    with pytest.raises((ValueError, FileNotFoundError), match=name.partition(".")[0]):
        readers[path.suffix](path)


def test_a_matlab_file_yields_arrays_only(tmp_path, canary):
    (tmp_path / "train_32x32.mat").write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(ValueError, match="train_32x32"):
        read_svhn(tmp_path)
    savemat(tmp_path / "train_32x32.mat", {"X": np.array([{"a": 1}], dtype=object), "y": [1]})
    with pytest.raises((ValueError, TypeError)):
        read_svhn(tmp_path)


def test_settings_are_read_as_plain_values(tmp_path, canary):
    from fqgan.runs import kind_of

    (tmp_path / "config.json").write_text(f'__import__("os").system("touch {canary}")')
    with pytest.raises(ValueError, match="is no configuration that a run wrote"):
        kind_of(tmp_path)


def test_a_picture_that_unfolds_to_a_bomb_is_refused(tmp_path):
    from PIL import Image

    path, most = tmp_path / "wide.png", Image.MAX_IMAGE_PIXELS
    Image.new("1", (300, 300)).save(path)
    try:
        Image.MAX_IMAGE_PIXELS = 1000
        with pytest.raises(ValueError, match=r"wide\.png cannot be read"):
            check_picture(path)
    finally:
        Image.MAX_IMAGE_PIXELS = most
