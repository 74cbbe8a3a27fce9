"""Network pickles of StyleGAN, StyleGAN2 and FQ-StyleGAN, read without running what is in them.

A pickle holds the source text of its networks, which is ignored: the networks are built here, from
their function's name and its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..conversion import Report, load_with_report
from ..safe_load import PickledArray, Record, load_record_pickle
from .arguments import GENERATORS, discriminator_settings, generator_settings, joint_settings
from .build import build_discriminator, build_generator
from .config import Stylegan2Config
from .generator import Generator
from .naming import IGNORED, from_tf, key_of

CLASSES = ("dnnlib.tflib.network.Network", "tfutil.Network")
PLAIN = (str, int, float, bool, type(None))
_DICTIONARY = re.compile(r"discrete_mapping_(\d+)", re.IGNORECASE)
_CLONE = re.compile(r"Discrete_mapping_\d+/Discrete_mapping_\d+_\d+/")
# Averages that follow from the sums beside them, and a second counter of the same steps.
# Layers that read or write images below the full resolution; there are none with
# structure="fixed", and at the full resolution nothing is computed with them.
_BELOW_FULL = re.compile(r"(?:synthesis\.)?(?:from|to)_rgb_lod[1-9]\d*\..*")
_DERIVED = re.compile(r"Discrete_mapping_\d+/(ema_cluster_size|ema_dw|.*ema_dw/local_step)")


@dataclass(frozen=True)
class NetworkRecord:
    """One network of a pickle."""

    name: str
    function: str  # that builds it, such as G_main
    arguments: dict[str, Any]
    variables: dict[str, np.ndarray]  # its own, not those of its parts
    components: dict[str, NetworkRecord]

    @property
    def lod(self) -> float:
        """Halvings of the resolution that it has yet to grow by."""
        return float(self.variables.get("lod", np.zeros(())))

    def all_variables(self) -> dict[str, np.ndarray]:
        """Own variables, and those of the parts with the part's name in front."""
        found = dict(self.variables)
        for part in self.components.values():
            found |= {f"{part.name}/{name}": v for name, v in part.all_variables().items()}
        return found

    def settings(self) -> Stylegan2Config:
        """See `arguments`; raises ``ValueError`` where it cannot be built here."""
        if self.function in GENERATORS:
            return generator_settings(self.function, self.arguments)
        dictionaries = {
            int(match[1]): part.arguments
            for name, part in self.components.items()
            if (match := _DICTIONARY.fullmatch(name))
        }
        return discriminator_settings(self.function, self.arguments, dictionaries)


class Snapshot(NamedTuple):
    """The networks of one pickle, as far as it has them."""

    config: Stylegan2Config
    generator: Generator | None
    discriminator: nn.Module | None
    average: Generator | None
    lod: float  # halvings of the resolution that they had yet to grow by
    reports: list[Report]


def read_network_pickle(path: str | Path) -> tuple[NetworkRecord, ...]:
    """The networks of a pickle: (G, D, Gs) of a training run, or a single one.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, damaged, or with anything but data and arrays in it.
    """
    content = load_record_pickle(path, CLASSES)
    networks = content if isinstance(content, (tuple, list)) else (content,)
    if not networks or not all(isinstance(network, Record) for network in networks):
        raise ValueError(f"{path} holds no networks of StyleGAN or StyleGAN2")
    try:
        return tuple(_network(network) for network in networks)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} holds a network that cannot be read ({error})") from None


def _network(record: Record) -> NetworkRecord:
    state = record.state
    return NetworkRecord(
        str(state["name"]),
        str(state["build_func_name"]),
        {str(name): _plain(value, name) for name, value in state["static_kwargs"].items()},
        {str(name): _array(value) for name, value in state["variables"]},
        {str(name): _network(part) for name, part in (state.get("components") or {}).items()},
    )


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item, name) for item in value)
    if isinstance(value, PickledArray):
        return tuple(value.numpy().reshape(-1).tolist())
    raise ValueError(f"its argument {name} is no number or text")


def _array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, PickledArray) else np.asarray(value, np.float32)


def load_network(record: NetworkRecord, config: Stylegan2Config) -> tuple[nn.Module, Report]:
    """Build the network of ``record`` and account for every variable of it."""
    build = build_generator if record.function in GENERATORS else build_discriminator
    network, state = build(config), state_of(record)
    below = {k: v for k, v in network.state_dict().items() if _BELOW_FULL.fullmatch(k)}
    fixed = record.lod == 0.0 and not below.keys() & state.keys()
    filled = below if fixed else {}
    report = load_with_report(network, state | filled, record.name, filled=tuple(filled))
    return network.eval(), report


def state_of(record: NetworkRecord) -> dict[str, Tensor]:
    """State dict of our network; a variable with no place in one stays under its own name."""
    known: dict[str, Tensor] = {}
    unknown: dict[str, Tensor] = {}
    for name, value in record.all_variables().items():
        # A clone of the graph on another GPU has debiasing variables of its own.
        if name in IGNORED or _CLONE.match(name) or _DERIVED.fullmatch(name):
            continue
        place = unknown if key_of(name) is None else known
        place[name] = torch.from_numpy(np.array(value, dtype=np.float32))
    return from_tf(known) | unknown


def load_snapshot(path: str | Path) -> Snapshot:
    """Build the networks of a pickle: generator, discriminator and average, or some of them.

    Raises:
        FileNotFoundError, ValueError: see `read_network_pickle` and `NetworkRecord.settings`.
    """
    records = read_network_pickle(path)
    named = _by_role(records, path)
    try:
        settings = {role: record.settings() for role, record in named.items()}
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    config = settings.get("generator") or settings["discriminator"]
    if len({"generator", "discriminator"} & set(settings)) == 2:
        try:
            config = joint_settings(config, settings["discriminator"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    networks: dict[str, nn.Module] = {}
    reports = []
    for role, record in named.items():
        networks[role], report = load_network(record, config)
        reports.append(replace(report, name=role))
    latest = named.get("average", next(iter(named.values())))
    return Snapshot(
        config,
        _generator(networks, "generator"),
        networks.get("discriminator"),
        _generator(networks, "average"),
        latest.lod,
        reports,
    )


def _by_role(records: tuple[NetworkRecord, ...], path: str | Path) -> dict[str, NetworkRecord]:
    named: dict[str, NetworkRecord] = {}
    for record in records:
        role = "discriminator"
        if record.function in GENERATORS:
            role = "average" if "generator" in named else "generator"
        if role in named:
            raise ValueError(f"{path} holds {len(records)} networks; G, D and Gs are expected")
        named[role] = record
    return named


def _generator(networks: Mapping[str, nn.Module], role: str) -> Generator | None:
    network = networks.get(role)
    assert network is None or isinstance(network, Generator)
    return network
