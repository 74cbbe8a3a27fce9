"""Small image folders and archives, made by code."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    """Caches of the tests stay out of the user's home."""
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Three classes with 2, 3 and 1 images of various sizes."""
    root = tmp_path / "images"
    random = np.random.default_rng(0)
    for name, count in {"cat": 2, "dog": 3, "owl": 1}.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            size = (20 + 4 * number, 16)
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def image_zip(image_folder, tmp_path) -> Path:
    """The same images as ``train/CLASS/FILE`` and one class of them as ``test/CLASS/FILE``."""
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(image_folder.rglob("*.png")):
            name = file.relative_to(image_folder).as_posix()
            archive.write(file, f"train/{name}")
            if name.startswith("dog"):
                archive.write(file, f"test/{name}")
    return path
