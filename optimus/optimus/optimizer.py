"""AdamW's parameter groups, the authors' variant of it, and means of what a run logs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .runtime.distributed import reduce_mean
from .runtime.precision import Precision


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


def norm_to_check(norm: Tensor | None, precision: Precision) -> Tensor | None:
    """The gradient's norm, or None where an infinite one is harmless.

    Loss scaling (fp16, apex) leaves such a step out by itself; else the weights are broken by it,
    which the loss shows only a step later.
    """
    return norm if precision in ("fp32", "bf16") else None


class RunningMeans:
    """Sums on the device, so that a step needs no synchronisation.

    Args:
        names: what is averaged.
        device: where the values are.
    """

    def __init__(self, names: Sequence[str], device: torch.device | str) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names) + 1, dtype=torch.float64, device=device)

    def add(self, **values: Tensor) -> None:
        """Count one step; a tensor of several elements counts with its mean."""
        rows = [values[name].detach().double().mean() for name in self.names]
        self.sums += torch.stack([*rows, torch.ones_like(rows[0])])

    def share(self) -> None:
        """Make the sums those of all processes, on each of them alike."""
        reduce_mean(self.sums)

    def take(self) -> dict[str, float]:
        """The means; counting starts anew."""
        values = (self.sums[:-1] / self.sums[-1]).tolist()
        self.sums.zero_()
        return dict(zip(self.names, values, strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.sums.copy_(state["sums"])
