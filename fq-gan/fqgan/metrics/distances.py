"""From features to numbers: moments, FID, KID, Inception score, precision and recall."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..runtime import distributed
from ..runtime.files import write_atomically


class Moments(NamedTuple):
    """First two moments of N feature vectors."""

    mean: Tensor  # (D,), float64
    covariance: Tensor  # (D, D), float64, divided by N - 1
    num_images: int  # N; 0 where a file does not say


class RunningMoments:
    """Moments of vectors that arrive in batches (Chan, Golub and LeVeque, 1983).

    Args:
        dim: D.
        device: where the sums live.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self._count = 0
        self._mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, features: Tensor) -> None:
        """Take in ``features`` (B, D)."""
        batch = features.detach().to(self._mean)
        if len(batch) == 0:
            return
        mean = batch.mean(0)
        centred = batch - mean
        gap = mean - self._mean
        total = self._count + len(batch)
        self._scatter += centred.T @ centred
        self._scatter += torch.outer(gap, gap) * (self._count * len(batch) / total)
        self._mean += gap * (len(batch) / total)
        self._count = total

    def result(self) -> Moments:
        """Moments of what all ranks took in; every rank gets the same."""
        count = torch.tensor(float(self._count), dtype=torch.float64, device=self._mean.device)
        total = distributed.reduce_sum(count.clone())
        if total < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {int(total)}")
        mean = distributed.reduce_sum(self._mean * count) / total
        gap = self._mean - mean
        scatter = distributed.reduce_sum(self._scatter + torch.outer(gap, gap) * count)
        return Moments(mean.cpu(), (scatter / (total - 1)).cpu(), int(total))


def moments(features: Tensor) -> Moments:
    """Moments of ``features`` (N, D) of this process alone."""
    double = features.double()
    mean = double.mean(0)
    centred = double - mean
    return Moments(mean.cpu(), (centred.T @ centred / (len(double) - 1)).cpu(), len(double))


def write_moments(path: str | Path, content: Moments) -> None:
    """Write ``mu``, ``sigma`` and ``num_images``, atomically; the authors read two of them."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mu=content.mean.numpy(),
        sigma=content.covariance.numpy(),
        num_images=np.int64(content.num_images),
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def read_moments(path: str | Path) -> Moments:
    """Read a file of `write_moments` or the authors' ``{dataset}_inception_moments.npz``."""
    try:
        with np.load(path, allow_pickle=False) as content:
            mean = torch.from_numpy(content["mu"].astype(np.float64))
            covariance = torch.from_numpy(content["sigma"].astype(np.float64))
            count = int(content["num_images"]) if "num_images" in content.files else 0
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; make it with fqgan prepare moments") from None
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} holds no moments: it is no whole .npz file of mu and sigma, such as "
            "`fqgan prepare moments --out-dir` writes"
        ) from error
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{path} holds no moments: mu {tuple(mean.shape)}, sigma {tuple(covariance.shape)}"
        )
    return Moments(mean, covariance, count)


def author_moments_name(dataset: str) -> str:
    """The authors' file name for a data set name such as "I64_hdf5"."""
    return f"{dataset.removesuffix('_hdf5')}_inception_moments.npz"


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Frechet distance |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64.

    The trace of the root is the sum of the roots of the eigenvalues of the symmetric matrix
    C_a^(1/2) C_b C_a^(1/2), so that neither a complex part nor a jitter can arise, and a singular
    covariance (fewer images than features) is no exception.
    """
    _check(a, b)
    root = _symmetric_root(a.covariance.double())
    eigenvalues = torch.linalg.eigvalsh(root @ b.covariance.double() @ root).clamp(min=0)
    spread = a.covariance.trace() + b.covariance.trace() - 2 * eigenvalues.sqrt().sum()
    return float((a.mean - b.mean).square().sum() + spread)


def newton_schulz_distance(a: Moments, b: Moments, iterations: int = 50) -> float:
    """The same with BigGAN-PyTorch's iterated root in float32, for comparison with its logs.

    It does not converge where a covariance is singular; use `frechet_distance`.
    """
    _check(a, b)
    product = (a.covariance.double() @ b.covariance.double()).float()
    root = newton_schulz_root(product, iterations)
    spread = a.covariance.trace() + b.covariance.trace() - 2 * root.trace()
    return float((a.mean - b.mean).square().sum() + spread)


def newton_schulz_root(matrix: Tensor, iterations: int = 50) -> Tensor:
    """Square root of ``matrix`` (D, D) by the coupled Newton-Schulz iteration."""
    norm = matrix.norm()
    y = matrix / norm
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    z = identity.clone()
    for _ in range(iterations):
        t = 0.5 * (3 * identity - z @ y)
        y, z = y @ t, t @ z
    return y * norm.sqrt()


def _symmetric_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _check(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"moments of {len(a.mean)} and of {len(b.mean)} features cannot be compared; "
            "take both with the same --features"
        )
    for moments in (a, b):
        if not (moments.mean.isfinite().all() and moments.covariance.isfinite().all()):
            raise ValueError("the moments hold NaN or infinity; the images they are of do too")


class KernelDistance(NamedTuple):
    """KID over subsets; papers print both times 100 (U-GAT-IT) or 1000."""

    mean: float
    std: float  # over the subsets


def polynomial_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared MMD of ``x`` (N, D) and ``y`` (M, D) with the kernel (x.y / D + 1)^3: ().

    It can be negative.
    """
    every_x = torch.ones(1, len(x), dtype=torch.float64)
    every_y = torch.ones(1, len(y), dtype=torch.float64)
    return _estimates(x.double(), y.double(), every_x, every_y)[0]


