"""A model whose weights, gradients and optimizer states are shared out among processes (FSDP2).

Each process holds a share of every layer; a layer is whole only while it is computed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ..runtime.distributed import World
from .pretrained import decoder_layers
from .vae import OptimusModel


def shard(model: OptimusModel, world: World) -> None:
    """Share out ``model`` in place, layer by layer; it may still be on the CPU. Rank 0's is taken.

    The rest (embeddings, connectors, heads) is one more unit, which stays whole between forward and
    backward pass. The optimizer is to be built afterwards.
    """
    whole = model.state_dict() if world.is_main else {}
    mesh = init_device_mesh(world.device.type, (world.size,))
    layers = list(decoder_layers(model.decoder.network))
    if model.encoder is not None:
        layers += decoder_layers(model.encoder.network)
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(model, whole, options=options)


def whole_state(model: OptimusModel) -> dict[str, Tensor]:
    """The weights on the CPU of rank 0, {} on the others; to be called by all."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return state


class SharedState:
    """Weights and optimizer states of a shared-out model, as a part of a checkpoint.

    What is no tensor, learning rates and betas, is the options' and not kept.
    """

    def __init__(self, model: OptimusModel, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def shards(self) -> dict[str, Any]:
        """This process's share; the optimizer's states are made if there are none yet."""
        state = get_optimizer_state_dict(self.model, self.optimizer)["state"]
        return {"model": get_model_state_dict(self.model), "optimizer": state}

    def load_shards(self, state: dict[str, Any]) -> None:
        """Take over what ``shards`` gave in another process or run."""
        set_model_state_dict(self.model, state["model"])
        own = get_optimizer_state_dict(self.model, self.optimizer)
        set_optimizer_state_dict(
            self.model,
            self.optimizer,
            {"state": state["optimizer"], "param_groups": own["param_groups"]},
        )
