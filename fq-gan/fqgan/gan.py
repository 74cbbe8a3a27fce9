"""What all families train with: the average of G, its noise and labels, gradients over ranks."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .runtime import distributed
from .runtime.distributed import reduce_mean, world_size
from .runtime.precision import check_finite
from .runtime.transfer import upload


class ModelAverage:
    """A copy of ``model`` that follows it; parameters and buffers alike (u, sv, norm statistics).

    ``decay`` may be changed between updates.

    Args:
        model: what is averaged.
        decay: share of the old average that each update keeps.
        start: until this step the copy simply equals the model.
        average_buffers: False takes the model's buffers as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.9999,
        start: int = 0,
        *,
        average_buffers: bool = True,
    ) -> None:
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"the decay of the model average must be in [0, 1], got {decay}")
        self.decay, self.start, self.average_buffers = decay, start, average_buffers
        self.module = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average <- decay * average + (1 - decay) * model, after step ``step`` (1-based).

        ``step`` 0 averages even before ``start``, as in the authors' code.
        """
        decay = 0.0 if 0 < step < self.start else self.decay
        targets, sources = _tensors(self.module), _tensors(model)
        end = len(targets) if self.average_buffers else len(list(model.parameters()))
        averaged = [i for i in range(end) if targets[i].is_floating_point()]
        copied = sorted(set(range(len(targets))) - set(averaged))
        if averaged:
            ends = [sources[i] for i in averaged]
            torch._foreach_lerp_([targets[i] for i in averaged], ends, 1.0 - decay)
        if copied:
            torch._foreach_copy_([targets[i] for i in copied], [sources[i] for i in copied])

    def state_dict(self) -> dict[str, Any]:
        """That of the averaged copy, with the model's own keys."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state)


def _tensors(module: nn.Module) -> list[Tensor]:
    return list(chain(module.parameters(), module.buffers()))


class Latent(NamedTuple):
    z: Tensor  # (B, Z), normal noise
    labels: Tensor  # (B,), int64


class Latents:
    """Draws ``(z, labels)`` for the generator.

    Draw ``j`` of rank ``r`` is number ``j * world_size + r`` of one stream: two processes draw
    what one process draws that accumulates twice. The stream lives on the CPU, so that a run
    draws the same on every device.

    Args:
        latent_dim: Z, the generator's.
        num_classes: labels are uniform in 0 .. num_classes - 1.
        seed: of the stream.
        std: standard deviation of the noise, the authors' ``z_var``. Their training ignores the
            option, and so does ours.
        device: where the draws go.
        shared: False gives the whole stream to this process whatever the world is.
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        *,
        seed: int = 0,
        std: float = 1.0,
        device: torch.device | str = "cpu",
        shared: bool = True,
    ) -> None:
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.std, self.device = std, torch.device(device)
        self._rank = distributed.rank() if shared else 0
        self._world = distributed.world_size() if shared else 1
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, batch_size: int) -> Latent:
        """The next ``batch_size`` draws of this process."""
        mine = None
        for number in range(self._world):
            z = torch.randn(batch_size, self.latent_dim, generator=self._generator)
            labels = torch.randint(self.num_classes, (batch_size,), generator=self._generator)
            if number == self._rank:
                mine = Latent(z, labels)
        assert mine is not None
        return Latent(upload(mine.z * self.std, self.device), upload(mine.labels, self.device))

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])


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