def kernel_distance(
    x: Tensor, y: Tensor, *, subset_size: int = 1000, subsets: int = 100, seed: int = 0
) -> KernelDistance:
    """KID of ``x`` (N, D) and ``y`` (M, D), averaged over random subsets.

    Args:
        x: features of the real images.
        y: features of the generated images.
        subset_size: images of each kind in a subset, drawn without replacement; at most N and M.
        subsets: number of subsets.
        seed: of the draws.
    """
    size = min(subset_size, len(x), len(y))
    if size < 2 or subsets < 1:
        raise ValueError(
            f"KID needs at least 2 images of each kind, got {len(x)} and {len(y)}, and a subset"
        )
    if size == len(x) == len(y):
        subsets = 1  # all of them would be the same set
    generator = torch.Generator().manual_seed(seed)
    chosen_x = torch.zeros(subsets, len(x), dtype=torch.float64)
    chosen_y = torch.zeros(subsets, len(y), dtype=torch.float64)
    for row in range(subsets):
        chosen_x[row, torch.randperm(len(x), generator=generator)[:size]] = 1
        chosen_y[row, torch.randperm(len(y), generator=generator)[:size]] = 1
    values = _estimates(x.double(), y.double(), chosen_x, chosen_y)
    return KernelDistance(float(values.mean()), float(values.std(correction=0)))


def _estimates(x: Tensor, y: Tensor, chosen_x: Tensor, chosen_y: Tensor) -> Tensor:
    """The unbiased estimate of each of S subsets, given as 0/1 masks (S, N) and (S, M): (S,)."""
    n, m = chosen_x.sum(1), chosen_y.sum(1)
    # A vector paired with itself would bias the estimate: the diagonals are taken out.
    diagonal_x, diagonal_y = (_cubed((v * v).sum(1) / v.shape[1]) for v in (x, y))
    x_term = _sums(x, x, chosen_x, chosen_x) - chosen_x @ diagonal_x
    y_term = _sums(y, y, chosen_y, chosen_y) - chosen_y @ diagonal_y
    between = _sums(x, y, chosen_x, chosen_y) / (n * m)
    return x_term / (n * (n - 1)) + y_term / (m * (m - 1)) - 2 * between


def _sums(x: Tensor, y: Tensor, chosen_x: Tensor, chosen_y: Tensor, chunk: int = 2048) -> Tensor:
    """Sum of the kernel over the chosen pairs: (S,); each kernel entry is computed once."""
    total = torch.zeros(len(chosen_x), dtype=torch.float64)
    for start in range(0, len(x), chunk):
        part = slice(start, start + chunk)
        kernel = _cubed(x[part] @ y.T / x.shape[1])  # (chunk, M)
        total += ((chosen_x[:, part] @ kernel) * chosen_y).sum(1)
    return total


def _cubed(products: Tensor) -> Tensor:
    return (products + 1) ** 3


class InceptionScore(NamedTuple):
    mean: float
    std: float  # over the splits


def inception_score(probabilities: Tensor, splits: int = 10) -> InceptionScore:
    """exp(E_x KL(p(y|x) || p(y))) of ``probabilities`` (N, L), per contiguous split.

    The N mod ``splits`` last images are dropped, as in every published implementation.
    """
    size = len(probabilities) // splits
    if size < 1:
        raise ValueError(f"{len(probabilities)} images cannot be cut into {splits} splits")
    parts = probabilities[: size * splits].double().view(splits, size, -1)
    marginal = parts.mean(dim=1, keepdim=True)
    # xlogy: a probability that underflowed to 0 adds 0, not NaN.
    divergence = (torch.xlogy(parts, parts) - torch.xlogy(parts, marginal)).sum(dim=2)
    scores = divergence.mean(dim=1).exp()
    return InceptionScore(float(scores.mean()), float(scores.std(correction=0)))


class PrecisionRecall(NamedTuple):
    precision: float  # share of generated images that lie among the real ones
    recall: float  # share of real images that lie among the generated ones


class Coverage(NamedTuple):
    """How a manifold covers probes."""

    inside: Tensor  # (M,) bool, within the radius of at least one reference
    realism: Tensor  # (M,) squared radius of the nearest reference / squared distance to it
    nearest: Tensor  # (M,) int64, index of the nearest reference


def neighbour_radii(features: Tensor, k: int = 3, *, chunk: int = 4096) -> Tensor:
    """Distance of every vector of ``features`` (N, D) to its ``k``-th nearest neighbour: (N,)."""
    if len(features) <= k:
        raise ValueError(f"{k} neighbours need more than {k} images, got {len(features)}")
    radii = []
    for part in features.split(chunk):
        distances = torch.cdist(part, features)  # (n, N), each row holds the vector itself too
        radii.append(distances.kthvalue(k + 1, dim=1).values)
    return torch.cat(radii)


def cover(references: Tensor, radii: Tensor, probes: Tensor, *, chunk: int = 4096) -> Coverage:
    """Which of ``probes`` (M, D) lie in a ball around ``references`` (N, D) of ``radii`` (N,)."""
    inside, realism, nearest = [], [], []
    for part in probes.split(chunk):
        distances = torch.cdist(part, references)  # (m, N)
        inside.append((distances <= radii).any(dim=1))
        closest = distances.min(dim=1)
        nearest.append(closest.indices)
        realism.append((radii[closest.indices] / (closest.values + 1e-6)).square())
    return Coverage(torch.cat(inside), torch.cat(realism), torch.cat(nearest))


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Precision and recall of ``fake`` (M, D) against ``real`` (N, D), with ``k`` neighbours."""
    real, fake = real.float(), fake.float()
    precision = cover(real, neighbour_radii(real, k), fake).inside
    recall = cover(fake, neighbour_radii(fake, k), real).inside
    return PrecisionRecall(float(precision.double().mean()), float(recall.double().mean()))
