"""Noise and labels for the generator, from one stream that all processes share."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .runtime import distributed


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
        return Latent((mine.z * self.std).to(self.device), mine.labels.to(self.device))

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"])
