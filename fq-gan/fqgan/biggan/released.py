"""Sets of ``.pth`` files as BigGAN-PyTorch and FQ-BigGAN save them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conversion import Report, State, load_with_report
from ..quantizer import FeatureQuantizer
from ..safe_load import InertModule, load_torch_file
from .build import build_discriminator, build_generator
from .config import BigganConfig, StepConfig
from .discriminator import ProjectionDiscriminator
from .flags import config_from_flags, step_config_from_flags
from .layers import stages
from .step import GanStep

QUANTIZER_BUFFERS = ("embed", "cluster_size", "embed_avg")


@dataclass(frozen=True)
class ReleasedSet:
    """One set of files: states under our names, nothing built yet."""

    folder: Path
    config: BigganConfig
    step_config: StepConfig
    flags: dict[str, Any]  # the authors' configuration, without live modules
    progress: dict[str, Any]  # itr, epoch, best_IS, best_FID, ...
    generator: State | None
    average: State | None
    discriminator: State | None
    generator_optimizer: dict[str, Any] | None
    discriminator_optimizer: dict[str, Any] | None


def read_released_set(
    folder: str | Path, suffix: str = "", *, flags: Mapping[str, Any] | None = None
) -> ReleasedSet:
    """Read ``G.pth, G_ema.pth, D.pth, G_optim.pth, D_optim.pth, state_dict.pth`` of a folder.

    Args:
        folder: ``weights/EXPERIMENT`` of the authors' code.
        suffix: ``copy0``, ``best0``, ...; none for the plain names.
        flags: the authors' flags, where ``state_dict.pth`` is absent or lacks some.

    Raises:
        FileNotFoundError: there is neither a generator nor a discriminator.
        ValueError: a file that cannot be read safely, or settings that have no counterpart.
    """
    folder = Path(folder)
    ending = f"_{suffix}" if suffix else ""
    paths = {
        name: folder / f"{name}{ending}.pth"
        for name in ("G", "G_ema", "D", "G_optim", "D_optim", "state_dict")
    }
    files = {name: load_torch_file(path) for name, path in paths.items() if path.is_file()}
    if not {"G", "G_ema", "D"} & set(files):
        raise FileNotFoundError(
            f"{folder} has none of {', '.join(paths[name].name for name in ('G', 'G_ema', 'D'))}; "
            "give the folder of one experiment, and --suffix for a copy such as best0"
        )
    progress = dict(files.get("state_dict", {}))
    saved = progress.pop("config", {})
    known = {name: value for name, value in saved.items() if not isinstance(value, InertModule)}
    known.update(flags or {})
    if not known:
        raise ValueError(
            f"{paths['state_dict']} is missing, which has the settings of these networks; "
            "put it beside the weights"
        )
    known.setdefault("model", "BigGAN")
    states = {
        name: _plain_names(files[name]) if name in files else None for name in ("G", "G_ema", "D")
    }
    return ReleasedSet(
        folder, config_from_flags(known), step_config_from_flags(known), known, progress,
        states["G"], states["G_ema"], states["D"], files.get("G_optim"), files.get("D_optim"),
    )  # fmt: skip


def build_released(released: ReleasedSet) -> tuple[dict[str, nn.Module], list[Report]]:
    """The networks that the set has, by ``generator``, ``average``, ``discriminator``."""
    networks: dict[str, nn.Module] = {}
    reports = []
    for name in ("generator", "average", "discriminator"):
        state = getattr(released, name)
        if state is None:
            continue
        build = build_discriminator if name == "discriminator" else build_generator
        networks[name] = build(released.config)
        reports.append(load_with_report(networks[name], state, name))
    return networks, reports


def restore(released: ReleasedSet, step: GanStep) -> list[Report]:
    """Continue the authors' training: networks, average and both optimizers into ``step``."""
    parts = {
        "generator": step.generator,
        "discriminator": step.discriminator,
        "average": step.average.module,
    }
    reports = [
        load_with_report(network, getattr(released, name), name)
        for name, network in parts.items()
        if getattr(released, name) is not None
    ]
    for name in ("generator_optimizer", "discriminator_optimizer"):
        state = getattr(released, name)
        if state is not None:
            load_adam(getattr(step, name), state, name)
    return reports


def load_adam(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], name: str) -> None:
    """Load the moments of an Adam that any PyTorch since 0.4 saved, in parameter order.

    Learning rate and betas stay those of ``optimizer``.
    """
    order = [key for group in saved["param_groups"] for key in group["params"]]
    ours = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if len(order) != len(parameters):
        raise ValueError(
            f"{name}: the file has moments for {len(order)} parameters, the network has "
            f"{len(parameters)}; the files do not belong together"
        )
    ours["state"] = {}
    for number, (key, parameter) in enumerate(zip(order, parameters, strict=True)):
        if key not in saved["state"]:
            continue
        moments = saved["state"][key]
        if moments["exp_avg"].shape != parameter.shape:
            raise ValueError(
                f"{name}: parameter {number} has shape {list(parameter.shape)}, its moments "
                f"{list(moments['exp_avg'].shape)}; the files do not belong together"
            )
        ours["state"][number] = {
            "step": torch.as_tensor(float(moments["step"])),  # a plain int in old files
            "exp_avg": moments["exp_avg"],
            "exp_avg_sq": moments["exp_avg_sq"],
        }
    optimizer.load_state_dict(ours)


def with_fresh_quantizers(state: State, discriminator: ProjectionDiscriminator) -> State:
    """The state of a plain BigGAN discriminator, made to fit one with quantizers.

    In a stage with both, attention stands after the quantizer, so its number is one higher; the
    dictionaries are those of ``discriminator``.
    """
    state = dict(state)
    for number, stage in enumerate(stages(discriminator.blocks)):
        place = next((i for i, m in enumerate(stage) if isinstance(m, FeatureQuantizer)), None)
        if place is None or f"blocks.{number}.{place}.embed" in state:
            continue
        start = f"blocks.{number}."
        for key in [key for key in state if key.startswith(start)]:
            index, _, rest = key[len(start) :].partition(".")
            if int(index) >= place:
                state[f"{start}{int(index) + 1}.{rest}"] = state.pop(key)
        for name in QUANTIZER_BUFFERS:
            state[f"{start}{place}.{name}"] = getattr(stage[place], name)
    return state


def _plain_names(state: Mapping[str, Tensor]) -> State:
    """Without DataParallel's prefix, and synchronized norms under the names of the others."""
    names = list(state)
    if names and all(name.startswith("module.") for name in names):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    plain = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        plain[re.sub(r"\.bn\.running_(mean|var)$", r".stored_\1", name)] = value
    return plain
