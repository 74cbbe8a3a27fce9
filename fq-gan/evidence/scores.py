"""`fqgan score` against the published formulas computed by NumPy and scipy, on two real sets.

python evidence/scores.py --images cifar10_jpeg.zip --selfies data/selfie2anime \
    --weights weights/squeezenet

A is compared with itself, with half of itself, and with B. FID by scipy's matrix root, as
pytorch-fid and clean-fid compute it (a small multiple of the identity is added where a root is not
finite); KID by sums over all pairs, as clean-fid's with one subset of all images.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from PIL import Image

from fqgan.metrics.features import build_extractor
from fqgan.metrics.score import ScoreConfig, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="zip of CIFAR-10 as SPLIT/CLASS/NNNN.jpg")
    parser.add_argument("--selfies", required=True, help="folder of selfie2anime")
    parser.add_argument("--weights", required=True, help="folder of SqueezeNet's weights")
    parser.add_argument("--count", type=int, default=600, help="images of a class of CIFAR-10")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        frogs, ships = classes(options.images, ("frog", "ship"), options.count, Path(folder))
        compare("frogs and ships of CIFAR-10", frogs, ships, options.weights, Path(folder) / "half")
    selfies, anime = (Path(options.selfies) / name for name in ("trainA", "trainB"))
    with tempfile.TemporaryDirectory() as folder:
        compare("selfies and anime", selfies, anime, options.weights, Path(folder) / "half")


def classes(archive: str, names: tuple[str, ...], count: int, folder: Path) -> list[Path]:
    """A folder of the first ``count`` training images of every class."""
    with zipfile.ZipFile(archive) as file:
        for name in names:
            (folder / name).mkdir()
            found = [one for one in file.namelist() if one.startswith(f"train/{name}/")]
            for one in [one for one in found if not one.endswith("/")][:count]:
                (folder / name / Path(one).name).write_bytes(file.read(one))
    return [folder / name for name in names]


def compare(title: str, a: Path, b: Path, weights: str, half: Path) -> None:
    """Print our scores of A with itself, half of itself and B, and those of scipy."""
    half.mkdir(exist_ok=True)
    for path in sorted(a.iterdir())[::2]:
        (half / path.name).write_bytes(path.read_bytes())
    options: dict[str, Any] = {
        "features": "squeezenet", "weights": weights, "device": "cpu", "subset_size": 10_000,
        "subsets": 1,
    }  # fmt: skip
    saved = str(half.parent / "a.npz")
    score(ScoreConfig(str(a), save=saved, **options))
    x, y = features_of(a, weights), features_of(b, weights)
    sets = {"itself": (saved, x), "half of itself": (str(half), x[::2]), "B": (str(b), y)}
    for name, (place, other) in sets.items():
        found = score(ScoreConfig(saved, place, **options))
        # KID takes equal numbers of both, so that sums over all pairs are the same for these only.
        sums = f", sums {100 * all_pairs(x, other):.4f}" if len(x) == len(other) else ""
        print(
            f"{title}, A with {name} ({len(x)}, {len(other)} images): FID {found['fid']:.4f}, "
            f"scipy {scipy_fid(x, other):.4f}; KID x 100 {found['kid_x100']:.4f} "
            f"({found['kid_x100_low']:.4f} to {found['kid_x100_high']:.4f}){sums}; "
            f"precision {found['precision']:.3f}, recall {found['recall']:.3f}, "
            f"coverage {found['coverage']:.3f}",
            flush=True,
        )


def features_of(folder: Path, weights: str) -> np.ndarray:
    """(N, 512) of the image files, read by Pillow one by one."""
    extractor = build_extractor("squeezenet", weights=weights)
    rows = []
    for path in sorted(folder.iterdir()):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        rows.append(extractor(image).pool.double().numpy())
    return np.concatenate(rows)


def scipy_fid(x: np.ndarray, y: np.ndarray) -> float:
    """|mu - nu|^2 + trace(S + T - 2 sqrtm(S T))."""
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t)
    if not np.isfinite(root).all():
        ridge = 1e-6 * np.eye(len(s))
        root = scipy.linalg.sqrtm((s + ridge) @ (t + ridge))
    between = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    return float(between + np.trace(s) + np.trace(t) - 2 * np.trace(root.real))


def all_pairs(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased MMD^2 with the kernel (u v / D + 1)^3, every pair once."""

    def kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (u @ v.T / u.shape[1] + 1) ** 3

    own = [(kernel(u, u).sum() - kernel(u, u).trace()) / (len(u) * (len(u) - 1)) for u in (x, y)]
    return float(sum(own) - 2 * kernel(x, y).mean())


if __name__ == "__main__":
    main()
