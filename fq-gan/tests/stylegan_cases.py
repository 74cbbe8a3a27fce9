"""Recorded StyleGAN2 networks, and tiny ones, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from factories import Recorded
from torch import Tensor, nn

from fqgan.released.stylegan2 import from_tf
from fqgan.stylegan2.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    StepConfig,
    Stylegan2Config,
)
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.networks import Generator


def tiny_config(layers: Sequence[int] = (3,), **changes: Any) -> Stylegan2Config:
    """16-pixel networks of a few channels."""
    options: dict[str, Any] = {
        "resolution": 16,
        "mapping": MappingConfig(latent_dim=6, style_dim=5, hidden_dim=4, num_layers=2),
        "generator": GeneratorConfig(channel_base=64, channel_max=8),
        "discriminator": DiscriminatorConfig(channel_base=64, channel_max=8),
        "quantizer": QuantizerConfig(layers=tuple(layers), codebook_size=8),
    }
    return Stylegan2Config(**{**options, **changes})


def tiny_step(**changes: Any) -> StepConfig:
    return StepConfig(**{"batch_size": 4, **changes})


class RecordedNetworks:
    """A file of networks, losses, gradients and training states, or of some of them.

    Args:
        recorded: the file.
        needed: beginnings of names; the test is skipped where one is absent.
    """

    def __init__(self, recorded: Recorded, *needed: str) -> None:
        for name in needed:
            if not any(own.startswith(name) for own in recorded.names):
                pytest.skip(f"no {name} in the recorded case")
        self.recorded = recorded
        self.case = recorded.json("case")
        g, d = recorded.json("gk"), recorded.json("dk")
        widths = {"channel_base": g["fmap_base"], "channel_max": g["fmap_max"]}
        self.config = Stylegan2Config(
            resolution=g["resolution"],
            num_channels=g["num_channels"],
            label_size=g["label_size"],
            mapping=MappingConfig(
                g["latent_size"], g["dlatent_size"], g["mapping_fmaps"], g["mapping_layers"]
            ),
            generator=GeneratorConfig(**widths, style_mixing=0.0),
            discriminator=DiscriminatorConfig(
                channel_base=d["fmap_base"], channel_max=d["fmap_max"]
            ),
            quantizer=QuantizerConfig(
                layers=tuple(map(int, d["discrete_layer"])),
                commitment_weight=d["commitment_cost"],
                decay=d["decay"],
            ),
        )

    def generator(self) -> Generator:
        names = self.recorded.json("names")["G"]
        network = build_generator(self.config)
        network.load_state_dict(from_tf({name: self.recorded[f"G/{name}"] for name in names}))
        return network.to(self.recorded.device)

    def discriminator(self, *, quantized: bool) -> nn.Module:
        config = self.config
        if not quantized:
            config = Stylegan2Config(
                **{**vars(config), "quantizer": QuantizerConfig(layers=())}
            )  # fmt: skip
        network = build_discriminator(config)
        prefix = "D" if quantized else "Dplain"
        network.load_state_dict(from_tf(self.recorded.state(prefix)))
        return network.to(self.recorded.device)

    def draws(self, kind: str) -> list[Tensor]:
        """Random numbers of ``kind`` in the order of the calls."""
        prefix = f"rand/{kind}/"
        number = sum(name.startswith(prefix) for name in self.recorded.names)
        return [self.recorded[f"{prefix}{i}"] for i in range(number)]


def worst_gradient(network: nn.Module, theirs: dict[str, Tensor]) -> float:
    """Largest difference from gradients under the authors' names, over the largest of these."""
    expected = from_tf(theirs)
    largest = max(float(value.abs().max()) for value in expected.values())
    worst = 0.0
    for name, parameter in network.named_parameters():
        if name not in expected:
            assert parameter.grad is None or not parameter.grad.any(), name
        else:
            assert parameter.grad is not None, name
            worst = max(worst, float((parameter.grad - expected[name]).abs().max()))
    return worst / largest
