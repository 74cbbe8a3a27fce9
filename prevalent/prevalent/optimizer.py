"""Gradient steps: the authors' AdamW of pre-training, and agents with an optimizer a module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from .runtime.distributed import reduce_mean, world_size
from .runtime.options import at_least, positive
from .runtime.precision import MixedPrecision, Precision, clear_gradients, has_gradients


@dataclass(frozen=True)
class OptimizerConfig:
    """One optimizer for each module, all with the same settings."""

    kind: Literal["rms", "adam", "adamax", "sgd"] = "rms"
    """Update rule, with PyTorch's defaults."""
    lr: float = 1e-4
    """Learning rate."""
    weight_decay: float = 0.0
    """Weight decay. Deviation: the authors' flag of that name reaches no optimizer."""
    max_norm: float = 40.0
    """Gradient norms of encoder and decoder are clipped to this; the critic's is not."""

    def __post_init__(self) -> None:
        positive(self, "optimizer", "lr")
        at_least(self, "optimizer", weight_decay=0)
        if self.max_norm <= 0:
            raise ValueError(f"--optimizer.max-norm must be positive, got {self.max_norm}")


NO_DECAY = ("bias", "LayerNorm.weight")


class AuthorsAdamW(torch.optim.AdamW):
    """AdamW as pytorch-transformers computed it.

    Two things differ from ``torch.optim.AdamW``: epsilon stands beside sqrt(v) *before* the bias
    correction, which is a larger epsilon in the first steps, and the weights decay after the
    update, so the update decays too. The first is reached by giving torch's kernels the epsilon
    ``eps / sqrt(1 - beta2^t)``; state and speed are torch's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)
        for group in self.param_groups:
            group["decay"], group["weight_decay"] = group["weight_decay"], 0.0
            group["plain_eps"], group["steps"] = eps, 0
        # The epsilon depends on the number of steps taken, so a step that overflowed in fp16 must
        # not reach this class: GradScaler then leaves it out by itself.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update with the learning rate of each group."""
        for group in self.param_groups:
            group["steps"] += 1
            correction = 1 - group["betas"][1] ** group["steps"]
            group["eps"] = group["plain_eps"] / math.sqrt(correction)
        loss = super().step(closure)
        for group in self.param_groups:
            updated = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["decay"] and updated:
                torch._foreach_mul_(updated, 1 - group["lr"] * group["decay"])
        return loss


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: names with ``bias`` or ``LayerNorm.weight`` never decay.

    The rule is the authors' and matches substrings, so ``visn_layer_norm.weight`` does decay.
    """
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    kept = [value for name, value in named if any(part in name for part in NO_DECAY)]
    decayed = [value for name, value in named if not any(part in name for part in NO_DECAY)]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]


def linear_schedule(step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """Factor on the learning rate at ``step`` (0-based): linear rise, then linear fall to 0."""
    if step < warmup_steps:
        return step / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "rms": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "sgd": torch.optim.SGD,
}


class Updater:
    """Optimizers of named modules; gradients of several losses add up until `step`.

    Args:
        modules: by name; all their parameters belong to the optimizer of that name.
        config: of every optimizer.
        clipped: names of the modules whose gradient norm is clipped, each on its own.
        precision: of the forward passes.
        device: of the modules.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        config: OptimizerConfig,
        clipped: Sequence[str],
        precision: Precision = "fp32",
        device: torch.device | str = "cpu",
    ) -> None:
        self.config, self.clipped = config, tuple(clipped)
        kind = OPTIMIZERS[config.kind]
        options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
        if config.kind == "adam" and torch.device(device).type == "cuda":
            options["fused"] = True  # the others take all tensors at once there by themselves
        optimizers: list[torch.optim.Optimizer] = [
            kind(module.parameters(), **options) for module in modules.values()
        ]
        self.precision = MixedPrecision(precision, device)
        prepared, optimizers = self.precision.prepare(list(modules.values()), optimizers)
        self.modules: dict[str, nn.Module] = dict(zip(modules, prepared, strict=True))
        self.optimizers = dict(zip(modules, optimizers, strict=True))

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``; its graph is freed."""
        self.precision.backward(loss, list(self.optimizers.values()))  # type: ignore[arg-type]

    def step(self) -> dict[str, Tensor]:
        """Average gradients over processes, clip, step every optimizer, clear the gradients.

        Returns the norms before clipping by module name, as tensors on the device.
        """
        self._average()
        scaler, amp, norms = self.precision.scaler, self.precision.amp, {}
        used = {
            name: optimizer
            for name, optimizer in self.optimizers.items()
            if amp is not None or has_gradients(optimizer)
        }
        for name, optimizer in used.items():
            if amp is None:
                scaler.unscale_(optimizer)
            if name in self.clipped:
                parameters = (
                    self.modules[name].parameters() if amp is None else amp.master_params(optimizer)
                )
                norms[name] = nn.utils.clip_grad_norm_(parameters, self.config.max_norm)
        for optimizer in used.values():
            scaler.step(optimizer)
        if used:
            scaler.update()
        self.clear()
        return norms

    def clear(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers.values():
            clear_gradients(optimizer)

    def set_lr(self, lr: float) -> None:
        """Change the learning rate of every optimizer."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr

    def parts(self) -> dict[str, Any]:
        """What a checkpoint must hold: modules, optimizers, precision."""
        optimizers = {f"{name}_optimizer": one for name, one in self.optimizers.items()}
        return {**self.modules, **optimizers, "precision": self.precision}

    def _average(self) -> None:
        """Mean over processes in one transfer.

        A roll-out calls the modules many times before one backward pass, and some parameters are
        never used; both are awkward for DistributedDataParallel.
        """
        if world_size() == 1:
            return
        gradients = [
            parameter.grad
            for module in self.modules.values()
            for parameter in module.parameters()
            if parameter.grad is not None
        ]
        flat = reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


class Agent:
    """Named modules that learn together, each with its own optimizer; agents derive from it.

    Gradients of several losses add up until `update`.

    Args:
        modules: by name; moved to ``device``.
        optimizer: settings of every optimizer.
        clipped: names of the modules whose gradient norm is clipped.
        precision: of the forward passes.
        device: where the agent runs.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: OptimizerConfig,
        clipped: Sequence[str],
        precision: Precision,
        device: torch.device,
    ) -> None:
        for module in modules.values():
            module.to(device)
        self.updater = Updater(modules, optimizer, clipped, precision, device)
        self.modules, self.optimizers = self.updater.modules, self.updater.optimizers

    def train(self, mode: bool = True) -> Self:
        """Put all modules in train or eval mode."""
        for module in self.modules.values():
            module.train(mode)
        return self

    @contextmanager
    def in_eval_mode(self) -> Iterator[None]:
        """Eval mode inside, what it was before behind it."""
        was_training = next(iter(self.modules.values())).training
        self.train(False)
        try:
            yield
        finally:
            self.train(was_training)

    def parts(self) -> dict[str, Any]:
        """Named parts for a checkpoint."""
        return self.updater.parts()

    def update(self) -> dict[str, Tensor]:
        """Step all optimizers; returns gradient norms before clipping."""
        return {f"{name}_norm": norm for name, norm in self.updater.step().items()}
