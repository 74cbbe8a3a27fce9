"""Feature quantization (Zhao et al., ICML 2020): the layer that any discriminator can use.

    quantizer = FeatureQuantizer(256, 256, codebook_start="features", revive_below=0.1)
    hidden = bottom(images)  # (B, 256, H, W)
    hidden, quantization_loss, *_ = quantizer(hidden)
    logits = top(hidden)
    loss = adversarial_loss(logits) + quantization_loss.mean()  # in D's steps and in G's

The defaults are the released code's rule, with which most codes of a large dictionary are never
used; the options of the example keep them in use. The rule stands here; the products behind it, in
pieces that fit a cache, in `quantizer_kernels`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .quantizer_kernels import CommitmentLoss, Matches, find_nearest, residual
from .runtime.options import ADDED, at_least, finite_number, require, require_choice, whole_number
from .runtime.precision import ieee_fp32

logger = logging.getLogger(__name__)
Numerics = Literal["biggan", "tf"]
ForwardMode = Literal["commit_only", "straight_through"]
Statistics = Literal["all", "rank0", "local"]
CodebookStart = Literal["random", "features", "kmeans++"]
SEEN = 16
"""``kmeans++`` chooses among so many random vectors of the call for every code."""
DEAD = 0.01
"""A code is dead whose average count is below this share of the mean count, N / K vectors."""


class Quantized(NamedTuple):
    """What the layer returns for (B, C, H, W)."""

    features: Tensor  # (B, C, H, W) what the rest of the discriminator goes on with
    loss: Tensor  # (B,) commitment term, weighted
    codebook_perplexity: Tensor  # () 1 = one code in use, codebook_size = all used alike
    code_index: Tensor  # (B, H, W) nearest code of every position


class FeatureQuantizer(nn.Module):
    """Compare every C-vector of a feature map with a dictionary that follows the features.

    The dictionary is not trained by gradients: each code is the moving average of the vectors it
    was nearest to, updated by every training-mode call (with or without gradients). Buffers have
    the names and shapes of the authors' BigGAN checkpoints.

    Args:
        channels: C, the width of the feature map.
        codebook_size: K, the number of codes. Take a sixteenth of the vectors N that one call
            brings (B x H x W, real and generated images together), and no more than a quarter
            (README, "How many codes").
        commitment_weight: factor of the loss.
        decay: of the moving averages, per call.
        eps: Laplace smoothing of the counts.
        numerics: ``biggan`` has plain averages (a code that is never used jumps to about 1e5 and
            shrinks); ``tf`` is TensorFlow's zero-debiased average of U-GAT-IT and StyleGAN (an
            unused code is the zero vector). The random first dictionary is N(0, 1), with ``tf``
            forgotten at the first update.
        forward_mode: ``commit_only`` returns the input features, as the released code does in all
            three families; ``straight_through`` returns the codes, as in the paper, with the
            gradient of the identity.
        warmup_calls: training-mode calls before ``straight_through`` begins.
        statistics: over which ranks counts and sums go into the dictionary: ``all``, ``rank0``
            (as the authors' DataParallel) or ``local`` (as their StyleGAN: dictionaries drift).
        revive_below: codes whose average count is below this share of the mean over all codes are
            replaced by vectors of the current batch, and their averages with them; 0 switches it
            off, as in the released code. 0.1 is recommended.
        codebook_start: ``random`` as in the released code; ``features`` takes the codes from the
            first training-mode calls: random vectors of the call, each with the mean count N / K
            of a call with N vectors, so that no code jumps. Where N is less than K it goes on with
            the next calls until every code is one. ``kmeans++`` draws the same vectors one after
            the other, each with a chance that grows with its squared distance from the codes so
            far (Arthur and Vassilvitskii, 2007). ``features`` is recommended.

    Vectors with NaN or Inf never reach the dictionary: they are left out of counts and sums, and
    ``last_left_out`` says how many they were. Their loss is not finite, so that a loss scaler
    notices. What a scaler skips is the optimizer's step alone: the dictionary has moved.
    """

    embed: Tensor
    cluster_size: Tensor
    embed_avg: Tensor
    steps: Tensor
    started: Tensor
    uses: Tensor

    def __init__(
        self,
        channels: int,
        codebook_size: int,
        *,
        commitment_weight: float = 0.5,
        decay: float = 0.8,
        eps: float = 1e-5,
        numerics: Numerics = "biggan",
        forward_mode: ForwardMode = "commit_only",
        warmup_calls: int = 0,
        statistics: Statistics = "all",
        revive_below: float = 0.0,
        codebook_start: CodebookStart = "random",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("numerics", numerics, Numerics),
            ("forward_mode", forward_mode, ForwardMode),
            ("statistics", statistics, Statistics),
            ("codebook_start", codebook_start, CodebookStart),
        ):
            require_choice(name, value, known)
        whole_number(channels, "channels", 1)
        whole_number(codebook_size, "codebook_size", 1)
        whole_number(warmup_calls, "warmup_calls")
        finite_number(commitment_weight, "commitment_weight", 0)
        finite_number(revive_below, "revive_below", 0)
        decay, eps = finite_number(decay, "decay"), finite_number(eps, "eps")
        require(0.0 <= decay < 1.0, f"the decay of the codebook must be in [0, 1), got {decay}")
        require(eps > 0.0, f"eps, which counts are smoothed with, must be positive, got {eps}")
        self.channels, self.codebook_size = channels, codebook_size
        self.commitment_weight, self.decay, self.eps = commitment_weight, decay, eps
        self.numerics, self.forward_mode, self.statistics = numerics, forward_mode, statistics
        self.warmup_calls, self.revive_below = warmup_calls, revive_below
        self.codebook_start = codebook_start
        # (C, K) as in the authors' files, but stored code by code: rows of `codes` are contiguous.
        self.register_buffer("embed", torch.randn(codebook_size, channels).t())
        self.register_buffer("cluster_size", torch.zeros(codebook_size))
        average = self.embed.t().clone() if numerics == "biggan" else torch.zeros_like(self.codes)
        self.register_buffer("embed_avg", average.t())
        if numerics == "tf" or (forward_mode == "straight_through" and warmup_calls > 0):
            self.register_buffer("steps", torch.zeros(()))  # training-mode calls so far
        if codebook_start != "random":
            self.register_buffer("started", torch.zeros((), dtype=torch.long))  # codes from data
        if codebook_start != "random" or revive_below > 0.0:
            self.register_buffer("uses", torch.zeros(codebook_size))  # see `average_uses`
        self._starting = codebook_start != "random"
        self.last_perplexity = torch.ones(())
        self.last_usage = torch.zeros(())
        self.last_replaced = torch.zeros((), dtype=torch.long)
        self.last_left_out = torch.zeros(())

    @property
    def codes(self) -> Tensor:
        """The dictionary as (K, C)."""
        return self.embed.t()

    @torch.no_grad()
    def set_codes(self, codes: Tensor, counts: Tensor | None = None) -> None:
        """Start from ``codes`` (K, C).

        Args:
            codes: alone they are another initial distribution, which the rule of ``numerics``
                forgets or lets jump at the first call as it does with its own.
            counts: (K,), positive, vectors of one call behind each code, such as the sizes of
                clusters of features: the averages start from them, and no code jumps.
        """
        shape = (self.codebook_size, self.channels)
        _require_numbers(codes, "codes")
        require(codes.shape == shape, f"codes must be {shape}, got {tuple(codes.shape)}")
        require(codes.is_meta or bool(codes.isfinite().all()), "codes hold NaN or infinity")
        self.codes.copy_(codes)
        if counts is None:
            if self.numerics == "biggan":
                self.embed_avg.t().copy_(codes)
            return
        if not isinstance(counts, Tensor):
            raise TypeError(f"counts must be a tensor, got {type(counts).__name__}")
        good = counts.shape == shape[:1] and bool(((counts > 0) & counts.isfinite()).all())
        require(good, f"counts must be {self.codebook_size} positive numbers")
        if self.numerics == "tf":  # as after one call
            counts = counts * (1.0 - self.decay)
            self.steps.fill_(1.0)
        self.cluster_size.copy_(counts)
        self.embed_avg.t().copy_(codes * counts.unsqueeze(1))
        if hasattr(self, "started"):
            self.started.fill_(self.codebook_size)

    def averages(self) -> tuple[Tensor, Tensor]:
        """Average counts (K,) and sums (C, K), without the bias towards the zero start in ``tf``.

        In ``tf`` the buffers ``cluster_size`` and ``embed_avg`` hold TensorFlow's ``biased``
        variables and ``steps`` its ``local_step``; this returns ``ema_cluster_size``, ``ema_dw``.
        """
        if self.numerics == "biggan":
            return self.cluster_size, self.embed_avg
        weight = 1.0 - self.decay ** self.steps.clamp(min=1.0)
        return self.cluster_size / weight, self.embed_avg / weight

    @property
    def average_uses(self) -> Tensor:
        """(K,) moving average, with ``decay``, of the vectors that each code was nearest to.

        With the authors' rule that is ``cluster_size``. A start from features and a revival set
        those counts, so there it is an average of its own: a code that came back counts as used
        once vectors choose it.
        """
        return self.uses if hasattr(self, "uses") else self.cluster_size

    def dead_codes(self, below: float = DEAD) -> Tensor:
        """How many codes are used less than ``below`` times as often as the mean, on average.

        A () integer, which stays on the device.
        """
        return _rare(self.average_uses, below).sum()

    def average_perplexity(self) -> Tensor:
        """Perplexity () of `average_uses`: codes in use over the last 1 / (1 - decay) calls."""
        return _perplexity(self.average_uses)

    def forward(self, features: Tensor) -> Quantized:
        """Quantize ``features`` (B, C, H, W), or (B, C, ...); fp32 under any autocast.

        Backward reads ``features`` again: an activation in place may not follow.
        """
        _require_numbers(features, "features")
        if features.numel() == 0:
            raise ValueError(f"features of shape {tuple(features.shape)} hold no vector")
        if features.ndim < 2 or features.shape[1] != self.channels:
            raise ValueError(
                f"the quantizer has {self.channels} channels in dimension 1, "
                f"features of shape {tuple(features.shape)} do not"
            )
        if self.training and _in_backward():
            raise RuntimeError(
                "the quantizer was called again in the backward pass: activation checkpointing may "
                "not contain it, as its dictionary has moved on; checkpoint the blocks before it "
                "and those behind it"
            )
        with torch.autocast(features.device.type, enabled=False), ieee_fp32():
            exact = features.float()
            if self.training and self._starting:
                self._start(exact.detach())
            codes = self.codes.clone()  # the update moves the dictionary before backward
            found = find_nearest(exact.detach(), self.codes, with_sums=self.training)
            index = found.nearest.view(features.shape[0], *features.shape[2:])
            loss = CommitmentLoss.apply(exact, found.squared, index, codes)
            loss = self.commitment_weight * loss
            passed = features
            if self.forward_mode == "straight_through":
                offset = residual(exact.detach(), codes, index, self._gate(exact))
                passed = (exact - offset).to(features.dtype)
            self.last_left_out = found.left_out
            counts = self._update(exact, found) if self.training else found.uses
            self._summarize(counts)
        return Quantized(passed, loss, self.last_perplexity, index)

    @torch.no_grad()
    def _update(self, features: Tensor, found: Matches) -> Tensor:
        """Move averages and codes by one call; returns the counts over all ranks (K,)."""
        assert found.sums is not None
        counts, sums = self._over_ranks(found.uses, found.sums)
        average = self.embed_avg.t()
        some = counts.sum() > 0  # a call without any finite vector moves nothing
        decay = torch.where(some, self.decay, 1.0)
        self.cluster_size.mul_(decay).add_(counts, alpha=1.0 - self.decay)
        average.mul_(decay).add_(sums, alpha=1.0 - self.decay)
        if hasattr(self, "steps"):
            self.steps.add_(some)
        if hasattr(self, "uses"):
            self.uses.mul_(decay).add_(counts, alpha=1.0 - self.decay)
        if self.revive_below > 0.0:
            self._revive(features)
        size, total = self.averages()
        number = size.sum()
        smoothed = (size + self.eps) / (number + self.codebook_size * self.eps) * number
        self.codes.copy_(torch.where(some, total.t() / smoothed.unsqueeze(1), self.codes))
        return counts

    def _over_ranks(self, counts: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        if not self._shares():
            return counts, sums
        packed = torch.cat([counts, sums.flatten()])
        if self.statistics == "all":
            dist.all_reduce(packed)
        else:
            dist.broadcast(packed, src=0)
        return packed[: len(counts)], packed[len(counts) :].view_as(sums)

    @torch.no_grad()
    def _start(self, features: Tensor) -> None:
        """Set codes that are not from features yet to different vectors of this call.

        Their count is the mean of a call, N / K. It waits for the device, in the first calls only.
        """
        rows = features.movedim(1, -1).reshape(-1, self.channels)
        rows = rows[rows.square().sum(dim=1).isfinite()]
        begin = int(self.started)
        missing = min(self.codebook_size - begin, len(rows))
        order = torch.randperm(len(rows), device=rows.device)
        if self.codebook_start == "kmeans++":
            seen = order[: SEEN * missing]
            order = seen[_far_apart(rows[seen], missing, self.codes[:begin])]
        chosen = rows[order[:missing]]
        number, vectors = len(chosen), len(rows)
        if self._shares():
            counts = torch.tensor([number, vectors], device=rows.device)
            world = counts.clone()
            dist.broadcast(counts, src=0)  # the codes are vectors of the first rank
            dist.all_reduce(world)
            number, vectors = (
                int(counts[0]),
                int((world if self.statistics == "all" else counts)[1]),
            )
            chosen = chosen if dist.get_rank() == 0 else rows.new_empty(number, self.channels)
            dist.broadcast(chosen, src=0)
        end, count = begin + number, vectors / self.codebook_size
        if self.numerics == "tf":  # zero-debiased averages, of one call at least
            self.steps.clamp_(min=1.0)
            count *= 1.0 - self.decay ** float(self.steps)
        self.codes[begin:end] = chosen
        self.cluster_size[begin:end] = count
        self.embed_avg.t()[begin:end] = chosen * count
        self.started.fill_(end)
        self._starting = end < self.codebook_size

    def _shares(self) -> bool:
        """Whether other ranks have the same dictionary."""
        return self.statistics != "local" and _distributed()

    def _revive(self, features: Tensor) -> None:
        """Set codes that nothing uses to random vectors of the batch.

        The averages are set too: with the old sums the next line would undo the revival. Their
        count is the mean of all codes, so that they have as many calls to win vectors as any.
        """
        rows = features.detach().movedim(1, -1).reshape(-1, self.channels)
        chosen = torch.randint(len(rows), (self.codebook_size,), device=rows.device)
        candidates = rows[chosen]
        if self._shares():
            dist.broadcast(candidates, src=0)
        dead = (
            _rare(self.cluster_size, self.revive_below) & candidates.square().sum(dim=1).isfinite()
        )
        self.last_replaced = dead.sum()
        weight = self.cluster_size.mean()
        average = self.embed_avg.t()
        self.cluster_size.copy_(torch.where(dead, weight, self.cluster_size))
        average.copy_(torch.where(dead.unsqueeze(1), candidates * weight, average))

    def _gate(self, features: Tensor) -> Tensor:
        """(B,) 1 where codes are passed on, 0 during the warm-up; nothing waits for it."""
        if self.warmup_calls == 0:
            return features.new_ones(len(features))
        return (self.steps >= self.warmup_calls).float().expand(len(features))

    def _summarize(self, counts: Tensor) -> None:
        self.last_perplexity = _perplexity(counts, least=1.0)
        self.last_usage = (counts > 0).float().mean()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FeatureQuantizer:
        """Moves to another device, but stays fp32: the averages of unused codes overflow fp16."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            old = before[name]
            if buffer is not None and old is not None and buffer.dtype != old.dtype:
                self._buffers[name] = old.to(buffer.device)
        return self

    def fit(self, state: dict[str, Tensor], prefix: str) -> None:
        """Give ``state`` the buffers of this layer that depend on its options, and no others.

        So a run goes on, and weights are fine-tuned, with a revival or a start that is new to them:
        a dictionary that has learned stays.
        """
        counts = state.get(f"{prefix}cluster_size")
        if counts is None:
            return
        learned = torch.tensor(self.codebook_size if bool(counts.any()) else 0)
        for name, value in (("uses", counts), ("started", learned)):
            if not hasattr(self, name):
                state.pop(prefix + name, None)
            elif prefix + name not in state:
                state[prefix + name] = value.clone()

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        self.fit(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._starting = self.codebook_start != "random"  # the next call looks at ``started``

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, codebook_size={self.codebook_size}, "
            f"commitment_weight={self.commitment_weight}, decay={self.decay}, "
            f"numerics={self.numerics}, forward_mode={self.forward_mode}"
        )


def _require_numbers(values: object, name: str) -> None:
    """Refuse what is no tensor of floating-point numbers."""
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(values).__name__}")
    if not values.is_floating_point():
        raise TypeError(f"{name} must be floating-point numbers, got {values.dtype}")


