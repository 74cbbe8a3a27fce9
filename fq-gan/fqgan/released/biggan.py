"""BigGAN of others: flags and .pth files of BigGAN-PyTorch and FQ-BigGAN, TF Hub variables."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from ..biggan.config import (
    BigganConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    Init,
    Norm,
    QuantizerConfig,
    StepConfig,
)
from ..biggan.networks import WIDTHS, build_discriminator, build_generator
from ..biggan.step import GanStep
from ..runtime.files import why
from .loading import InertModule, Report, State, load_torch_file, load_with_report
from .tensor_bundle import read_tensor_bundle

INITS: dict[str, Init] = {"ortho": "ortho", "N02": "N02", "glorot": "glorot", "xavier": "glorot"}
NORMS: dict[str, Norm] = {"bn": "bn", "in": "in", "gn": "gn", "nonorm": "none"}


def config_from_flags(flags: Mapping[str, Any]) -> BigganConfig:
    """Networks as the authors' flags describe them; absent flags have the authors' defaults.

    ``resolution`` and ``n_classes``, which the authors derive from ``dataset``, are taken from
    there where they are absent. ``discrete_layer`` absent or empty means no quantization.

    Raises:
        ValueError: a value that has no counterpart here.
    """
    resolution, classes = _shape_of_data(flags)
    latent_dim = flags.get("dim_z", 128)
    shared = flags.get("G_shared", False)
    model = flags.get("model", "BigGANdeep" if "G_depth" in flags else "BigGAN")
    return BigganConfig(
        resolution=resolution,
        num_classes=classes,
        architecture="biggan-deep" if model == "BigGANdeep" else "biggan",
        init=_choice("G_init", flags.get("G_init", "ortho"), INITS),
        bn_eps=flags.get("BN_eps", 1e-5),
        sn_eps=flags.get("SN_eps", 1e-8),
        generator=GeneratorConfig(
            channels=flags.get("G_ch", 64),
            latent_dim=latent_dim,
            hierarchical=flags.get("hier", False),
            shared_dim=(flags.get("shared_dim", 0) or latent_dim) if shared else 0,
            attention=_resolutions(flags.get("G_attn", "64")),
            norm=_norm(flags),
            spectral_norm=flags.get("G_param", "SN") == "SN",
            singular_vectors=flags.get("num_G_SVs", 1),
            power_iterations=flags.get("num_G_SV_itrs", 1),
            depth=flags.get("G_depth", 1),
        ),
        discriminator=DiscriminatorConfig(
            channels=flags.get("D_ch", 64),
            wide=flags.get("D_wide", True),
            attention=_resolutions(flags.get("D_attn", "64")),
            singular_vectors=flags.get("num_D_SVs", 1),
            power_iterations=flags.get("num_D_SV_itrs", 1),
            depth=flags.get("D_depth", 1),
        ),
        quantizer=QuantizerConfig(
            layers=tuple(dict.fromkeys(int(digit) for digit in flags.get("discrete_layer", ""))),
            codebook_size=2 ** flags.get("dict_size", 10),
            commitment_weight=flags.get("commitment", 0.5),
            decay=flags.get("dict_decay", 0.8),
        ),
    )


def step_config_from_flags(flags: Mapping[str, Any]) -> StepConfig:
    """Settings of an iteration from the authors' flags; absent ones have their defaults."""
    return StepConfig(
        batch_size=flags.get("batch_size", 64),
        generator_batch_size=flags.get("G_batch_size", 0),
        num_d_steps=flags.get("num_D_steps", 2),
        num_d_accumulations=flags.get("num_D_accumulations", 1),
        num_g_accumulations=flags.get("num_G_accumulations", 1),
        generator_lr=flags.get("G_lr", 5e-5),
        discriminator_lr=flags.get("D_lr", 2e-4),
        generator_betas=(flags.get("G_B1", 0.0), flags.get("G_B2", 0.999)),
        discriminator_betas=(flags.get("D_B1", 0.0), flags.get("D_B2", 0.999)),
        adam_eps=flags.get("adam_eps", 1e-8),
        split_d=flags.get("split_D", False),
        generator_ortho=flags.get("G_ortho", 0.0),
        discriminator_ortho=flags.get("D_ortho", 0.0),
        ema_decay=flags.get("ema_decay", 0.9999),
        ema_start=flags.get("ema_start", 0),
    )


