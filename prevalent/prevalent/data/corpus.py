"""What pre-training reads: triplets, view features and the vocabulary, from one configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import ModelConfig, PretrainConfig
from ..runtime.distributed import World, barrier
from ..simulator.graph import Graphs
from .features import DeviceFeatures, FeatureStore, synthetic_features
from .instructions import read_instructions, read_paths
from .tokenizers import WordCodes, WordPieceTokenizer, build_wordpiece_vocabulary
from .triplets import TripletTable, collect_triplets, read_triplets
from .vocabulary import split_words, write_vocabulary

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Corpus:
    """Training and held-out triplets with all that belongs to them."""

    train: TripletTable
    held_out: dict[str, TripletTable]
    codes: WordCodes
    features: DeviceFeatures | None
    feature_rows: dict[str, int] | None
    vocabulary: Path | None
    summary: str
    word_prior: Tensor  # (V,) log-frequency of the words of the training triplets
    action_prior: Tensor  # (A,) of their actions

    def fit(self, model: ModelConfig) -> ModelConfig:
        """``model`` with the vocabulary and the image width of this corpus."""
        width = model.image_dim if self.features is None else self.features.width
        return replace(model, vocab_size=self.codes.vocab_size, image_dim=width)


def build_corpus(config: PretrainConfig, run_dir: Path, world: World) -> Corpus:
    """Read or collect all triplets of ``config`` and open the features they need.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    if config.world == "toy":
        config = _make_world(config, run_dir, world)
    sources = (*config.train, *config.held_out)
    vocabulary = config.data_dir / config.vocabulary
    tokenizer = None
    if vocabulary.is_file() or any(source.startswith("r2r:") for source in sources):
        tokenizer = WordPieceTokenizer(vocabulary, config.max_length)
    codes = WordCodes(vocab_size=config.model.vocab_size) if tokenizer is None else tokenizer.codes
    train = _load(config, config.train, tokenizer)
    held_out = {
        source.partition(":")[2]: _load(config, [source], tokenizer) for source in config.held_out
    }
    _check_actions(config, [train, *held_out.values()])
    features = store = None
    if config.use_images:
        store = _open_features(config, [train, *held_out.values()])
        features = DeviceFeatures(
            store,
            world.device,
            DTYPES.get(config.precision, torch.float32),
            angle_size=config.angle_size,
            layout="block",
        )
    sizes = ", ".join(f"{name} {len(table)}" for name, table in held_out.items())
    return Corpus(
        train=train,
        held_out=held_out,
        codes=codes,
        features=features,
        feature_rows=None if store is None else store.rows,
        vocabulary=vocabulary if tokenizer is not None else None,
        summary=f"{len(train)} triplets of {len(train.ids)} instructions; held out: {sizes}",
        word_prior=_word_prior(train, codes),
        action_prior=_log_frequency(np.bincount(train.action, minlength=config.model.num_actions)),
    )


def _load(
    config: PretrainConfig,
    sources: tuple[str, ...] | list[str],
    tokenizer: WordPieceTokenizer | None,
) -> TripletTable:
    kinds = {source.partition(":")[0] for source in sources}
    names = [source.partition(":")[2] for source in sources]
    if kinds == {"triplets"}:
        return read_triplets(
            Path(name) if Path(name).exists() else config.data_dir / name for name in names
        )
    if kinds != {"r2r"} or tokenizer is None:
        raise ValueError(
            f"--train {' '.join(sources)} mixes triplet files with R2R splits; collect the splits "
            "with `prevalent prepare triplets` first"
        )
    instructions = read_instructions(config.data_dir, names)
    if not instructions:
        raise ValueError(f"the source {' '.join(sources)} has no instruction")
    graphs = Graphs.load(
        config.data_dir / "connectivity", sorted({one.scan for one in instructions})
    )
    tokens = tokenizer.encode_sentences([one.text for one in instructions])
    return collect_triplets(graphs, instructions, tokens, max_steps=config.max_path_steps)


def _check_actions(config: PretrainConfig, tables: list[TripletTable]) -> None:
    largest = max(int(table.action.max()) for table in tables)
    if largest >= config.model.num_actions:
        raise ValueError(
            f"the triplets hold action {largest}, but --model.num-actions is "
            f"{config.model.num_actions}; raise it to {largest + 1} or more"
        )


def _open_features(config: PretrainConfig, tables: list[TripletTable]) -> FeatureStore:
    if config.features is None:
        places = sorted({f"{s}_{v}" for table in tables for s, v in table.places})
        return synthetic_features(places, config.standin_dim)
    store = FeatureStore.open(config.data_dir / config.features)
    for table in tables:
        table.rows(store.rows)
    return store


def _word_prior(table: TripletTable, codes: WordCodes) -> Tensor:
    steps = np.diff(table.first)
    counts = np.zeros(codes.vocab_size)
    np.add.at(counts, table.tokens, steps[:, None])
    counts[list(codes.special)] = 0  # never selected, so never a label
    return _log_frequency(counts)


def _log_frequency(counts: np.ndarray) -> Tensor:
    smoothed = torch.as_tensor(counts, dtype=torch.float64) + 1
    return (smoothed / smoothed.sum()).log()


def _make_world(config: PretrainConfig, run_dir: Path, world: World) -> PretrainConfig:
    """Write the toy world once and point ``config`` at it."""
    folder = run_dir / "world"
    features = make_toy_world(folder, config.toy_houses, world)
    return replace(config, data_dir=folder, vocabulary=Path("wordpiece.txt"), features=features)


def make_toy_world(folder: Path, houses: int, world: World) -> Path:
    """Write a toy world with ``wordpiece.txt`` once; returns the feature file's name in it."""
    from .toy import ToyConfig, write_toy

    vocabulary = folder / "wordpiece.txt"
    if world.is_main and not vocabulary.is_file():
        write_toy(folder, ToyConfig(train_houses=houses, unseen_houses=max(1, houses // 4)))
        texts = [text for item in read_paths(folder, "train") for text in item["instructions"]]
        words = build_wordpiece_vocabulary(word for text in texts for word in split_words(text))
        write_vocabulary(vocabulary, words)
    barrier()
    return Path("features.npy")
