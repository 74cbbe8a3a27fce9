"""First values of the weights."""

from __future__ import annotations

from torch import nn

from .config import Init


def initialize(network: nn.Module, style: Init) -> None:
    """Fill every weight of convolutions, linear layers and embeddings; biases stay as they are.

    ``ortho`` orthogonal, ``N02`` normal with deviation 0.02, ``glorot`` uniform (Glorot), ``none``
    PyTorch's own.
    """
    if style == "none":
        return
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding):
            if style == "ortho":
                nn.init.orthogonal_(part.weight)
            elif style == "N02":
                nn.init.normal_(part.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(part.weight)
