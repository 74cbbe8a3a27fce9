"""Directions of attributes in latent space, learned from sentences with and without them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .runtime.files import json_text, why, write_atomically
from .runtime.options import require

Method = Literal["difference", "boundary"]


@dataclass(frozen=True)
class Direction:
    """A way to go: 1 along it is the distance between sentences without and with the attribute."""

    vector: Tensor  # (Z,)
    name: str = ""
    threshold: float = 0.0
    """Between the two groups, in units of the direction from the origin."""
    about: dict[str, Any] = field(default_factory=dict)
    """How it was learned, and how well it does."""

    def position(self, latents: Tensor) -> Tensor:
        """Where ``latents`` (N, Z) stand along the direction, (N,), in its units."""
        return torch.as_tensor(latents).float() @ self.vector / self.vector.square().sum()

    def has(self, latents: Tensor) -> Tensor:
        """Which of ``latents`` (N, Z) are on the side of the attribute, (N,) bool."""
        return self.position(latents) > self.threshold

    def move(self, latents: Tensor, strength: float = 1.0) -> Tensor:
        """``latents`` (N, Z), ``strength`` units further."""
        return torch.as_tensor(latents).float() + strength * self.vector

    def save(self, path: str | Path) -> None:
        """Write a ``.safetensors`` file."""
        note = {"name": self.name, "threshold": self.threshold, "about": self.about}
        content = save({"direction": self.vector.contiguous()}, {"note": json_text(note)})
        write_atomically(path, content)

    @classmethod
    def load(cls, path: str | Path) -> Direction:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no direction.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no direction {path}; `optimus edit learn` writes one")
        try:
            with safe_open(path, "pt") as file:
                return cls(file.get_tensor("direction"), **json.loads(file.metadata()["note"]))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no direction of `optimus edit` ({why(error)})") from error


def learn_direction(
    having: Tensor, lacking: Tensor, method: Method = "difference", name: str = ""
) -> Direction:
    """The direction from ``lacking`` (M, Z) to ``having`` (N, Z).

    ``difference`` is the difference of the means (Larsen et al., ICML 2016, Sec. 4.1, on pictures).
    ``boundary`` is the normal of the plane that logistic regression puts between the groups (Shen
    et al., CVPR 2020, there with a support-vector machine), as long as the means are apart along
    it: it leaves out what differs between the groups and says nothing of the attribute.
    """
    having, lacking = (torch.as_tensor(group).float() for group in (having, lacking))
    require(method in get_args(Method), f"method must be difference or boundary, got {method!r}")
    require(len(having) > 0 and len(lacking) > 0, "a direction needs sentences of both groups")
    first, second = lacking.mean(dim=0), having.mean(dim=0)
    vector = second - first
    if method == "boundary":
        from sklearn.linear_model import LogisticRegression

        rows = torch.cat([lacking, having]).double()
        spread = rows.std(dim=0).clamp(min=1e-6)
        labels = [0] * len(lacking) + [1] * len(having)
        plane = LogisticRegression(max_iter=2000).fit((rows / spread).numpy(), labels)
        normal = torch.from_numpy(plane.coef_[0]) / spread
        normal = (normal / normal.norm()).to(vector)
        vector = normal * (vector @ normal)
    length = vector.square().sum()
    require(float(length) > 0, "the two groups have the same mean: there is no direction")
    threshold = float((first + second) @ vector / (2 * length))
    return Direction(vector, name, threshold)