def _far_apart(vectors: Tensor, number: int, codes: Tensor) -> Tensor:
    """Which ``number`` (at most N) of ``vectors`` (N, C) k-means++ draws beside ``codes`` (k, C).

    Every draw is random with the squared distance to the nearest one so far; nothing is drawn
    twice, also where fewer vectors than that differ.
    """
    far, free = vectors.new_ones(len(vectors)), vectors.new_ones(len(vectors))
    if len(codes):
        far = torch.cdist(vectors, codes).square().amin(dim=1)
    drawn = []
    for _ in range(number):
        weight = far.clamp(max=1e30) * free  # the squares of huge features overflow
        drawn.append(torch.multinomial(torch.where(weight.sum() > 0, weight, free), 1))
        free[drawn[-1]] = 0.0
        far = torch.minimum(far, (vectors - vectors[drawn[-1]]).square().sum(dim=1))
    return torch.cat(drawn) if drawn else torch.zeros(0, dtype=torch.long, device=vectors.device)


def _perplexity(counts: Tensor, least: float = 1e-30) -> Tensor:
    """exp of the entropy of ``counts`` (K,), whose sum is taken to be ``least`` at least."""
    share = counts / counts.sum().clamp(min=least)
    return torch.exp(-(share * torch.log(share + 1e-10)).sum())


