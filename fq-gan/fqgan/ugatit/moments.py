"""Adam's moments by the names of the parameters, for a training that others began."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .step import UgatitStep

FIRST, SECOND = ".exp_avg", ".exp_avg_sq"
GENERATOR_UPDATES, JUDGE_UPDATES = "generator_updates", "discriminator_updates"


def load_moments(moments: Mapping[str, Tensor], step: UgatitStep) -> None:
    """Continue with ``moments``; the learning rate stays that of ``step``.

    Args:
        moments: ``NETWORK.PARAMETER.exp_avg`` and ``.exp_avg_sq``, such as
            ``a_to_b.first.weight.exp_avg``, and the numbers of updates behind them,
            ``generator_updates`` and ``discriminator_updates``.
        step: the iteration whose optimizers get them.

    Raises:
        ValueError: a parameter has none, or of another shape.
    """
    names = {parameter: name for name, parameter in step.networks.named_parameters()}
    optimizers = [(step.generator_optimizer, GENERATOR_UPDATES)]
    optimizers += [(one, JUDGE_UPDATES) for one in step.judge_optimizers]
    for optimizer, updates in optimizers:
        saved = optimizer.state_dict()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for number, parameter in enumerate(parameters):
            name = names[parameter]
            found = [moments.get(name + FIRST), moments.get(name + SECOND)]
            if any(one is None or one.shape != parameter.shape for one in found):
                shapes = [None if one is None else list(one.shape) for one in found]
                raise ValueError(
                    f"the moments of {name} do not fit it: {shapes} where it has "
                    f"{list(parameter.shape)}; leave the moments out"
                )
            saved["state"][number] = {
                "step": torch.as_tensor(moments[updates], dtype=torch.float32),
                "exp_avg": found[0],
                "exp_avg_sq": found[1],
            }
        optimizer.load_state_dict(saved)
