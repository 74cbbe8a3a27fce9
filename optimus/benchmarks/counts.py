"""What a step of every loop, and a token, ask of a device: kernels, casts, memory, waits.

    python benchmarks/counts.py [--precision bf16]

Counted on a CPU at the size of the smoke presets (see `optimus.runtime.counting`): the numbers of
operations and allocations are the same at any size, the MB are not. The optimizer is the fused
one, as on a GPU. Tokens are decoded by 12 layers, as GPT-2 small has them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import BertConfig, GPT2Config

from optimus.data.toy import labeled_sentences, write_toy
from optimus.decoding import ASK_EVERY, Sampling, generate
from optimus.models.vae import OptimusConfig, OptimusModel
from optimus.runtime.counting import COLUMNS, Counts, count
from optimus.runtime.distributed import World
from optimus.runtime.precision import MixedPrecision
from optimus.runtime.run_folder import RunFolder
from optimus.tasks import classifier, dialog, label_control, language_model

LOOPS: dict[str, ModuleType] = {
    "language model": language_model,
    "dialog": dialog,
    "label control": label_control,
    "classifier": classifier,
}
ON_THE_HOST = (
    *("training.py:of", "text.py", "labeled.py", "dialog.py:contexts_of"),  # batches of the CPU
    "precision.py:step",  # loss scaling
)
LABELED = Path("data/toy-labels")
TURNS = (
    "hello there . [SEP] how are you ?\ti am fine .\n"
    "where is the dog ?\tthe dog is in the garden .\n"
)


def write_texts() -> str:
    """Small corpora below ``data``, where the smoke presets look for them."""
    write_toy("data/toy", sizes=(2000, 100, 100))
    rows = "".join(f"{label}\t{text}\n" for label, text in labeled_sentences(200))
    for folder, text in ((LABELED, rows), (Path("data/dailydialog"), TURNS * 8)):
        folder.mkdir(parents=True)
        for split in ("train", "valid", "test"):
            (folder / f"{split}.txt").write_text(text)
    return "made"


@contextmanager
def opened(name: str, device: torch.device, **changes: Any) -> Iterator[Any]:
    """A run of the smoke preset of a loop that is ready for its first step."""
    module, run_dir = LOOPS[name], Path(tempfile.mkdtemp()) / "run"
    world, kind = World(0, 1, device), name
    config = replace(module.PRESETS["smoke"][1], run_dir=run_dir, device=device.type, **changes)
    config = replace(config, optimizer=replace(config.optimizer, kind="fused"))
    if module is classifier:
        given = {"task": "labeled", "folder": LABELED / "train.txt", "test": LABELED / "test.txt"}
        config = replace(config, data=replace(config.data, **given))
    with RunFolder(run_dir, kind, config) as folder:
        task = language_model.TASK if module is classifier else module.TASK
        if module is classifier:
            shared = classifier.open_shared(config, world, folder)
            task = classifier.trial_task(shared, shared.train_set)
        yield task.open(config, world, folder)


def of_a_step(name: str, precision: str) -> Counts:
    """Of the second step of a run."""
    torch.manual_seed(0)
    with opened(name, torch.device("cpu"), precision=precision) as run:
        run.step()
        torch.manual_seed(0)
        return count(run.step, on_the_host=ON_THE_HOST)


def of_a_token(strategy: Any, precision: Any, *, static: bool) -> tuple[float, ...]:
    """Kernels, casts, allocations and waits a token of four sentences that do not end."""
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 1, "intermediate_size": 64, "num_hidden_layers": 1}
    bert = BertConfig(vocab_size=90, hidden_size=64, **sizes)
    gpt2 = GPT2Config(vocab_size=90, n_embd=64, n_layer=12, n_head=1)
    tokens = {"bos_token_id": 88, "eos_token_id": 89, "pad_token_id": 87}
    model = OptimusModel(OptimusConfig(bert=bert, gpt2=gpt2, latent_dim=32, **tokens)).eval()
    ends = torch.zeros(90)
    ends[89] = -1e4
    head = model.decoder.head
    model.decoder.head = lambda hidden: head(hidden) + ends  # type: ignore[method-assign]
    latents, found = torch.randn(4, 32), []
    for length in (ASK_EVERY, 3 * ASK_EVERY):
        sampling = Sampling(strategy, max_new_tokens=length)

        def decode(sampling: Sampling = sampling) -> None:
            with MixedPrecision(precision, "cpu").autocast():
                generate(model, latents, sampling, static=static)

        one = count(decode)
        allocations = sum(one.memory.allocations.values())
        found.append((sum(one.kernels.values()), one.casts, allocations, sum(one.waits.values())))
    short, long = found
    return tuple((b - a) / (2 * ASK_EVERY) for a, b in zip(short, long, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"))
    precision = parser.parse_args().precision
    torch.set_num_threads(1)
    print(f"{'loop':<16}{COLUMNS}  waits of the host ({precision})")
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        write_texts()
        for name in LOOPS:
            with contextlib.redirect_stderr(None):
                found = of_a_step(name, precision)
            waits = ", ".join(f"{where} {number}" for where, number in found.waits.items())
            print(f"{name:<16}{found.columns()}  {waits or 'none'}", flush=True)
    columns = f"{'kernels':>9}{'casts':>7}{'allocations':>13}"
    print(f"\n{'a token':<24}{columns}  waits of the host ({precision})")
    for strategy in ("greedy", "sample"):
        for static in (False, True):
            *asked, waited = of_a_token(strategy, precision, static=static)
            kernels, casts, allocations = asked
            memory = "fixed" if static else "growing"
            name = f"{strategy}, {memory} memory"
            numbers = f"{kernels:>9.2f}{casts:>7.2f}{allocations:>13.2f}"
            print(f"{name:<24}{numbers}  {waited:.3g}", flush=True)


if __name__ == "__main__":
    main()