def _rare(counts: Tensor, below: float) -> Tensor:
    """(K,) where ``counts`` are under ``below`` times their mean; a common bias cancels."""
    return counts < below * counts.mean()


def _in_backward() -> bool:
    """Whether autograd is at work on this thread, as it is where checkpointing computes again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def quantizer_statistics(module: nn.Module) -> dict[str, Tensor]:
    """Diagnostics of every quantizer inside ``module``, as tensors () that nothing waited for.

    Of the last call: ``NAME/codebook_perplexity``, ``NAME/usage`` (share of codes used),
    ``NAME/replaced`` (codes set to vectors of the call by ``revive_below``) and ``NAME/left_out``
    (vectors of this process with NaN or Inf). As moving averages over calls:
    ``NAME/average_perplexity``, ``NAME/dead`` (codes used less than `DEAD` times as often as the
    mean, whether they were replaced or not) and ``NAME/average_usage`` (the share of the others).
    Where ``module`` is itself a quantizer the names have no ``NAME/``.
    """
    values: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, FeatureQuantizer):
            dead, start = part.dead_codes(), f"{name}/" if name else ""
            values[f"{start}codebook_perplexity"] = part.last_perplexity
            values[f"{start}usage"] = part.last_usage
            values[f"{start}average_perplexity"] = part.average_perplexity()
            values[f"{start}average_usage"] = 1.0 - dead / part.codebook_size
            values[f"{start}dead"] = dead
            values[f"{start}replaced"] = part.last_replaced
            values[f"{start}left_out"] = part.last_left_out
    return values


def with_own_dictionaries(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state``, of a network like ``network``, with a dictionary for every quantizer of it.

    One that ``state`` lacks or has in another size starts anew; those of layers that are not
    quantized here are left out.
    """
    state = dict(state)
    theirs = {key.removesuffix("embed") for key in state if key.endswith(".embed")}
    fitting = {k: v for k, v in state.items() if not any(map(k.startswith, theirs))}
    for name, part in network.named_modules():
        if isinstance(part, FeatureQuantizer):
            part.fit(state, f"{name}.")
            own = {f"{name}.{key}": value for key, value in part.state_dict().items()}
            known = all(key in state and state[key].shape == own[key].shape for key in own)
            fitting |= {key: state[key] for key in own} if known else own
            if not known:
                logger.info("the dictionary of %s starts anew", name)
    return fitting