def _shape_of_data(flags: Mapping[str, Any]) -> tuple[int, int]:
    """Resolution and number of classes, given or from names such as C10, C100 and I64ext_hdf5."""
    name = str(flags.get("dataset", ""))
    match = re.fullmatch(r"(C|I)(\d+)(ext)?(_hdf5)?", name)
    resolution, classes = flags.get("resolution"), flags.get("n_classes")
    if match:
        number = int(match[2])
        resolution = resolution or (32 if match[1] == "C" else number)
        ext = 10 if number == 128 else 20
        classes = classes or (number if match[1] == "C" else ext if match[3] else 1000)
    if resolution is None or classes is None:
        raise ValueError(
            f"the flags name the data set {name!r}, whose resolution and number of classes are "
            "unknown; give resolution and n_classes"
        )
    return int(resolution), int(classes)


def _resolutions(text: str) -> tuple[int, ...]:
    """``64_32`` -> (64, 32); ``0`` -> ()."""
    return tuple(int(part) for part in str(text).split("_") if part and int(part) > 0)


def _norm(flags: Mapping[str, Any]) -> Norm:
    if flags.get("cross_replica", False):
        return "sync-bn"
    if flags.get("mybn", False):
        return "mybn"
    style = str(flags.get("norm_style", "bn"))
    return _choice("norm_style", style.split("_")[0], NORMS)


