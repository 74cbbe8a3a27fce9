"""Agents rebuilt from the recorded roll-outs; sizes come from the weights and flags of a case."""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from prevalent.agents.follower import Follower, FollowerConfig, add_losses
from prevalent.agents.rollout import Batch, RolloutConfig
from prevalent.agents.speaker import Speaker, SpeakerConfig, back_translate
from prevalent.config import ModelConfig
from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.instructions import read_instructions
from prevalent.data.tokenizers import WordPieceTokenizer, WordTokenizer, read_vocabulary
from prevalent.environments.navigation import NavigationEnvironment
from prevalent.models.prevalent import PrevalentModel
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import restore
from prevalent.released.snapshots import load_snapshot

CPU = torch.device("cpu")
LOSS = 1e-5  # absolute
ON_A_GPU = 1e-4  # absolute, of anything computed there: sums have another order
SAME_HEADS = 1e-5  # absolute, of logits
IMITATION_WEIGHT = 0.05  # the authors' default mlWeight
GROUND_TRUTH_WEIGHT, BACK_TRANSLATION_WEIGHT = 0.2, 0.6  # of their accumulated step


def rollout_cases(golden: Path) -> list[Path]:
    """Files of the recorded roll-outs; skips where there are none."""
    paths = sorted((golden / "rollout").glob("rollout_*.json.gz"))
    if not paths:
        pytest.skip(f"{golden}/rollout has no recorded roll-outs")
    return paths


def near(device: torch.device, tolerance: float) -> float:
    """``tolerance`` of values that were computed on ``device``."""
    return tolerance if device.type == "cpu" else max(tolerance, ON_A_GPU)


def number_of_heads(golden: Path) -> int:
    """Of the tiny encoder beside the agents: a first guess for theirs, which no file tells."""
    config = golden / "models/dicadd_tiny/config.json"
    return json.loads(config.read_text())["num_attention_heads"] if config.exists() else 1


def find_heads(guess: int, width: int, gap: Callable[[int], float]) -> int:
    """The number of heads of a recorded agent, which no tensor of its tells.

    Args:
        guess: tried first.
        width: of the attention, a multiple of the number.
        gap: largest difference of a first step to the recorded one, with a number of heads.
    """
    others = [heads for heads in range(1, width + 1) if heads != guess]
    fitting = [heads for heads in (guess, *others) if width % heads == 0]
    gaps = {}
    for heads in fitting:
        gaps[heads] = gap(heads)
        if gaps[heads] < SAME_HEADS:
            return heads
    return min(gaps, key=lambda heads: gaps[heads])


