"""What `make gpu` checks of FQ-GAN: its commands, its numbers, its speed on a device.

    python gpu/check.py [--device cpu]

On a CPU the same code runs at the smallest sizes.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parent / "benchmarks")]

from plain_ugatit import PlainStep, build_plain_networks
from verdict import (
    NotHere,
    Verdict,
    apart,
    command,
    main as judge,
    milliseconds,
    peak_gib,
    synchronisations,
    tests_for_devices,
    wait,
)

from fqgan.__main__ import main
from fqgan.biggan.config import PRESETS as BIGGAN, share_step
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.biggan.step import GanStep
from fqgan.biggan.train import TASK as BIGGAN_TASK
from fqgan.loop import Task
from fqgan.metrics.features import FIDInception
from fqgan.metrics.networks import InceptionV3
from fqgan.metrics.statistics import collect, compare
from fqgan.quantizer import FeatureQuantizer
from fqgan.runtime import compilation
from fqgan.runtime.distributed import World
from fqgan.runtime.precision import MixedPrecision, ieee_fp32, set_numerics
from fqgan.runtime.run_folder import RunFolder
from fqgan.stylegan2.config import PRESETS as STYLEGAN2
from fqgan.stylegan2.legacy import (
    build_discriminator as build_style_discriminator,
    build_generator as build_style_generator,
)
from fqgan.stylegan2.step import GanStep as StyleStep
from fqgan.stylegan2.train import TASK as STYLEGAN2_TASK
from fqgan.ugatit.config import PRESETS as UGATIT
from fqgan.ugatit.networks import build_networks
from fqgan.ugatit.step import UgatitStep
from fqgan.ugatit.train import TASK as UGATIT_TASK

FAMILIES = {
    "smoke": (BIGGAN_TASK, BIGGAN["smoke"][1]),
    "ugatit-smoke": (UGATIT_TASK, UGATIT["ugatit-smoke"][1]),
    "stylegan2-smoke": (STYLEGAN2_TASK, STYLEGAN2["stylegan2-smoke"][1]),
}
MORE = {  # what continues a smoke run
    "smoke": "--max-steps 6",
    "ugatit-smoke": "--max-steps 6",
    "stylegan2-smoke": "--schedule.total-kimg 0.048",
}


def smoke(verdict: Verdict, preset: str, precision: str, added: str = "") -> str:
    """Train a smoke preset, continue it, evaluate it."""
    folder, device = verdict.work / f"{preset}_{precision}{added.strip()}", verdict.device.type
    given = f"train {preset} --precision {precision} --device {device} --run-dir {folder}{added}"
    command(main, given)
    command(main, f"{given} {MORE[preset]}")
    command(main, f"evaluate --run-dir {folder} --device {device}")
    return "runs, continues, is evaluated"


def compiled(verdict: Verdict, preset: str) -> str:
    """`smoke` with --compile; on a CPU without Inductor, which would take minutes."""
    compilation.BACKEND = "inductor" if verdict.on_cuda else "eager"
    return smoke(verdict, preset, "bf16" if verdict.on_cuda else "fp32", " --compile")


def repeated(verdict: Verdict, preset: str) -> float:
    """Largest difference of the weights of two runs with --deterministic."""
    ends = []
    for number in range(2):
        folder = verdict.work / f"deterministic_{preset}_{number}"
        device = f"--device {verdict.device.type}"
        command(main, f"train {preset} --deterministic {device} --run-dir {folder}")
        last = max((folder / "checkpoints").glob("[0-9]*"))
        parts = [torch.load(path, weights_only=True) for path in sorted(last.glob("gen*.pt"))]
        parts = parts or [torch.load(last / "networks.pt", weights_only=True)]
        ends.append([v for part in parts for v in part.values() if isinstance(v, Tensor)])
    torch.use_deterministic_algorithms(False)
    set_numerics()
    return apart(*ends)


def codes_apart(device: torch.device) -> int:
    """Positions whose nearest code is not the CPU's."""
    torch.manual_seed(0)
    layer, features = FeatureQuantizer(16, 64), torch.randn(8, 16, 8, 8)
    ours = copy.deepcopy(layer).to(device)(features.to(device)).code_index.cpu()
    return int((ours != layer(features).code_index).sum())


