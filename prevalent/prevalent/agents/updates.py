"""Gradient steps of agents that consist of several modules, each with its own optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..agent_config import OptimizerConfig
from ..runtime.distributed import reduce_mean, world_size
from ..runtime.precision import MixedPrecision, Precision

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
        optimizers: list[torch.optim.Optimizer] = [
            kind(module.parameters(), lr=config.lr, weight_decay=config.weight_decay)  # type: ignore[call-arg]
            for module in modules.values()
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
        for name, optimizer in self.optimizers.items():
            if amp is None:
                scaler.unscale_(optimizer)
            if name in self.clipped:
                parameters = (
                    self.modules[name].parameters() if amp is None else amp.master_params(optimizer)
                )
                norms[name] = nn.utils.clip_grad_norm_(parameters, self.config.max_norm)
        for optimizer in self.optimizers.values():
            scaler.step(optimizer)
        scaler.update()
        self.clear()
        return norms

    def clear(self) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

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
