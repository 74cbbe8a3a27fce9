"""From features to numbers: moments, FID, KID, Inception score, neighbourhoods of images.

Matrices of all pairs of images are computed where the features are, in chunks that the ranks share;
every rank brings the same features and gets the same number.
"""

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
from ..runtime.precision import ieee_fp32


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
    _check_features(features=features)
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 images, got {len(features)}")
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
            mean, covariance = content["mu"], content["sigma"]
            count = int(content["num_images"]) if "num_images" in content.files else 0
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; make it with fqgan prepare moments") from None
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} holds no moments: it is no whole .npz file of mu and sigma, such as "
            "`fqgan prepare moments --out-dir` writes"
        ) from error
    return sound_moments(path, mean, covariance, count)


ROUNDING = 1e-5
"""Asymmetry and negative eigenvalues that float32 can bring into a covariance, as a share of it."""


def sound_moments(
    path: str | Path, mean: np.ndarray, covariance: np.ndarray, count: int
) -> Moments:
    """What the file ``path`` holds as `Moments`, if images can have such ones.

    Args:
        path: of the file, for errors.
        mean: (D,).
        covariance: (D, D), symmetric and without negative eigenvalues but for `ROUNDING`.
        count: of the images, 0 where it is not known.

    Raises:
        ValueError: no set of images has such moments.
    """
    shapes = f"mu {mean.dtype} {mean.shape}, sigma {covariance.dtype} {covariance.shape}"
    numbers = mean.dtype.kind in "fiu" and covariance.dtype.kind in "fiu"
    if not numbers or mean.ndim != 1 or not mean.size or covariance.shape != 2 * mean.shape:
        raise ValueError(f"{path} holds no moments: {shapes}; (D,) and (D, D) are needed")
    mu, sigma = (torch.from_numpy(one.astype(np.float64)) for one in (mean, covariance))
    problem = ""
    if count < 0:
        problem = f"num_images is {count}"
    elif not (mu.isfinite().all() and sigma.isfinite().all()):
        problem = f"{'sigma' if mu.isfinite().all() else 'mu'} holds NaN or infinity"
    elif (sigma - sigma.T).abs().max() > ROUNDING * sigma.abs().max():
        problem = "sigma is not symmetric"
    elif sigma.any():  # all zero where the images are equal
        allowed = ROUNDING * sigma.diagonal().abs().sum() * torch.eye(len(mu), dtype=sigma.dtype)
        if torch.linalg.cholesky_ex((sigma + sigma.T) / 2 + allowed).info:
            problem = "sigma has negative eigenvalues, which no covariance has"
    if problem:
        raise ValueError(f"{path} holds no moments of images: {problem}; make it again")
    return Moments(mu, sigma, count)


def author_moments_name(dataset: str) -> str:
    """The authors' file name for a data set name such as "I64_hdf5"."""
    return f"{dataset.removesuffix('_hdf5')}_inception_moments.npz"


def frechet_distance(a: Moments, b: Moments, device: torch.device | str = "cpu") -> float:
    """Squared Frechet distance |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64.

    The trace of the root is the sum of the roots of the eigenvalues of the symmetric matrix
    C_a^(1/2) C_b C_a^(1/2), so that neither a complex part nor a jitter can arise, and a singular
    covariance (fewer images than features) is no exception. ``device`` is where it is computed.
    """
    _check(a, b)
    return _distance_from(a, symmetric_root(a.covariance.double().to(device)), b)


def _distance_from(a: Moments, root: Tensor, b: Moments) -> float:
    """`frechet_distance` where the ``root`` of a's covariance is known."""
    product = root @ b.covariance.to(root) @ root
    eigenvalues = torch.linalg.eigvalsh(product).clamp(min=0)
    traces = a.covariance.trace() + b.covariance.trace()
    spread = traces - 2 * eigenvalues.sqrt().sum().cpu()
    # Of equal sets rounding leaves a little on either side of 0.
    return max(0.0, float((a.mean - b.mean).square().sum() + spread))


class Extrapolated(NamedTuple):
    """Frechet distance that infinitely many images would have."""

    value: float
    error: float  # standard error of the fitted line at 1 / N = 0


