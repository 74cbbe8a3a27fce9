"""Network pickles of StyleGAN, StyleGAN2 and FQ-StyleGAN: arguments, names, weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..runtime.files import why
from ..stylegan2.config import (
    LEGACY,
    DiscriminatorArchitecture,
    DiscriminatorConfig,
    GeneratorArchitecture,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    Stylegan2Config,
)
from ..stylegan2.legacy import build_discriminator, build_generator
from ..stylegan2.networks import Generator
from .loading import PickledArray, Record, Report, load_record_pickle, load_with_report

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
        raise ValueError(f"{path} holds a network that cannot be read ({why(error)})") from None


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
        raise ValueError(f"{path}: {why(error)}") from None
    config = settings.get("generator") or settings["discriminator"]
    if len({"generator", "discriminator"} & set(settings)) == 2:
        try:
            config = joint_settings(config, settings["discriminator"])
        except ValueError as error:
            raise ValueError(f"{path}: {why(error)}") from None
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


Arguments = Mapping[str, Any]

GENERATORS = ("G_main", "G_style")
SYNTHESIS: dict[str, GeneratorArchitecture] = {
    "G_synthesis_stylegan_revised": "growing",
    "G_synthesis": "stylegan1",
}
DISCRIMINATORS = ("D_stylegan2", "D_stylegan2_quant", "D_stylegan", "D_basic", "D_paper")
GROWING_DISCRIMINATORS: dict[str, DiscriminatorArchitecture] = {
    "D_stylegan": "growing",
    "D_basic": "stylegan1",
    "D_paper": "stylegan1",  # of ProGAN: without the blur
}
BLURS = {"D_basic": (1, 2, 1)}  # where the arguments do not say
# Arguments that change what a network computes, and the value with which it is built here.
ONLY = {
    "fmap_decay": 1.0, "nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu",
    "normalize_latents": True, "use_wscale": True, "use_noise": True, "use_styles": True,
    "use_instance_norm": True, "use_pixel_norm": False, "const_input_layer": True,
    "blur_filter": (1, 2, 1), "fused_scale": "auto", "mapping_func": "G_mapping",
}  # fmt: skip
# What grows is judged by what grows.
JUDGES: dict[GeneratorArchitecture, DiscriminatorArchitecture] = {
    "growing": "growing",
    "stylegan1": "stylegan1",
}
MAKERS: dict[DiscriminatorArchitecture, GeneratorArchitecture] = {
    "growing": "growing",
    "stylegan1": "stylegan1",
}
# The one filter may be left out of a discriminator, and fused or not it computes the same.
FREE_IN_DISCRIMINATORS = ("blur_filter", "fused_scale")
MAX_RESOLUTION = 4096
STYLEGAN1_BASE, STYLEGAN2_BASE = 8 << 10, 16 << 10  # widths where the arguments do not say


def generator_settings(function: str, arguments: Arguments) -> Stylegan2Config:
    """Settings of a generator; its discriminator is one that goes with it.

    Args:
        function: that builds it.
        arguments: of the function.

    Raises:
        ValueError: the function is unknown, or an argument has no counterpart here.
    """
    if function not in GENERATORS:
        raise ValueError(f"{function} builds no generator that is known ({', '.join(GENERATORS)})")
    _check(function, arguments)
    first = function == "G_style"
    synthesis = arguments.get("synthesis_func", "G_synthesis" if first else "G_synthesis_stylegan2")
    if synthesis not in (*SYNTHESIS, "G_synthesis_stylegan2"):
        raise ValueError(f"synthesis_func {synthesis!r} of {function} is not known")
    default = cast(GeneratorArchitecture, arguments.get("architecture", "skip"))
    architecture = SYNTHESIS.get(synthesis, default)
    own = MappingConfig()
    mapping = MappingConfig(
        arguments.get("latent_size", own.latent_dim),
        arguments.get("dlatent_size", own.style_dim),
        arguments.get("mapping_fmaps", own.hidden_dim),
        arguments.get("mapping_layers", own.num_layers),
        arguments.get("mapping_lrmul", own.lr_multiplier),
    )
    width, decay = _width(arguments, first), arguments.get("dlatent_avg_beta", 0.995)
    generator = GeneratorConfig(
        architecture,
        *width,
        _fir(arguments),
        style_mixing=arguments.get("style_mixing_prob", 0.9) or 0.0,
        average_decay=1.0 if decay is None else decay,
    )
    partner: DiscriminatorArchitecture = JUDGES.get(architecture, "resnet")
    discriminator = DiscriminatorConfig(partner, *width, generator.fir)
    return Stylegan2Config(
        *_image(arguments), mapping, generator, discriminator, QuantizerConfig(layers=())
    )


def discriminator_settings(
    function: str, arguments: Arguments, dictionaries: Mapping[int, Arguments]
) -> Stylegan2Config:
    """Settings of a discriminator; its generator is one that goes with it.

    Args:
        function: that builds it.
        arguments: of the function.
        dictionaries: layer -> arguments of its quantizer.

    Raises:
        ValueError: the function is unknown, or an argument has no counterpart here.
    """
    if function not in DISCRIMINATORS:
        known = ", ".join(DISCRIMINATORS)
        raise ValueError(f"{function} builds no discriminator that is known ({known})")
    _check(function, {k: v for k, v in arguments.items() if k not in FREE_IN_DISCRIMINATORS})
    default = cast(DiscriminatorArchitecture, arguments.get("architecture", "resnet"))
    architecture = GROWING_DISCRIMINATORS.get(function, default)
    first = architecture == "stylegan1"
    width = _width(arguments, first)
    discriminator = DiscriminatorConfig(
        architecture,
        *width,
        _blur(function, arguments) if first else _fir(arguments),
        group_size=arguments.get("mbstd_group_size", 4) or 0,
        group_features=arguments.get("mbstd_num_features", 1),
    )
    partner: GeneratorArchitecture = MAKERS.get(architecture, "skip")
    return Stylegan2Config(
        *_image(arguments),
        MappingConfig(),
        GeneratorConfig(partner, *width, _fir(arguments)),
        discriminator,
        _quantizer(dictionaries),
    )


def joint_settings(made: Stylegan2Config, judged: Stylegan2Config) -> Stylegan2Config:
    """The generator of one configuration and the discriminator of another."""
    for name in ("resolution", "num_channels", "label_size"):
        if getattr(made, name) != getattr(judged, name):
            raise ValueError(f"generator and discriminator differ in {name}")
    if (made.generator.architecture in LEGACY) != judged.growing:
        raise ValueError("only one of generator and discriminator grows")
    return replace(made, discriminator=judged.discriminator, quantizer=judged.quantizer)


def _quantizer(dictionaries: Mapping[int, Arguments]) -> QuantizerConfig:
    usual = QuantizerConfig(layers=tuple(sorted(dictionaries)))
    if not dictionaries:
        return usual
    sizes = {layer: words["num_embeddings"] for layer, words in dictionaries.items()}
    size = 0
    if any(size != usual.codes_at(layer) for layer, size in sizes.items()):
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the dictionaries have several sizes: {sizes}")
        size = next(iter(sizes.values()))
    words = next(iter(dictionaries.values()))
    return replace(
        usual,
        codebook_size=size,
        commitment_weight=words.get("commitment_cost", usual.commitment_weight),
        decay=words.get("decay", usual.decay),
    )


def _check(function: str, arguments: Arguments) -> None:
    for name, only in ONLY.items():
        value = arguments.get(name, only)
        if (tuple(value) if isinstance(value, list) else value) != only:
            raise ValueError(
                f"{function} was called with {name}={value!r}; only {name}={only!r} can be built"
            )


def _image(arguments: Arguments) -> tuple[int, int, int]:
    if "resolution" not in arguments:
        raise ValueError("the resolution of a network is not in its arguments")
    resolution = arguments["resolution"]
    if resolution > MAX_RESOLUTION:
        raise ValueError(f"a network for {resolution} pixels is larger than any that was published")
    return resolution, arguments.get("num_channels", 3), arguments.get("label_size", 0)


def _width(arguments: Arguments, first_version: bool) -> tuple[int, int]:
    base = arguments.get("fmap_base", STYLEGAN1_BASE if first_version else STYLEGAN2_BASE)
    return base, arguments.get("fmap_max", 512)


def _blur(function: str, arguments: Arguments) -> tuple[int, ...]:
    taps = tuple(arguments.get("blur_filter", BLURS.get(function, ())) or ())
    if taps not in ((), (1, 2, 1)):
        raise ValueError(f"{function} blurs with {taps}; only (1, 2, 1) or nothing can be built")
    return taps


def _fir(arguments: Arguments) -> tuple[int, ...]:
    return tuple(int(tap) for tap in arguments.get("resample_kernel", (1, 3, 3, 1)) or ())


# Their name of a part of the network -> ours; other parts have the same name in lower case.
PARTS = {
    "G_synthesis": "synthesis",
    "G_mapping": "mapping",
    "LabelConcat": "label_concat",
    "StyleMod": "style_mod",
    "ToRGB": "to_rgb",
    "FromRGB": "from_rgb",
}
# Their name of a variable -> ours; others are the same.
LEAVES = {
    "mod_weight": "modulation.weight",
    "mod_bias": "modulation.bias",
    "dlatent_avg": "style_average",
}
# What their dictionaries have beside the embedding, and which of our buffers holds it.
QUANTIZER = {
    "embedding": "embed",
    "ema_cluster_size/biased": "cluster_size",
    "ema_dw/biased": "embed_avg",
    "ema_cluster_size/local_step": "steps",
}
IGNORED = ("lod", "G_synthesis/lod")  # progress of growing, not a weight


def key_of(name: str) -> str | None:
    """Our key of their variable ``name``; None for what has no place of its own.

    Variables of a generator's parts begin with ``G_mapping/`` or ``G_synthesis/``.
    """
    if name in IGNORED:
        return None
    found = re.fullmatch(r"Discrete_mapping_(\d+)/(?:Discrete_mapping_\w+/)?(.+)", name)
    if found:
        own = QUANTIZER.get(found[2])
        return None if own is None else f"quantizers.{found[1]}.{own}"
    *parts, leaf = name.split("/")
    return ".".join([*map(_our_part, parts), LEAVES.get(leaf, leaf)])


def _our_part(part: str) -> str:
    size = re.fullmatch(r"(\d+)x\1", part)
    if size:
        return f"blocks.{size[1]}"
    base, separator, rest = part.partition("_lod")
    return PARTS.get(base, base[0].lower() + base[1:]) + separator + rest


def name_of(key: str) -> str:
    """Their name of our ``key``: the inverse of `key_of`."""
    found = re.fullmatch(r"quantizers\.(\d+)\.(\w+)", key)
    if found:
        scope = f"Discrete_mapping_{found[1]}"
        theirs = {ours: name for name, ours in QUANTIZER.items()}[found[2]]
        return f"{scope}/{scope}/{theirs}" if "/" in theirs else f"{scope}/{theirs}"
    for theirs, ours in LEAVES.items():
        if key == ours or key.endswith(f".{ours}"):
            key = key.removesuffix(ours) + theirs
    *parts, leaf = re.sub(r"blocks\.(\d+)", r"\1x\1", key).split(".")
    return "/".join([*map(_their_part, parts), leaf])


def _their_part(part: str) -> str:
    base, separator, rest = part.partition("_lod")
    back = {ours: theirs for theirs, ours in PARTS.items()}
    return back.get(base, base[0].upper() + base[1:]) + separator + rest


def permutation(name: str, ndim: int) -> tuple[int, ...] | None:
    """The permutation that turns their ``name``, of ``ndim`` dimensions, into ours."""
    if name.endswith("LabelConcat/weight") or not name.endswith("weight"):
        return None
    return {4: (3, 2, 0, 1), 2: (1, 0)}.get(ndim)


def from_tf(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their variables as a state dict of ours; what has no place of its own is left out."""
    state = {}
    for name, value in variables.items():
        key = key_of(name)
        if key is not None:
            order = permutation(name, value.ndim)
            state[key] = value if order is None else value.permute(order).contiguous()
    return state


def to_tf(state: Mapping[str, Tensor], decay: float = 0.8) -> dict[str, Tensor]:
    """A state dict of ours as their variables, those included that follow from others.

    Args:
        state: of a generator or a discriminator.
        decay: of the dictionaries' averages.
    """
    variables = {}
    for key, value in state.items():
        name = name_of(key)
        order = permutation(name, value.ndim)
        back = None if order is None else tuple(order.index(i) for i in range(value.ndim))
        variables[name] = value if back is None else value.permute(back)
    for key in [key for key in state if key.endswith(".steps")]:
        base, scope = key.removesuffix("steps"), name_of(key).split("/")[0]
        weight = (1.0 - decay ** state[key]).clamp(min=torch.finfo(torch.float32).tiny)
        variables[f"{scope}/ema_cluster_size"] = state[f"{base}cluster_size"] / weight
        variables[f"{scope}/ema_dw"] = state[f"{base}embed_avg"] / weight
        variables[f"{scope}/{scope}/ema_dw/local_step"] = state[key]
    if "style_average" in state:
        variables["lod"] = torch.zeros(())
    return variables
