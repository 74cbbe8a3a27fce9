"""Small U-GAT-IT networks and batches, and how its recorded cases are read."""

from __future__ import annotations

from typing import Any

import torch
from factories import Recorded
from torch import Tensor

from fqgan.released.ugatit import NETWORKS, states_of
from fqgan.ugatit.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
    UgatitConfig,
)
from fqgan.ugatit.networks import UgatitNetworks, build_networks


def tiny_networks(**changes: Any) -> UgatitConfig:
    """Networks for 32 pixels of the smallest width, quantized in one layer."""
    options: dict[str, Any] = {
        "image_size": 32,
        "generator": GeneratorConfig(channels=2, num_blocks=1),
        "discriminator": DiscriminatorConfig(channels=2, depth=4),
        "quantizer": QuantizerConfig(layers=(1, 2), codebook_size=4),
    }
    return UgatitConfig(**{**options, **changes})


def image_pair(config: UgatitConfig, number: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (number, C, H, W) of two domains in [-1, 1]."""
    random = torch.Generator().manual_seed(seed)
    shape = (2, number, config.image_channels, config.image_size, config.image_size)
    a, b = torch.rand(shape, generator=random) * 2 - 1
    return a, b


def options_of(case: Recorded) -> dict[str, str]:
    """The authors' command line of a recorded case."""
    words = case.json("argv")
    return dict(zip(words[::2], words[1::2], strict=True))


def config_of(case: Recorded) -> UgatitConfig:
    """Networks of a recorded case."""
    given = options_of(case)
    layers = tuple(sorted(int(digit) for digit in given.get("--quantization_layer", "123")))
    return UgatitConfig(
        int(given.get("--img_size", 256)),
        int(given.get("--img_ch", 3)),
        GeneratorConfig(
            int(given.get("--ch", 64)),
            int(given.get("--n_res", 4)),
            given.get("--light", "false").lower() == "true",
            given.get("--smoothing", "true").lower() == "true",
        ),
        DiscriminatorConfig(
            int(given.get("--ch", 64)),
            int(given.get("--n_dis", 6)),
            given.get("--sn", "true").lower() == "true",
        ),
        QuantizerConfig(
            layers if given.get("--quant", "true").lower() == "true" else (),
            commitment_weight=float(given.get("--commitment_cost", 2.0)),
            decay=float(given.get("--decay", 0.85)),
        ),
    )


def step_config_of(case: Recorded) -> StepConfig:
    """Training options of a recorded case."""
    given = options_of(case)
    return StepConfig(
        batch_size=int(given.get("--batch_size", 1)),
        lr=float(given.get("--lr", 1e-4)),
        loss=given.get("--gan_type", "lsgan"),
        adversarial_weight=float(given.get("--adv_weight", 1)),
        cycle_weight=float(given.get("--cycle_weight", 10)),
        identity_weight=float(given.get("--identity_weight", 10)),
        cam_weight=float(given.get("--cam_weight", 1000)),
        penalty_weight=float(given.get("--GP_ld", 10)),
    )


def recorded_states(case: Recorded, *prefixes: str) -> dict[str, dict[str, Tensor]]:
    """States by network, later prefixes over earlier ones; nothing is left over."""
    arrays: dict[str, Any] = {}
    for prefix in prefixes:
        arrays |= {name: value.cpu().numpy() for name, value in case.state(prefix).items()}
    states, unknown = states_of(arrays, config_of(case))
    assert not unknown
    return states


def recorded_networks(case: Recorded, *prefixes: str) -> UgatitNetworks:
    """Networks in training mode with a recorded state."""
    networks = build_networks(config_of(case))
    for name, state in recorded_states(case, *(prefixes or ("init",))).items():
        network = getattr(networks, name)
        left = network.load_state_dict(state, strict=False)
        assert not left.unexpected_keys
        assert all(key.endswith("sv0") for key in left.missing_keys)
    assert set(NETWORKS.values()) == {name for name, _ in networks.named_children()}
    return networks.to(case.device).train()


def images_of(case: Recorded, name: str) -> Tensor:
    """A recorded (B, H, W, C) as (B, C, H, W)."""
    return case[name].movedim(-1, 1).contiguous()


def domains_of(case: Recorded) -> tuple[Tensor, Tensor]:
    return images_of(case, "domain_A"), images_of(case, "domain_B")