def _choice(flag: str, value: str, choices: Mapping[str, Any]) -> Any:
    if value not in choices:
        raise ValueError(f"flag {flag} is {value!r}; known are {', '.join(choices)}")
    return choices[value]


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
        has = "has none of" if folder.is_dir() else "is not a folder with"
        raise FileNotFoundError(
            f"{folder} {has} {', '.join(paths[name].name for name in ('G', 'G_ema', 'D'))}; "
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


AVERAGED = "ema_b999900"  # the moving average, which is what the modules sample from
SHARED_DIM = 128
LATENT_DIMS = {128: 120, 256: 140, 512: 128}
ATTENTION = {128: 64, 256: 128, 512: 64}  # pixels
Arrays = Mapping[str, np.ndarray]


def tfhub_config(resolution: int) -> BigganConfig:
    """Settings of the published modules."""
    if resolution not in LATENT_DIMS:
        raise ValueError(f"--resolution {resolution}: TF Hub has BigGAN at 128, 256 and 512")
    return BigganConfig(
        resolution=resolution,
        num_classes=1000,
        bn_eps=1e-4,
        sn_eps=1e-4,
        generator=GeneratorConfig(
            channels=96, latent_dim=LATENT_DIMS[resolution], hierarchical=True,
            shared_dim=SHARED_DIM, attention=(ATTENTION[resolution],),
        ),
    )  # fmt: skip


def read_tfhub_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Variables by name, without the ``module/`` scope and ``:0``.

    Args:
        path: an unpacked module, a checkpoint prefix, or a dump as ``.npz`` or ``.h5``.
    """
    path = Path(path)
    if path.suffix in (".npz", ".h5", ".hdf5") and path.is_file():
        try:
            arrays = _read_dump(path)
        except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} is no whole dump of variables ({why(error)}); write or fetch it again"
            ) from error
    else:
        inside = path / "variables" / "variables"
        arrays = read_tensor_bundle(inside if inside.with_suffix(".index").exists() else path)
    return {
        name.removeprefix("module/").removesuffix(":0"): array for name, array in arrays.items()
    }


def _read_dump(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return arrays


def state_from_tfhub(arrays: Arrays, config: BigganConfig) -> tuple[dict[str, Tensor], list[str]]:
    """The generator's state, and the entries that TensorFlow has not (singular values, for logs).

    Raises:
        ValueError: a variable is absent; the message names it.
    """
    own = config.generator
    blocks = len(WIDTHS[config.resolution]) - 1
    chunk = own.latent_dim // (blocks + 1)
    reader = _Reader(arrays, chunk, own.shared_dim)
    table = reader.averaged("linear/w")
    reader.state["shared.weight"] = table if len(table) == config.num_classes else table.t()
    reader.first_linear("Generator/G_Z/G_linear", "linear", 4)
    attention_block = {2 ** (i + 3): i for i in range(blocks)}.get(next(iter(own.attention), 0))
    for number in range(blocks):
        source = "Generator/GBlock" + (f"_{number}" if number else "")
        target = f"blocks.{number}.0"
        for theirs, ours in (("conv0", "conv1"), ("conv1", "conv2"), ("conv_sc", "conv_sc")):
            reader.conv(f"{source}/{theirs}", f"{target}.{ours}", bias=True)
        for theirs, ours in (("", "bn1"), ("_1", "bn2")):
            reader.moments(f"{source}/CrossReplicaBN{theirs}", f"{target}.{ours}")
            reader.conditional(f"{source}/HyperBN{theirs}", f"{target}.{ours}")
        if number == attention_block:
            for theirs, ours in (("theta", "theta"), ("phi", "phi"), ("g", "g"), ("o_conv", "o")):
                reader.conv(
                    f"Generator/attention/{theirs}", f"blocks.{number}.1.{ours}", bias=False
                )
            gamma = reader.averaged("Generator/attention/gamma")
            reader.state[f"blocks.{number}.1.gamma"] = gamma.reshape(())
    last = "Generator/ScaledCrossReplicaBN"
    reader.state["output_layer.0.gain"] = reader.averaged(f"{last}/gamma").flatten()
    reader.state["output_layer.0.bias"] = reader.averaged(f"{last}/beta").flatten()
    reader.moments(f"{last}bn", "output_layer.0")
    reader.conv("Generator/conv_2d", "output_layer.2", bias=True)
    filled = [f"{name.removesuffix('u0')}sv0" for name in reader.state if name.endswith(".u0")]
    reader.state.update({name: torch.ones(1) for name in filled})
    return reader.state, filled


class _Reader:
    """Collects converted tensors; knows TensorFlow's layouts."""

    def __init__(self, arrays: Arrays, chunk: int, shared_dim: int) -> None:
        self.arrays, self.chunk, self.shared_dim = arrays, chunk, shared_dim
        self.state: dict[str, Tensor] = {}
        self.used: set[str] = set()

    def array(self, *names: str) -> Tensor:
        for name in names:
            if name in self.arrays:
                self.used.add(name)
                return torch.from_numpy(np.array(self.arrays[name], dtype=np.float32))
        raise ValueError(
            f"the file has no variable {names[0]!r}; it has {len(self.arrays)}, such as "
            f"{next(iter(self.arrays), 'none')!r}: is it the checkpoint of a BigGAN module, and is "
            "--resolution right?"
        )

    def averaged(self, name: str) -> Tensor:
        return self.array(f"{name}/{AVERAGED}", name)

    def conv(self, source: str, target: str, *, bias: bool) -> None:
        self.state[f"{target}.weight"] = self.averaged(f"{source}/w").permute(3, 2, 0, 1)  # HWIO
        if bias:
            self.state[f"{target}.bias"] = self.averaged(f"{source}/b")
        self.state[f"{target}.u0"] = self.array(f"{source}/u0").reshape(1, -1)

    def conditional(self, source: str, target: str) -> None:
        """Gain and bias of a norm layer; TensorFlow has the z chunk in front of the class."""
        for theirs, ours in (("gamma", "gain"), ("beta", "bias")):
            weight = self.averaged(f"{source}/{theirs}/w").t()
            z, shared = weight.split([self.chunk, self.shared_dim], dim=1)
            self.state[f"{target}.{ours}.weight"] = torch.cat([shared, z], dim=1)
            self.state[f"{target}.{ours}.u0"] = self.array(f"{source}/{theirs}/u0").reshape(1, -1)

    def moments(self, source: str, target: str) -> None:
        """Standing statistics, stored as sums and their number."""
        count = self.array(f"{source}/accumulation_counter").clamp(min=1.0)
        for theirs, ours in (("mean", "stored_mean"), ("var", "stored_var")):
            value = self.array(f"{source}/accumulated_{theirs}")
            self.state[f"{target}.{ours}"] = (value / count).flatten()

    def first_linear(self, source: str, target: str, side: int) -> None:
        """TensorFlow's outputs are (side, side, C), ours (C, side, side)."""
        weight = self.averaged(f"{source}/w").t()  # (outputs, chunk)
        parts = {"weight": weight, "bias": self.averaged(f"{source}/b").unsqueeze(1)}
        parts["u0"] = self.array(f"{source}/u0").reshape(-1, 1)
        for name, value in parts.items():
            ordered = value.unflatten(0, (side, side, -1)).permute(2, 0, 1, 3).flatten(0, 2)
            if name == "bias":
                ordered = ordered.flatten()
            elif name == "u0":
                ordered = ordered.t()
            self.state[f"{target}.{name}"] = ordered