@dataclass(frozen=True)
class QuantizerOptions:
    """Feature quantization in the discriminator."""

    layers: tuple[int, ...] = ()
    """Layers that are quantized; none at all is the plain network."""
    codebook_size: int = 0
    """Codes per layer, best a sixteenth of the vectors of a call; 0: the authors' numbers."""
    commitment_weight: float = 0.25
    """Factor of the commitment loss."""
    decay: float = 0.8
    """Decay of the moving averages that make the dictionary, per forward pass."""
    forward: ForwardMode = "commit_only"
    """What goes on through the network: the features (released code) or the codes (paper)."""
    warmup_calls: int = 0
    """Forward passes of D before straight_through begins (those of D's and of G's steps count)."""
    statistics: Statistics = "all"
    """Ranks whose features move the dictionary; rank0, local: as the authors' BigGAN, StyleGAN."""
    revive_below: float = 0.0
    """Replace codes used less than this share of the mean, best 0.1; 0, as released: never."""
    codebook_start: CodebookStart = field(default="random", metadata=ADDED)
    """First codes: random as released, or, better, features: vectors of the first passes;
    kmeans++ chooses these far apart."""

    def __post_init__(self) -> None:
        at_least(
            self, "quantizer", codebook_size=0, commitment_weight=0, warmup_calls=0, revive_below=0
        )
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"--quantizer.decay must be in [0, 1), got {self.decay}")
        if len(set(self.layers)) != len(self.layers) or any(layer < 0 for layer in self.layers):
            raise ValueError(
                f"--quantizer.layers must be different numbers of layers, got {self.layers}"
            )

    def build(
        self, channels: int, codebook_size: int, numerics: Numerics = "biggan"
    ) -> FeatureQuantizer:
        """The quantizer of one layer with features (B, ``channels``, H, W)."""
        return FeatureQuantizer(
            channels,
            codebook_size,
            commitment_weight=self.commitment_weight,
            decay=self.decay,
            numerics=numerics,
            forward_mode=self.forward,
            warmup_calls=self.warmup_calls,
            statistics=self.statistics,
            revive_below=self.revive_below,
            codebook_start=self.codebook_start,
        )
