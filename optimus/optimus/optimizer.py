"""AdamW as a run uses it, and the authors' variant for comparison with their runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .config import OptimizerOptions
from .runtime.precision import build_adamw


def build_optimizer(
    options: OptimizerOptions, model: nn.Module, authors: bool = False
) -> torch.optim.Optimizer:
    """AdamW over the decayed and the other weights; ``authors`` restores their update rule."""
    groups = parameter_groups(model, options.weight_decay, compat=authors)
    if authors:
        return OriginalAdamW(groups, lr=options.lr, betas=(0.9, 0.999), eps=1e-8)
    return build_adamw(groups, kind=options.kind, lr=options.lr, betas=(0.9, 0.999), eps=1e-8)


def parameter_groups(
    model: nn.Module, weight_decay: float, compat: bool = False
) -> list[dict[str, Any]]:
    """Two groups for AdamW: with ``weight_decay``, and without any.

    Biases and norms are never decayed. ``compat=True`` restores the authors' rule, by name: it
    spares "bias" and "LayerNorm.weight", so that GPT-2's norms, called ``ln_*``, are decayed.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        norm = "LayerNorm.weight" in name if compat else parameter.ndim < 2
        (spared if "bias" in name or norm else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


class OriginalAdamW(torch.optim.Optimizer):
    """AdamW as the authors' library had it in 2019.

    update = lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps): ``eps`` is not bias-corrected,
    and the decay acts on the weights after the update. ``torch.optim.AdamW`` differs by less than
    1e-5 relative over a short run.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.mul_(first).add_(gradient, alpha=1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        rate = group["lr"] * math.sqrt(1 - second ** state["step"]) / (1 - first ** state["step"])
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-rate)
        if group["weight_decay"] > 0:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
