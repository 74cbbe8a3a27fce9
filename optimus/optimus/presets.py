"""PRESETS: the configurations of ``optimus train``, one entry per experiment of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from .config import DataOptions, ModelOptions, ObjectiveOptions, OptimizerOptions, TrainConfig

LAMBDAS = ("0.05", "0.10", "0.25", "0.50", "1.00")
WIKIPEDIA_STEPS = 508_523  # one epoch of 65.1 M sentences at batch 128
PUBLIC_WEIGHTS = (Path("weights/bert-base-cased"), Path("weights/gpt2"))


def _wikipedia() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Pre-training (Sec. 4.1): one epoch, ten beta cycles, lambda 1."""
    for dim in (32, 768):
        name = f"pretrain-wikipedia-{dim}"
        config = TrainConfig(
            run_dir=Path("runs", f"pretrain/wikipedia_{dim}"),
            model=ModelOptions(latent_dim=dim, init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(free_bits=1.0, cycles=10),
            data=DataOptions(Path("data/wikipedia"), block_size=256, batch_size=128),
            max_steps=WIKIPEDIA_STEPS,
            save_every=20_000,
        )
        yield name, (f"Sec. 4.1, Wikipedia, {dim} dimensions", config)


# corpus -> format, longest sentence in words, sentences per step, epochs
CORPORA: dict[str, tuple[Literal["text", "label-text"], int, int, float]] = {
    "penn": ("text", 100, 16, 1.0),
    "yelp": ("label-text", 300, 16, 1.0),
    "yahoo": ("text", 510, 16, 1.0),
    "snli": ("text", 100, 40, 20.0),
}


def _language_modeling() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Fine-tuning of the Wikipedia model on four corpora for five lambdas (Table 1)."""
    for corpus, (form, block_size, batch_size, epochs) in CORPORA.items():
        for free_bits in LAMBDAS:
            name = f"lm-{corpus}-{free_bits}"
            config = TrainConfig(
                run_dir=Path("runs", f"language_modeling/{corpus}_{free_bits}"),
                model=ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),)),
                objective=ObjectiveOptions(free_bits=float(free_bits)),
                data=DataOptions(Path("data", corpus), form, block_size, batch_size),
                epochs=epochs,
                save_every=2000,
            )
            yield name, (f"Table 1, {corpus}, lambda {free_bits}", config)


def _baselines() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """GPT-2 fine-tuned as a language model (Table 1, GPT-2 row)."""
    batches = {"penn": 16, "yelp": 24, "yahoo": 32, "snli": 16}
    for corpus, (form, block_size, _, epochs) in CORPORA.items():
        name = f"gpt2-{corpus}"
        config = TrainConfig(
            run_dir=Path("runs", f"gpt2_baseline/{corpus}"),
            model=ModelOptions(inject="none", init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(kind="language-model"),
            data=DataOptions(Path("data", corpus), form, block_size, batches[corpus]),
            epochs=epochs,
            save_every=2000,
        )
        yield name, (f"Table 1, {corpus}, GPT-2 without a latent", config)


def _manipulation() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """The 768-dimensional SNLI models of Sec. 5.2 (interpolation, analogy)."""
    for beta in ("0.0", "0.5", "1.0"):
        name = f"manipulate-snli-768-{beta}"
        config = TrainConfig(
            run_dir=Path("runs", f"latent_manipulation/snli_768_{beta}"),
            model=ModelOptions(latent_dim=768, init=(Path("runs/pretrain/wikipedia_768/model"),)),
            objective=ObjectiveOptions(beta=float(beta), free_bits=5.0, length_weighted=True),
            data=DataOptions(Path("data/snli"), batch_size=16),
            max_steps=31_250,
            save_every=2000,
        )
        yield name, (f"Sec. 5.2, SNLI, 768 dimensions, beta {beta}", config)


def _injection() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Memory against embedding against both (the paper's ablation figure), beta 0."""
    for inject in ("memory", "embedding", "both"):
        name = f"inject-penn-{inject}"
        config = TrainConfig(
            run_dir=Path("runs", f"injection_ablation/penn_{inject}"),
            model=ModelOptions(inject=inject, init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(beta=0.0),
            data=DataOptions(Path("data/penn"), batch_size=10),
            max_steps=13_145,
            save_every=2000,
            keep=16,
        )
        yield name, (f"Injection ablation, {inject}", config)


def _from_scratch() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Small models for a CPU (small-*) and mid-size ones for one GPU (mid-*), no downloads."""
    epochs = {"penn": (1.5, 20.0), "tatoeba": (8.0, 60.0)}
    for corpus, (small_epochs, mid_epochs) in epochs.items():
        for free_bits in ("0.00", "0.50"):
            small = TrainConfig(
                run_dir=Path("runs", f"from_scratch/small_{corpus}_{free_bits}"),
                model=ModelOptions(vocabulary="8000", layers=2, hidden=256),
                objective=ObjectiveOptions(
                    free_bits=float(free_bits), ratio_zero=0.25, ratio_increase=0.25
                ),
                data=DataOptions(Path("data", corpus), block_size=60, batch_size=32),
                optimizer=OptimizerOptions(lr=1e-3, warmup_steps=200),
                epochs=small_epochs,
                save_every=500,
            )
            mid = replace(
                small,
                run_dir=Path("runs", f"from_scratch/mid_{corpus}_{free_bits}"),
                model=ModelOptions(vocabulary="8000"),
                data=replace(small.data, batch_size=64),
                optimizer=OptimizerOptions("fused", lr=2e-4, warmup_steps=500),
                epochs=mid_epochs,
                precision="bf16",
            )
            yield f"small-{corpus}-{free_bits}", (f"{corpus} from scratch, CPU", small)
            yield f"mid-{corpus}-{free_bits}", (f"{corpus} from scratch, 12 layers, GPU", mid)


def _own() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """The VAE that sees GLUE's texts before its labels, the quick check, and the demo."""
    demo = TrainConfig(
        run_dir=Path("runs/demo"),
        model=ModelOptions(latent_dim=32, vocabulary="400", layers=1, hidden=128, dropout=0.0),
        objective=ObjectiveOptions(free_bits=1.0, ratio_zero=0.5, ratio_increase=0.25),
        data=DataOptions(Path("data/toy"), block_size=30, batch_size=32),
        optimizer=OptimizerOptions(lr=5e-4, warmup_steps=100),
        max_steps=3000,
        log_every=250,
        save_every=1500,
    )
    smoke = replace(
        demo,
        run_dir=Path("runs/smoke"),
        model=replace(demo.model, latent_dim=8, hidden=64),
        data=replace(demo.data, batch_size=8),
        max_steps=6,
        log_every=2,
        save_every=3,
        eval_every=3,
    )
    glue = TrainConfig(
        run_dir=Path("runs/low_resource/glue_text"),
        model=ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),)),
        objective=ObjectiveOptions(free_bits=1.0),
        data=DataOptions(Path("data/glue-text"), block_size=256),
        save_every=1000,
    )
    yield "glue-text", ("Sec. 4.4, the sentence VAE on GLUE's texts", glue)
    yield "smoke", ("a few steps on the toy corpus", smoke)
    yield "demo", ("the toy corpus of `optimus demo`", demo)


PRESETS: dict[str, tuple[str, TrainConfig]] = {
    name: entry
    for rows in (
        _wikipedia,
        _language_modeling,
        _baselines,
        _manipulation,
        _injection,
        _from_scratch,
        _own,
    )
    for name, entry in rows()
}
