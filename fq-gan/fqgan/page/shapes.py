"""A small classifier of the toy shapes, which says what is recognised on a sheet of the demo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.images import normalize
from ..data.toy import SHAPES, toy_images
from ..runtime.random_state import unchanged_random_state

NOISE = 0.1  # added to what it learns from, so that rough edges do not decide


def train_judge(steps: int = 300, batch_size: int = 128, *, resolution: int = 32) -> nn.Module:
    """A network from images (B, 3, R, R) in [-1, 1], R 16 or 32, to logits (B, 10), in eval mode.

    300 steps take seconds on a CPU; it is then right about 98 of 100 toy images that it never saw,
    wherever the shapes are.
    """
    images = toy_images(4000, seed=1, resolution=resolution)
    pixels = normalize(images.pixels)
    with unchanged_random_state():
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
            stride = 1 if (resolution, inputs) == (16, 3) else 2  # 4x4 features at the end
            layers += [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        judge = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, len(SHAPES)))
        optimizer = torch.optim.AdamW(judge.parameters(), 5e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            chosen = torch.randint(len(pixels), (batch_size,))
            some = pixels[chosen]
            loss = F.cross_entropy(
                judge(some + NOISE * torch.randn_like(some)), images.labels[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval()


@torch.no_grad()
def recognised(judge: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """For every shape, the share of its ``images`` (N, 3, R, R) that ``judge`` takes for it.

    ``labels`` (N,) are those of `SHAPES`, in their order.
    """
    right = judge(images.cpu()).argmax(dim=1) == labels.cpu()
    return {
        name: float(right[labels.cpu() == number].float().mean())
        for number, name in enumerate(SHAPES)
    }
