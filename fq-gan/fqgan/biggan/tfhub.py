"""DeepMind's BigGAN generators on TensorFlow Hub (128, 256, 512 pixels) in our names.

Variables come from the module's own checkpoint, or from a dump of it as ``.npz`` or ``.h5``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from ..tensor_bundle import read_tensor_bundle
from .config import BigganConfig, GeneratorConfig
from .generator import WIDTHS

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
    if path.suffix == ".npz" and path.is_file():
        with np.load(path) as archive:  # allow_pickle stays False
            arrays = {name: archive[name] for name in archive.files}
    elif path.suffix in (".h5", ".hdf5") and path.is_file():
        arrays = {}
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: (
                    arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
                )
            )
    else:
        inside = path / "variables" / "variables"
        arrays = read_tensor_bundle(inside if inside.with_suffix(".index").exists() else path)
    return {
        name.removeprefix("module/").removesuffix(":0"): array for name, array in arrays.items()
    }


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