def largest_gap(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """Of the finite values of logits: those of padding are recorded unmasked."""
    ours = ours.cpu()
    seen = torch.isfinite(ours)
    return float((ours - torch.as_tensor(theirs))[seen].abs().max())


def as_tensors(arrays, prefix):
    return {
        name.removeprefix(prefix): torch.as_tensor(arrays[name])
        for name in arrays
        if name.startswith(prefix)
    }


def flags_of(argv):
    """Flags of a recorded command line."""
    return SimpleNamespace(
        **{name.lstrip("-"): value for name, value in zip(argv[::2], argv[1::2], strict=True)}
    )


@dataclass
class Recorded:
    """A case, the world it was recorded in and agents with its weights."""

    name: str
    case: dict[str, Any]
    arrays: dict[str, np.ndarray]
    flags: SimpleNamespace
    instructions: dict[str, Any]
    features: DeviceFeatures
    environment: NavigationEnvironment
    words: WordTokenizer
    tokenizer: WordTokenizer | WordPieceTokenizer
    data_dir: Path
    num_heads: int
    snapshot: Path

    @property
    def device(self) -> torch.device:
        """Where the agents compute."""
        return self.features.device

    def array(self, name: str) -> torch.Tensor:
        """A recorded array on the device."""
        return torch.as_tensor(self.arrays[name]).to(self.device)

    @classmethod
    def load(cls, path: Path, graphs, data_dir: Path, device=CPU) -> "Recorded":
        case = json.loads(gzip.decompress(path.read_bytes()))
        with np.load(str(path).replace(".json.gz", ".npz")) as file:
            arrays = dict(file)
        flags = flags_of(case["argv"])
        one = read_instructions(data_dir, [case["split"]], scans=case["scans"])
        names = [graphs.long_id(n) for scan in case["scans"] for n in graphs.nodes_of(scan)]
        store = synthetic_features(names, case["feature_dim"])
        length = int(flags.maxInput)
        words = WordTokenizer(read_vocabulary(data_dir / "r2r/train_vocab.txt"), length)
        width = len(arrays.get("init/encoder/bert.pooler.dense.bias", ()))
        pieces = width > 0
        vocabulary = data_dir / "vocab/bert/bert-base-uncased-vocab.txt"
        recorded = cls(
            name=path.name.removesuffix(".json.gz"),
            case=case,
            arrays=arrays,
            flags=flags,
            instructions={item.id: item for item in one},
            features=DeviceFeatures(store, device, angle_size=case["angle"]),
            environment=NavigationEnvironment(graphs, store.rows),
            words=words,
            tokenizer=WordPieceTokenizer(vocabulary, length) if pieces else words,
            data_dir=data_dir,
            num_heads=number_of_heads(path.parents[1]),
            snapshot=path.parent
            / path.name.removesuffix(".json.gz").replace("rollout", "snapshot"),
        )
        if pieces and "teacher/logit_0" in arrays:
            recorded.num_heads = find_heads(recorded.num_heads, width, recorded.gap)
        return recorded

    def gap(self, num_heads: int) -> float:
        """How far the first step is from the recorded one with so many heads."""
        self.num_heads = num_heads
        section = self.case["teacher"]
        with torch.no_grad():
            rolled = self.follower().rollout(
                self.batch(section["items"]), "teacher", keep_steps=True
            )
        return largest_gap(
            rolled.steps[0].logits[section["perm_idx"]], self.arrays["teacher/logit_0"]
        )

    def batch(self, ids) -> Batch:
        tasks = [self.instructions[name] for name in ids]
        return Batch(tasks, np.stack([self.tokenizer.encode(task.text) for task in tasks]))

    def bert_config(self) -> ModelConfig:
        shapes = {
            name: value.shape
            for name, value in as_tensors(self.arrays, "init/encoder/bert.").items()
        }
        vocab, width = shapes["embeddings.word_embeddings.weight"]
        return ModelConfig(
            vocab_size=vocab,
            hidden_size=width,
            num_heads=self.num_heads,
            intermediate_size=shapes["lalayer.0.intermediate.dense.weight"][0],
            num_language_layers=int(self.flags.d_la_layers),
            num_cross_layers=int(self.flags.d_vl_layers),
            image_dim=self.features.width,
            max_positions=shapes["embeddings.position_embeddings.weight"][0],
            dropout=0.0,
            attention_dropout=0.0,
        )

    def follower(self, **walk) -> Follower:
        """The agent with the initial weights of the case, in train mode."""
        encoder = as_tensors(self.arrays, "init/encoder/")
        pieces = not isinstance(self.tokenizer, WordTokenizer)
        config = FollowerConfig(
            encoder="dic" if pieces else "lstm",
            hidden_size=int(self.flags.d_hidden_size if pieces else self.flags.rnnDim),
            word_size=int(self.flags.wemb),
            action_size=int(self.flags.aemb),
            encoder_size=int(getattr(self.flags, "d_enc_hidden_size", 1)),
            summary=self.flags.subout,
            dropout=float(self.flags.dropout),
            encoder_dropout=float(getattr(self.flags, "d_dropout_ratio", 0)),
            feature_dropout=float(self.flags.featdropout),
            angle_size=self.case["angle"],
            update_cross=getattr(self.flags, "d_update_add_layer", "") == "True",
        )
        follower = Follower(
            config,
            self.environment,
            self.features,
            vocab_size=self.words.vocab_size,
            bert=PrevalentModel(self.bert_config()) if pieces else None,
            optimizer=OptimizerConfig(self.flags.optim, lr=float(self.flags.lr)),
            walk=RolloutConfig(
                max_actions=int(self.flags.maxAction),
                **{"move_after_stop": "envdrop" not in self.name, **walk},
            ),
        )
        restore(follower.modules["encoder"], encoder, self.name)
        for name in ("decoder", "critic"):
            restore(follower.modules[name], as_tensors(self.arrays, f"init/{name}/"), self.name)
        return follower.train()

    def trained(self) -> Follower:
        """The agent after the recorded iterations, with which later sections were recorded."""
        if not self.snapshot.exists():
            return train_twice(self)
        follower = self.follower()
        load_snapshot(self.snapshot, follower.modules, follower.optimizers)
        return follower

    def speaker(self) -> Speaker:
        decoder = as_tensors(self.arrays, "speaker_dec/")
        config = SpeakerConfig(
            hidden_size=decoder["projection.weight"].shape[1],
            word_size=decoder["embedding.weight"].shape[1],
            dropout=float(self.flags.dropout),
            feature_dropout=float(self.flags.featdropout),
            angle_size=self.case["angle"],
            max_decode=int(self.flags.maxDecode),
        )
        speaker = Speaker(config, self.environment, self.features, self.words)
        restore(speaker.encoder, as_tensors(self.arrays, "speaker_enc/"), self.name)
        restore(speaker.decoder, decoder, self.name)
        return speaker


def authors_order(tokens) -> np.ndarray:
    """The order (B,) in which the authors put texts: by length, descending."""
    empty = tokens == 0
    lengths = np.where(empty.any(axis=1), empty.argmax(axis=1), tokens.shape[1])
    return torch.from_numpy(lengths).sort(0, True)[1].numpy()


def check_sums(modules, recorded):
    """Compare [sum, absolute sum] of every tensor after training steps."""
    for name, tensors in recorded.items():
        state = modules[name].state_dict()
        for key, sums in tensors.items():
            if not key.endswith("key.bias"):  # analytically without gradient: only rounding
                value = state[key].double()
                ours = [float(value.sum()), float(value.abs().sum())]
                assert ours == pytest.approx(sums, rel=1e-4, abs=1e-4), key


def in_batch_order(draws, tokens):
    """Recorded draws (T, B) in the order of the batch."""
    return np.array(draws)[:, np.argsort(authors_order(tokens))]


def train_twice(recorded: Recorded, tolerance: float = 0.0, **walk) -> Follower:
    """Repeat the recorded iterations, checking the losses; nothing where a case has none."""
    follower, size = recorded.follower(**walk), recorded.case["batch"]
    case = recorded.case.get("train2", {"iters": [], "data_order": []})
    order = case["data_order"]
    batches = iter([recorded.batch(order[i : i + size]) for i in range(0, len(order), size)])
    for number, iteration in enumerate(case["iters"]):
        imitated, sampled = next(batches), next(batches)
        assert [task.id for task in sampled.tasks] == iteration["items"]
        draws = in_batch_order(iteration["sampled_actions"], sampled.tokens)
        losses = follower.imitate_and_reinforce(imitated, sampled, IMITATION_WEIGHT, draws=draws)
        follower.update()
        allowed = max(near(recorded.device, LOSS), tolerance * number)
        assert losses["loss"].item() == pytest.approx(iteration["loss"], abs=allowed)
    return follower


def accumulate(recorded: Recorded, follower: Follower) -> Follower:
    """Repeat the recorded step of true and back-translated instructions, checking the losses."""
    case = recorded.case.get("bt_accumulated_step")
    if case is None:
        return follower
    speaker, size = recorded.speaker(), recorded.case["batch"]
    noise = recorded.array("backtrans_noise")
    draws = case["sampled_actions(all sample rollouts in order)"]
    true = case["gt_items(teacher batch then sample batch)"]

    def translated(ids):
        return back_translate(speaker, recorded.batch(ids).tasks, recorded.tokenizer, noise)

    losses = follower.imitate(recorded.batch(true[:size]), GROUND_TRUTH_WEIGHT)
    batch = recorded.batch(true[size:])
    used = in_batch_order(draws, batch.tokens)
    steps = len(follower.rollout(batch, "sample", draws=used).actions)
    losses = add_losses(losses, follower.reinforce(batch, draws=used))
    assert losses["loss"].item() == pytest.approx(case["loss_after_GT"], abs=LOSS)
    imitated = translated(case["aug_items"][:size])
    losses = add_losses(losses, follower.imitate(imitated, BACK_TRANSLATION_WEIGHT, noise=noise))
    batch = translated(case["aug_items"][size:])
    used = in_batch_order(draws[steps:], batch.tokens)
    losses = add_losses(losses, follower.reinforce(batch, noise=noise, draws=used))
    assert losses["loss"].item() == pytest.approx(case["loss_total"], abs=LOSS)
    follower.update()
    return follower
