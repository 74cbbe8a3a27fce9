"""What a training iteration of two opponents does to gradients, in one process and in several.

GANs switch off the gradients of one network while the other learns, which the hooks of
DistributedDataParallel do not expect; so the iterations average gradients themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .runtime.distributed import reduce_mean, world_size
from .runtime.precision import check_finite


def require_grad(network: nn.Module, on: bool) -> None:
    """Switch the gradients of all parameters on or off."""
    for parameter in network.parameters():
        parameter.requires_grad_(on)


def send_from_first_rank(*networks: nn.Module) -> None:
    """Copy the parameters and buffers of rank 0 to all others."""
    if world_size() > 1:
        for network in networks:
            for tensor in network.state_dict().values():
                sent = tensor.contiguous()
                dist.broadcast(sent, src=0)
                tensor.copy_(sent)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of the gradients over the ranks, in one reduction."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if world_size() > 1:
        average_in_place(gradients)


def average_in_place(tensors: list[Tensor]) -> None:
    """Mean of each of ``tensors`` over the ranks, in one reduction."""
    if not tensors:
        return
    flat = reduce_mean(torch.cat([t.reshape(-1) for t in tensors]))
    parts = flat.split([t.numel() for t in tensors])
    torch._foreach_copy_(tensors, [p.view(t.shape) for p, t in zip(parts, tensors, strict=True)])


def check_weights(step: int, **networks: nn.Module) -> None:
    """Raise ``FloatingPointError`` naming the first network with a NaN or infinite weight.

    Losses are those before the update; a gradient that is not finite shows up here first.
    """
    for name, network in networks.items():
        norms = torch._foreach_norm([p.detach() for p in network.parameters()])
        check_finite(step, **{f"a weight of {name}": torch.stack(list(norms))})
