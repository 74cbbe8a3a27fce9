"""The optimizer of pytorch-transformers 1.2, which pre-trained PREVALENT, in fused kernels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from .runtime.precision import check_finite

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


def check_weights(step: int, parts: Mapping[str, Any]) -> None:
    """Raise ``FloatingPointError`` naming the first module of ``parts`` that is not finite.

    A loss can be finite in the step whose gradient is not; asked before a save, this keeps such
    weights out of every checkpoint.
    """
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            values = [one.detach() for one in part.parameters()]
            largest = torch.nn.utils.get_total_norm(values, math.inf)
            check_finite(step, **{f"the largest weight of the {name}": largest})
