"""Small networks, batches and recorded arrays for the tests."""

from __future__ import annotations

import json
import multiprocessing
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fqgan.biggan.config import (
    BigganConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
)
from fqgan.data.tfrecords import bytes_field, masked_crc, number_field, write_varint


class Recorded:
    """Arrays of one recorded file as tensors on a device, halves widened to fp32."""

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self.arrays, self.device = np.load(path), torch.device(device)
        self.names = list(self.arrays.files)

    def __getitem__(self, name: str) -> Tensor:
        tensor = torch.from_numpy(np.array(self.arrays[name])).to(self.device)
        return tensor.float() if tensor.is_floating_point() else tensor

    def json(self, name: str) -> Any:
        return json.loads(str(self.arrays[name]))

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Everything under ``prefix/``, without it."""
        start = f"{prefix}/"
        return {name[len(start) :]: self[name] for name in self.names if name.startswith(start)}


def allowed(exact: float, device: torch.device, *, gradient: bool = False) -> float:
    """``exact``; on a GPU, whose sums have another order, at least 1e-4, of gradients 1e-3."""
    return exact if device.type == "cpu" else max(exact, 1e-3 if gradient else 1e-4)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the largest absolute value of ``theirs``."""
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12))


def tiny_config(**changes: Any) -> BigganConfig:
    """32-pixel networks of the smallest width, quantized in two blocks."""
    options: dict[str, Any] = {
        "num_classes": 3,
        "init": "N02",
        "generator": GeneratorConfig(channels=4, latent_dim=8),
        "discriminator": DiscriminatorConfig(channels=4),
        "quantizer": QuantizerConfig(layers=(0, 2), codebook_size=8),
    }
    return BigganConfig(**{**options, **changes})


def tiny_step(**changes: Any) -> StepConfig:
    options: dict[str, Any] = {"batch_size": 2, "num_d_steps": 2, "generator_lr": 2e-4}
    return StepConfig(**{**options, **changes})


def real_batch(config: BigganConfig, number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images (number, 3, R, R) in [-1, 1] and labels (number,)."""
    random = torch.Generator().manual_seed(seed)
    side = config.resolution
    images = torch.rand(number, 3, side, side, generator=random) * 2 - 1
    return images, torch.randint(config.num_classes, (number,), generator=random)


def run_ranks(function: Callable[[int, str], None], store: str, size: int = 2) -> None:
    """Call ``function(rank, store)`` in ``size`` forked processes that form a gloo group."""
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_one_rank, args=(function, rank, store, size))
        for rank in range(size)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    codes = [worker.exitcode for worker in workers]
    for worker in workers:
        worker.kill()
    assert codes == [0] * size


def _one_rank(function: Callable[[int, str], None], rank: int, store: str, size: int) -> None:
    torch.set_num_threads(1)
    group = {"init_method": f"file://{store}", "rank": rank, "world_size": size}
    torch.distributed.init_process_group("gloo", **group)
    function(rank, store)
    torch.distributed.destroy_process_group()


def write_tensor_bundle(prefix: Path, tensors: dict[str, np.ndarray]) -> None:
    """A TensorFlow checkpoint of one data file and one block, as TensorFlow lays it out."""
    data, entries = b"", {b"": b"\x08\x01"}  # header: one shard
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        raw = array.tobytes()
        dims = b"".join(bytes_field(2, number_field(1, size)) for size in array.shape)
        entries[name.encode()] = (
            number_field(1, {"float32": 1, "int64": 9, "int32": 3}[str(array.dtype)])
            + bytes_field(2, dims)
            + number_field(4, len(data))
            + number_field(5, len(raw))
            + b"\x35"
            + struct.pack("<I", masked_crc(raw))
        )
        data += raw
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    block = b"".join(
        write_varint(0) + write_varint(len(key)) + write_varint(len(value)) + key + value
        for key, value in entries.items()
    )
    table, handle = b"", b""
    for content in (block, None):
        start = len(table)
        if content is None:  # the index block points at the block of the tensors
            content = (
                write_varint(0) + write_varint(1) + write_varint(len(handle)) + b"\xff" + handle
            )
        content += struct.pack("<II", 0, 1)
        sealed = content + b"\x00"
        table += sealed + struct.pack("<I", masked_crc(sealed))
        handle = write_varint(start) + write_varint(len(content))
    footer = write_varint(0) + write_varint(0) + handle
    footer = footer.ljust(40, b"\x00") + struct.pack("<Q", 0xDB4775248B80FB57)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table + footer)


def tfhub_arrays(generator: Any, count: float) -> dict[str, np.ndarray]:
    """Variables of TF Hub's BigGAN from ours, statistics as sums over ``count`` batches.

    Written from TensorFlow's side: loops over its names and layouts.
    """
    arrays: dict[str, Tensor] = {"linear/w/ema_b999900": generator.shared.weight}
    first, chunk = generator.linear, generator.chunk
    hwc = [first.weight, first.bias[:, None], first.u0.t()]
    weight, bias, u0 = (t.view(-1, 16, t.shape[1]).transpose(0, 1).flatten(0, 1) for t in hwc)
    arrays["Generator/G_Z/G_linear/w/ema_b999900"] = weight.t()
    arrays["Generator/G_Z/G_linear/b/ema_b999900"] = bias[:, 0]
    arrays["Generator/G_Z/G_linear/u0"] = u0.t()

    def add_conv(name: str, conv: Any) -> None:
        arrays[f"{name}/w/ema_b999900"] = conv.weight.permute(2, 3, 1, 0)
        arrays[f"{name}/u0"] = conv.u0
        if conv.bias is not None:
            arrays[f"{name}/b/ema_b999900"] = conv.bias

    def add_moments(name: str, norm: Any) -> None:
        arrays[f"{name}/accumulated_mean"] = norm.stored_mean * count
        arrays[f"{name}/accumulated_var"] = norm.stored_var * count
        arrays[f"{name}/accumulation_counter"] = torch.tensor(count)

    for number, (block, *attention) in enumerate(generator.blocks):
        scope = "Generator/GBlock" + (f"_{number}" if number else "")
        for name, conv in zip(
            ("conv0", "conv1", "conv_sc"), (block.conv1, block.conv2, block.conv_sc), strict=True
        ):
            add_conv(f"{scope}/{name}", conv)
        for suffix, norm in (("", block.bn1), ("_1", block.bn2)):
            add_moments(f"{scope}/CrossReplicaBN{suffix}", norm)
            for name, linear in (("gamma", norm.gain), ("beta", norm.bias)):
                shared, z = linear.weight[:, :-chunk], linear.weight[:, -chunk:]
                weight = torch.cat([z, shared], dim=1).t()
                arrays[f"{scope}/HyperBN{suffix}/{name}/w/ema_b999900"] = weight
                arrays[f"{scope}/HyperBN{suffix}/{name}/u0"] = linear.u0
        for part in attention:
            for name in ("theta", "phi", "g"):
                add_conv(f"Generator/attention/{name}", getattr(part, name))
            add_conv("Generator/attention/o_conv", part.o)
            arrays["Generator/attention/gamma/ema_b999900"] = part.gamma
    norm, _, conv = generator.output_layer
    arrays["Generator/ScaledCrossReplicaBN/gamma/ema_b999900"] = norm.gain
    arrays["Generator/ScaledCrossReplicaBN/beta/ema_b999900"] = norm.bias
    add_moments("Generator/ScaledCrossReplicaBNbn", norm)
    add_conv("Generator/conv_2d", conv)
    return {name: value.detach().numpy() for name, value in arrays.items()}