@ieee_fp32()
def as_on_the_cpu(device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """D's scores and gradients on the CPU and on the device, in IEEE fp32."""
    config = BIGGAN["smoke"][1].networks(4)
    torch.manual_seed(0)
    network, images = (
        build_discriminator(config),
        torch.randn(6, 3, config.resolution, config.resolution),
    )
    found = []
    for place in (torch.device("cpu"), device):
        one = copy.deepcopy(network).to(place)
        judged = one(images.to(place), torch.zeros(6, dtype=torch.long, device=place))
        (judged.logits.sum() + judged.quantization_loss.sum()).backward()
        found.append(
            [judged.logits.detach(), *(p.grad for p in one.parameters() if p.grad is not None)]
        )
    return found[0], found[1]


@contextmanager
def opened(verdict: Verdict, task: Task, config: Any) -> Iterator[Any]:
    """A run that is ready for its first step."""
    folder = verdict.work / f"opened_{task.kind}"
    config = replace(config, run_dir=str(folder), device=verdict.device.type)
    with RunFolder(folder, task.kind, config) as place:
        yield task.open(config, World(0, 1, verdict.device), place)


def waits(verdict: Verdict, task: Task, config: Any) -> str:
    with opened(verdict, task, config) as run:
        return synchronisations(run.step, verdict.device)


def biggan_step(config: Any, device: torch.device, classes: int) -> Callable[[], Any]:
    """An iteration of a preset on random images."""
    torch.manual_seed(0)
    networks = config.networks(classes)
    layout = {"memory_format": torch.channels_last}
    generator = build_generator(networks).to(device, **layout)
    discriminator = build_discriminator(networks).to(device, **layout)
    options = share_step(config.step, 1)
    step = GanStep(generator, discriminator, options, precision=MixedPrecision("auto", device))
    side, count = config.data.resolution, options.images_per_step
    images = (torch.rand(count, 3, side, side, device=device) * 2 - 1).contiguous(**layout)
    labels = torch.randint(classes, (count,), device=device)
    return lambda: step(images, labels, 1)


def ugatit_step(config: Any, device: torch.device) -> Callable[[], Any]:
    torch.manual_seed(0)
    networks = build_networks(config.networks()).to(device)
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    amp = MixedPrecision("auto", device)
    step = UgatitStep(networks, config.step, config.schedule, precision=amp)
    shape = (config.step.batch_size, 3, config.data.resolution, config.data.resolution)
    a, b = (torch.rand(shape, device=device) * 2 - 1 for _ in range(2))
    return lambda: step(a, b, 1)


def memory_share(config: Any, device: torch.device) -> float:
    """What an iteration of U-GAT-IT allocates at most, in percent of the plain way's."""
    shape = (config.step.batch_size, 3, config.data.resolution, config.data.resolution)

    def plain() -> float:
        torch.manual_seed(0)
        step = PlainStep(build_plain_networks(config.networks()).to(device), config.step)
        a, b = (torch.rand(shape, device=device) * 2 - 1 for _ in range(2))
        return peak_gib(lambda: step(a, b), device)

    return 100 * peak_gib(ugatit_step(config, device), device) / plain()


def quantizer_share(config: Any, device: torch.device, classes: int, counts: Any) -> float:
    """What the quantizers add to an update of D, in percent of one without."""
    times = []
    for layers in ((), config.quantizer.layers):
        torch.manual_seed(0)
        one = replace(config, quantizer=replace(config.quantizer, layers=layers))
        network = build_discriminator(one.networks(classes)).to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        amp, side = MixedPrecision("auto", device), config.data.resolution
        images = torch.rand(config.step.batch_size, 3, side, side, device=device) * 2 - 1
        inputs = images, torch.zeros(len(images), dtype=torch.long, device=device)

        def update(network: Any = network, amp: Any = amp, inputs: Any = inputs) -> None:
            with amp.autocast():
                judged = network(*inputs)
                loss = judged.logits.mean() + judged.quantization_loss.mean()
            loss.backward()

        times.append(milliseconds(update, device, **counts))
    return 100 * (times[1] / times[0] - 1)


def style_seconds(config: Any, device: torch.device, batch: int, rounds: int) -> float:
    """Seconds of StyleGAN2 for 1,000 images, lazy regularizations in their share."""
    torch.manual_seed(0)
    networks, layout = config.networks(0), {"memory_format": torch.channels_last}
    generator = build_style_generator(networks).to(device, **layout)
    discriminator = build_style_discriminator(networks).to(device, **layout)
    options = replace(config.step, batch_size=batch)
    step = StyleStep(generator, discriminator, options, precision=MixedPrecision("auto", device))
    shape = (batch, 3, config.data.resolution, config.data.resolution)
    images = (torch.rand(shape, device=device) * 2 - 1).contiguous(**layout)
    g = (generator, step.generator_optimizer)
    d = (discriminator, step.discriminator_optimizer)

    def run(learner: Any, loss: Callable[[], Any]) -> None:
        for network in (generator, discriminator):
            network.requires_grad_(network is learner[0])
        step._update(*learner, iter([loss()]))

    parts: list[tuple[float, Any, Callable[[], Any]]] = [
        (1.0, g, lambda: step._generator_loss(0.0)),
        (1 / 4, g, lambda: step._path_length_loss(0.0, 4)),
        (1.0, d, lambda: step._discriminator_loss(images, None, 0.0)),
        (1 / 16, d, lambda: step._gradient_penalties(images, None, 0.0, 16)),
    ]
    total = 0.0
    for share, learner, loss in parts:
        ms = milliseconds(lambda w=learner, f=loss: run(w, f), device, steps=rounds, warm=1)
        total += share * ms
    return total / batch  # ms an image are seconds for 1,000


def speed(verdict: Verdict) -> None:
    """Milliseconds and memory; at the smallest sizes on a CPU, where no floor holds."""
    cuda, device = verdict.on_cuda, verdict.device
    counts = {"steps": 10, "warm": 5} if cuda else {"steps": 1, "warm": 0}
    rows = (
        (("biggan-c10", 10, 32.0), ("biggan-i128", 1000, 200 / 0.3)) if cuda else (("smoke", 4, 0),)
    )
    for name, classes, limit in rows:
        steps: list[Callable[[], Any]] = []
        config = BIGGAN[name][1]
        if name == "biggan-i128":  # 256 images at once, 4 steps of D
            sizes = {"batch_size": 256, "generator_batch_size": 256}
            once = {"num_d_accumulations": 1, "num_g_accumulations": 1}
            config = replace(config, step=replace(config.step, **sizes, **once))

        def measured(c: Any = config, n: int = classes, steps: list[Any] = steps) -> float:
            steps.append(biggan_step(c, device, n))
            few = {"steps": 3, "warm": 1} if n == 1000 else counts
            return milliseconds(steps[0], device, **few)

        verdict.check(f"iteration of {name}", measured, limit=limit if cuda else None, unit=" ms")
        verdict.check(f"{name}, memory", lambda s=steps: peak_gib(s[0], device), unit=" GiB")
        steps.clear()
        if classes != 1000:
            verdict.check(
                f"{name}, what the quantizers add to an update of D",
                lambda c=config, n=classes: quantizer_share(c, device, n, counts),
                limit=10 if cuda else None, unit=" %",
            )  # fmt: skip
    name = "ugatit-selfie2anime" if cuda else "ugatit-smoke"
    made: list[Callable[[], Any]] = []

    def ugatit() -> float:
        made.append(ugatit_step(UGATIT[name][1], device))
        return milliseconds(made[0], device, **counts)

    verdict.check(f"iteration of {name}", ugatit, limit=25 if cuda else None, unit=" ms")
    verdict.check(f"{name}, memory", lambda: peak_gib(made[0], device), unit=" GiB")
    made.clear()
    plain = UGATIT[name][1]
    verdict.check(
        "its memory, percent of the plain way's", lambda: memory_share(plain, device),
        limit=50, unit=" %",
    )  # fmt: skip
    sizes = ((128, 32, 13), (256, 16, 22), (1024, 4, 117)) if cuda else ((0, 2, 0),)
    for size, batch, seconds in sizes:
        config = STYLEGAN2["stylegan2-smoke"][1]
        if size:
            base = STYLEGAN2["stylegan2-ffhq128"][1]
            config = replace(base, data=replace(base.data, resolution=size))
        verdict.check(
            f"StyleGAN2, {size or 'smoke'}, seconds for 1,000 images",
            lambda c=config, b=batch: style_seconds(c, device, b, 5 if cuda else 1),
            limit=seconds if cuda else None, unit=" s",
        )  # fmt: skip
    verdict.check(
        f"Inception and all scores of {scored_images(device):,} images",
        lambda: inception(device), limit=30 if cuda else None, unit=" s",
    )  # fmt: skip
    verdict.check("FID that TF32 changes", lambda: tf32_apart(device), limit=0.01)


def scored_images(device: torch.device) -> int:
    return 50_000 if device.type == "cuda" else 16


def tf32_apart(device: torch.device) -> float:
    """FID between scores with TF32 allowed outside and not; the features' island makes it 0."""
    if device.type != "cuda":
        raise NotHere("a CPU has no TF32")
    torch.manual_seed(0)
    extractor = FIDInception(InceptionV3(), "random").to(device).eval()
    sides = [torch.rand(512, 3, 32, 32, device=device) * 2 - 1 for _ in range(2)]
    found = []
    for deterministic in (False, True):
        set_numerics(deterministic=deterministic)
        real, fake = (collect(extractor, iter([images]), 512) for images in sides)
        found.append(compare(real, fake, subset_size=100)["fid"])
    torch.use_deterministic_algorithms(False)
    set_numerics()
    return abs(found[0] - found[1])


def inception(device: torch.device) -> float:
    """Seconds for features of random weights and all scores."""
    torch.manual_seed(0)
    extractor = FIDInception(InceptionV3(), "random").to(device).eval()
    total, batch = scored_images(device), 250 if device.type == "cuda" else 4
    noise = torch.Generator(device).manual_seed(1)

    def images() -> Iterator[Tensor]:
        while True:
            yield torch.rand(batch, 3, 32, 32, generator=noise, device=device) * 2 - 1

    began = time.perf_counter()
    real, fake = (collect(extractor, images(), total // 2) for _ in range(2))
    compare(real, fake, splits=min(10, total // 4), subset_size=min(1000, total // 4))
    wait(device)
    return time.perf_counter() - began


def fill(verdict: Verdict) -> None:
    """All checks, the ones that say most first."""
    device, check = verdict.device, verdict.check
    set_numerics()
    check("codes that are not the CPU's", lambda: codes_apart(device), limit=0)
    both: list[Any] = []
    check(
        "scores of D, apart from the CPU's",
        lambda: both.extend(as_on_the_cpu(device)) or apart(both[1][0], both[0][0]), limit=1e-4,
    )  # fmt: skip
    check("its gradients, likewise", lambda: apart(both[1][1:], both[0][1:]), limit=1e-3)
    check("recorded cases, and other tests marked gpu", lambda: tests_for_devices(device))
    for preset in FAMILIES:
        for precision in ("fp32", "bf16", "fp16") if verdict.on_cuda else ("fp16",):
            check(f"{preset}, {precision}", lambda n=preset, p=precision: smoke(verdict, n, p))
    for name, (task, preset) in FAMILIES.items():
        check(f"waits in a step, {name}", lambda t=task, p=preset: waits(verdict, t, p))
    speed(verdict)
    for preset in ("smoke", "ugatit-smoke"):
        check(f"{preset}, --compile", lambda n=preset: compiled(verdict, n))
    for preset in FAMILIES:
        check(
            f"weights of two runs of {preset} with --deterministic",
            lambda n=preset: repeated(verdict, n), limit=0,
        )  # fmt: skip


if __name__ == "__main__":
    judge("fq-gan", fill)