def extrapolated_distance(
    real: Moments,
    features: Tensor,
    *,
    points: int = 15,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Extrapolated:
    """FID_infinity (Chong and Forsyth, CVPR 2020): distances of subsets, extrapolated along 1 / n.

    The distance of n images exceeds that of infinitely many by about a constant over n. The bias of
    the ``real`` side, whose number stays as it is, is not taken out.

    Args:
        real: moments of the reference.
        features: (N, D) of the images that are judged.
        points: subsets, whose sizes go from a tenth of N (from D, where half of N allows it) to N.
        seed: of the subsets.
        device: where it is computed.

    Raises:
        ValueError: there are fewer than 20 images or than 3 points.
    """
    _check_features(features=features)
    total, dim = features.shape
    if total < 20 or points < 3:
        raise ValueError(
            f"FID_infinity needs at least 20 images and 3 points, got {total} and {points}"
        )
    generator = torch.Generator().manual_seed(seed)
    root = symmetric_root(real.covariance.double().to(device))
    fewest = max(total // 10, min(dim, total // 2), 2)
    sizes = torch.linspace(fewest, total, points, dtype=torch.float64).round()
    found = []
    for size in sizes.int().tolist():
        chosen = torch.randperm(total, generator=generator)[:size]
        part = moments(features[chosen.to(features.device)].to(device))
        _check(real, part)
        found.append(_distance_from(real, root, part))
    shares, values = 1 / sizes, torch.tensor(found, dtype=torch.float64)
    centred = shares - shares.mean()
    slope = (centred * values).sum() / centred.square().sum()
    intercept = values.mean() - slope * shares.mean()
    residual = (values - intercept - slope * shares).square().sum() / (points - 2)
    leverage = 1 / points + shares.mean() ** 2 / centred.square().sum()
    return Extrapolated(float(intercept), float((residual * leverage).sqrt()))


KNOWN_SIZE = 10  # times as many images as features: a covariance without a bias worth a warning


def expected_bias(
    reference: Moments, num_a: int, num_b: int, *, seed: int = 0, device: torch.device | str = "cpu"
) -> float:
    """About what the distance of two sets of one distribution would be, where 0 is true.

    Sets of ``num_a`` and ``num_b`` vectors are drawn from the Gaussian with the moments of
    ``reference``. Where the reference itself has fewer images than features, its covariance lacks
    directions, and the true bias is larger.
    """
    generator = torch.Generator().manual_seed(seed)
    covariance = reference.covariance.double().to(device)
    root, dim = symmetric_root(covariance), len(covariance)
    sides = []
    for number in (num_a, num_b):
        if number >= KNOWN_SIZE * dim:
            sides.append(Moments(torch.zeros(dim, dtype=torch.float64), covariance.cpu(), number))
        else:
            drawn = torch.randn(number, dim, generator=generator, dtype=torch.float64)
            sides.append(moments(drawn.to(device) @ root))
    return frechet_distance(sides[0], sides[1], device)


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


def symmetric_root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix (D, D)."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _check(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"moments of {len(a.mean)} and of {len(b.mean)} features cannot be compared; "
            "take both with the same features"
        )
    for moments in (a, b):
        if not (moments.mean.isfinite().all() and moments.covariance.isfinite().all()):
            raise ValueError("the moments hold NaN or infinity; the images they are of do too")


def _check_features(**sets: Tensor) -> None:
    """Refuse what is no features (N, D), finite and of one width; the names are for errors."""
    for name, one in sets.items():
        if not isinstance(one, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(one).__name__}")
        if one.ndim != 2 or not one.is_floating_point():
            raise ValueError(
                f"{name} must be floating-point numbers (N, D), got {one.dtype} {tuple(one.shape)}"
            )
        if not one.isfinite().all():
            raise ValueError(f"{name} hold NaN or infinity; the images they are of do too")
    widths = {name: one.shape[1] for name, one in sets.items()}
    if len(set(widths.values())) > 1:
        said = " and ".join(f"{name} of {width}" for name, width in widths.items())
        raise ValueError(f"{said} features cannot be compared; take both with the same features")


class KernelDistance(NamedTuple):
    """KID over subsets; papers print it times 100 (U-GAT-IT) or 1000."""

    mean: float
    std: float  # over the subsets
    low: float  # 95 % interval over resampled images
    high: float


RESAMPLES = 200
INTERVAL = (0.025, 0.975)


def polynomial_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased squared MMD of ``x`` (N, D) and ``y`` (M, D) with the kernel (x.y / D + 1)^3: ().

    It can be negative.
    """
    _check_features(x=x, y=y)
    every_x = torch.ones(1, len(x), dtype=torch.float64)
    every_y = torch.ones(1, len(y), dtype=torch.float64)
    return _estimates(x.double(), y.double(), every_x, every_y)[0]


def kernel_distance(
    x: Tensor, y: Tensor, *, subset_size: int = 1000, subsets: int = 100, seed: int = 0
) -> KernelDistance:
    """KID of ``x`` (N, D) and ``y`` (M, D), averaged over random subsets, with an interval.

    The interval is that of the estimate from all images, resampled with replacement `RESAMPLES`
    times; pairs of an image with itself stay out, so that it has no bias. It says how much other
    images of the same two sources could change the number. Where both are of one distribution it
    is too wide.

    Args:
        x: features of the real images.
        y: features of the generated images, on the same device.
        subset_size: images of each kind in a subset, drawn without replacement; at most N and M.
        subsets: number of subsets.
        seed: of the draws.
    """
    _check_features(x=x, y=y)
    size = min(subset_size, len(x), len(y))
    if size < 2 or subsets < 1:
        raise ValueError(
            f"KID needs at least 2 images of each kind, got {len(x)} and {len(y)}, and a subset"
        )
    if size == len(x) == len(y):
        subsets = 1  # all of them would be the same set
    generator = torch.Generator().manual_seed(seed)
    counts_x, counts_y = (
        torch.zeros(subsets + RESAMPLES, len(one), dtype=torch.float64) for one in (x, y)
    )
    for row in range(subsets):
        counts_x[row, torch.randperm(len(x), generator=generator)[:size]] = 1
        counts_y[row, torch.randperm(len(y), generator=generator)[:size]] = 1
    for row in range(subsets, subsets + RESAMPLES):
        for counts in (counts_x, counts_y):
            number = counts.shape[1]
            drawn = torch.randint(number, (number,), generator=generator)
            counts[row] = torch.bincount(drawn, minlength=number)
    values = _estimates(x.double(), y.double(), counts_x, counts_y)
    of_subsets, resampled = values[:subsets], values[subsets:]
    levels = torch.tensor(INTERVAL, dtype=torch.float64)
    low, high = resampled.quantile(levels).tolist()
    return KernelDistance(float(of_subsets.mean()), float(of_subsets.std(correction=0)), low, high)


def _estimates(x: Tensor, y: Tensor, counts_x: Tensor, counts_y: Tensor) -> Tensor:
    """The unbiased estimate of each of S choices of images: (S,) on the CPU.

    ``counts_x`` (S, N) and ``counts_y`` (S, M) say how often an image is in a choice.
    """
    counts_x, counts_y = counts_x.to(x.device), counts_y.to(y.device)
    n, m = counts_x.sum(1), counts_y.sum(1)
    # A vector paired with itself would bias the estimate: the diagonals are taken out.
    diagonal_x, diagonal_y = (_cubed((v * v).sum(1) / v.shape[1]) for v in (x, y))
    squares_x, squares_y = counts_x.square(), counts_y.square()
    x_term = _sums(x, x, counts_x, counts_x) - squares_x @ diagonal_x
    y_term = _sums(y, y, counts_y, counts_y) - squares_y @ diagonal_y
    between = _sums(x, y, counts_x, counts_y) / (n * m)
    x_term = x_term / (n * n - squares_x.sum(1))
    return (x_term + y_term / (m * m - squares_y.sum(1)) - 2 * between).cpu()


def _sums(x: Tensor, y: Tensor, counts_x: Tensor, counts_y: Tensor, chunk: int = 2048) -> Tensor:
    """Sum of the kernel over the chosen pairs: (S,); each kernel entry is computed once."""
    total = torch.zeros(len(counts_x), dtype=torch.float64, device=x.device)
    for part in own_chunks(len(x), chunk):
        kernel = _cubed(x[part] @ y.T / x.shape[1])  # (chunk, M)
        total += ((counts_x[:, part] @ kernel) * counts_y).sum(1)
    return distributed.reduce_sum(total)


def own_chunks(length: int, chunk: int) -> list[slice]:
    """This rank's share of the chunks of ``length`` rows."""
    starts = range(0, length, chunk)
    mine = starts[distributed.rank() :: distributed.world_size()]
    return [slice(start, start + chunk) for start in mine]


def _cubed(products: Tensor) -> Tensor:
    return (products + 1) ** 3


class InceptionScore(NamedTuple):
    mean: float
    std: float  # over the splits


def inception_score(probabilities: Tensor, splits: int = 10) -> InceptionScore:
    """exp(E_x KL(p(y|x) || p(y))) of ``probabilities`` (N, L), per contiguous split.

    The N mod ``splits`` last images are dropped, as in every published implementation.
    """
    _check_features(probabilities=probabilities)
    if (probabilities < 0).any():
        raise ValueError("probabilities must not be negative; logits need a softmax first")
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


class ManifoldScores(NamedTuple):
    """How two sets of images lie in each other."""

    precision: float  # share of generated images that lie among the real ones
    recall: float  # share of real images that lie among the generated ones
    density: float  # how many balls of real images a generated one is in, over k; may exceed 1
    coverage: float  # share of real images whose ball holds a generated one


class Coverage(NamedTuple):
    """How a manifold covers probes."""

    inside: Tensor  # (M,) bool, within the radius of at least one reference
    realism: Tensor  # (M,) squared radius of the nearest reference / squared distance to it
    nearest: Tensor  # (M,) int64, index of the nearest reference


def neighbour_radii(features: Tensor, k: int = 3, *, chunk: int = 4096) -> Tensor:
    """Distance of every vector of ``features`` (N, D) to its ``k``-th nearest neighbour: (N,)."""
    return _radii(features, (k,), chunk)[0]


def _radii(features: Tensor, neighbours: tuple[int, ...], chunk: int) -> list[Tensor]:
    """`neighbour_radii` for each of ``neighbours``, from distances that are computed once."""
    most = max(neighbours)
    if len(features) <= most:
        raise ValueError(f"{most} neighbours need more than {most} images, got {len(features)}")
    radii = [features.new_zeros(len(features)) for _ in neighbours]
    for part in own_chunks(len(features), chunk):
        # Each row holds the vector itself too.
        nearest = distances(features[part], features).topk(most + 1, dim=1, largest=False).values
        for k, found in zip(neighbours, radii, strict=True):
            found[part] = nearest[:, k]
    return [distributed.reduce_sum(found) for found in radii]


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (N, M) of ``x`` (N, D) and ``y`` (M, D); IEEE fp32 on every device."""
    with ieee_fp32():
        return torch.cdist(x, y)


def cover(references: Tensor, radii: Tensor, probes: Tensor, *, chunk: int = 4096) -> Coverage:
    """Which of ``probes`` (M, D) lie in a ball around ``references`` (N, D) of ``radii`` (N,)."""
    inside, realism, nearest = [], [], []
    for part in probes.split(chunk):
        found = distances(part, references)  # (m, N)
        inside.append((found <= radii).any(dim=1))
        closest = found.min(dim=1)
        nearest.append(closest.indices)
        realism.append((radii[closest.indices] / (closest.values + 1e-6)).square())
    return Coverage(torch.cat(inside), torch.cat(realism), torch.cat(nearest))


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Precision and recall of ``fake`` (M, D) against ``real`` (N, D), with ``k`` neighbours."""
    found = manifold_scores(real, fake, k, k)
    return PrecisionRecall(found.precision, found.recall)


def manifold_scores(
    real: Tensor, fake: Tensor, k: int = 3, density_k: int = 5, *, chunk: int = 4096
) -> ManifoldScores:
    """Precision and recall (Kynkaanniemi et al., 2019), density and coverage (Naeem et al., 2020).

    Args:
        real: (N, D) features of the reference.
        fake: (M, D) features of the images that are judged, on the same device.
        k: neighbours whose distance is the radius of an image, for precision and recall.
        density_k: the same for density and coverage, which only real images have radii for.
        chunk: rows of the matrix of distances at a time.
    """
    _check_features(real=real, fake=fake)
    real, fake = real.float(), fake.float()
    radii, wide = _radii(real, (k, density_k), chunk)
    fake_radii = neighbour_radii(fake, k, chunk=chunk)
    hits = real.new_zeros(2, dtype=torch.float64)  # of precision, of density
    reached = real.new_zeros(2, len(real))  # of recall, of coverage
    for part in own_chunks(len(fake), chunk):
        found = distances(fake[part], real)  # (m, N)
        inside = found <= wide
        hits += torch.stack([(found <= radii).any(dim=1).sum(), inside.sum()])
        recalled = (found <= fake_radii[part, None]).any(dim=0)
        reached += torch.stack([recalled, inside.any(dim=0)])
    precise, dense = (distributed.reduce_sum(hits) / len(fake)).tolist()
    shares = (distributed.reduce_sum(reached) > 0).double().mean(dim=1).tolist()
    return ManifoldScores(precise, shares[0], dense / density_k, shares[1])
