"""HANNA agents rebuilt from the recorded cases; sizes come from the weights and the options."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prevalent.agents.hanna import HannaAgent, HannaRolloutConfig
from prevalent.config import ModelConfig
from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.hanna import SpaceTokenizer, expand_routes, expand_tasks, resolve_split
from prevalent.data.tokenizers import WordPieceTokenizer
from prevalent.environments.hanna import Anna, HannaEnvironment
from prevalent.models.hanna import HannaConfig
from prevalent.models.prevalent import PrevalentModel
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import restore
from tests.recorded_agents import CPU, as_tensors, find_heads, largest_gap, number_of_heads

MODULES = ("nav_module", "ask_module")
BERT = "nav_module.encoder.bert."


def search_cases(golden: Path) -> list[Path]:
    """Files of the recorded searches; skips where there are none."""
    paths = sorted((golden / "hanna").glob("hanna_*.json.gz"))
    if not paths:
        pytest.skip(f"{golden}/hanna has no recorded searches")
    return paths


@dataclass
class RecordedSearches:
    """A case and the world it was recorded in."""

    name: str
    case: dict[str, Any]
    arrays: dict[str, np.ndarray]
    graphs: Any
    data_dir: Path
    num_heads: int
    device: torch.device = CPU

    @classmethod
    def load(cls, path: Path, graphs, data_dir: Path, device=CPU) -> RecordedSearches:
        case = json.loads(gzip.decompress(path.read_bytes()))
        with np.load(str(path).replace(".json.gz", ".npz")) as file:
            arrays = dict(file)
        name = path.name.removesuffix(".json.gz")
        heads = number_of_heads(path.parents[1])
        recorded = cls(name, case, arrays, graphs, data_dir, heads, device)
        width = len(arrays.get(f"sd/{BERT}pooler.dense.bias", ()))
        if width:
            recorded.num_heads = find_heads(heads, width, recorded.gap)
        return recorded

    def gap(self, num_heads: int) -> float:
        """How far the first step is from the recorded one with so many heads."""
        self.num_heads, variant = num_heads, self.variants()[0]
        with torch.no_grad():
            walked = self.walk(self.agent(variant), self.case[variant]["train_0"])
        return largest_gap(walked.steps[0].logits, self.logits(variant, "train_0", "nav_logit")[0])

    def variants(self) -> list[str]:
        """Recorded options, each with at least one training roll-out."""
        return [
            name
            for name, content in self.case.items()
            if isinstance(content, dict) and "train_0" in content
        ]

    def weights(self, variant: str) -> dict[str, torch.Tensor]:
        own = as_tensors(self.arrays, f"{variant}_sd/")
        return own or as_tensors(self.arrays, "sd/")

    def options(self, variant: str) -> tuple[HannaConfig, HannaRolloutConfig]:
        flags = self.case["hparams"]
        config = HannaConfig(
            encoder=flags.get("encoder_type") or "words",
            hidden_size=flags["hidden_size"],
            num_heads=flags["attention_heads"],
            num_layers=flags["num_layers"],
            dropout=flags["dropout_ratio"],
            ask_size=flags["ask_embed_size"],
            angle_size=flags["loc_embed_size"],
        )
        search = HannaRolloutConfig(
            train_length=flags["train_episode_len"],
            eval_length=flags["eval_episode_len"],
            start_radius=flags["start_point_radius"],
            curiosity=flags["alpha"],
            uncertain_threshold=flags["uncertain_threshold"],
        )
        models = {
            "no_reason": {"reasons": False},
            "no_sim_attend": {"similar_situations": False},
            "no_reset_inter": {"reset": "never"},
        }
        searches: dict[str, dict] = {
            "perfect": {"perfect_interpretation": True},
            "vision_only": {"vision_only": True},
        }
        if every := re.fullmatch(r"ask_every_(\d+)", variant):
            searches[variant] = {"ask": "every", "ask_every": int(every[1])}
        if alpha := re.fullmatch(r"alpha(\d+)", variant):
            searches[variant] = {"curiosity": float(alpha[1])}
        if variant not in {"default", *models, *searches}:
            pytest.fail(f"no option is known for the recorded variant {variant!r}")
        return replace(config, **models.get(variant, {})), replace(
            search, **searches.get(variant, {})
        )

    def bert(self) -> PrevalentModel | None:
        shapes = {
            name: value.shape for name, value in as_tensors(self.arrays, f"sd/{BERT}").items()
        }
        if not shapes:
            return None
        vocab, width = shapes["embeddings.word_embeddings.weight"]
        layers = {name: len({n.split(".")[1] for n in shapes if n.startswith(name)})
                  for name in ("lalayer", "addlayer")}  # fmt: skip
        return PrevalentModel(
            ModelConfig(
                vocab_size=vocab,
                hidden_size=width,
                num_heads=self.num_heads,
                intermediate_size=shapes["lalayer.0.intermediate.dense.weight"][0],
                num_language_layers=layers["lalayer"],
                num_cross_layers=layers["addlayer"],
                image_dim=shapes["vision_encoder.visn_fc.weight"][1],
                max_positions=shapes["embeddings.position_embeddings.weight"][0],
                dropout=0.0,
                attention_dropout=0.0,
            )
        )

    def agent(self, variant: str) -> HannaAgent:
        """The agent with its initial weights, in train mode."""
        flags = self.case["hparams"]
        config, search = self.options(variant)
        scans = self.case["scans"]
        names = [self.graphs.long_id(n) for scan in scans for n in self.graphs.nodes_of(scan)]
        store = synthetic_features(names, self.case["feature_dim"])
        routes = [
            route
            for scan, items in self.case["routes"].items()
            for route in expand_routes(scan, items, self.name)
        ]
        anna = Anna(self.graphs, routes, search.start_radius)
        bert = self.bert()
        length = flags["max_instr_len"]
        if bert is None:
            tokenizer = SpaceTokenizer(self.case["vocab"], length)
        else:
            vocabulary = self.data_dir / "vocab/bert/bert-base-uncased-vocab.txt"
            tokenizer = WordPieceTokenizer(vocabulary, length)
        weights = self.weights(variant)
        vocab_size = weights.get("nav_module.encoder.embedding.weight", np.zeros(1)).shape[0]
        agent = HannaAgent(
            config,
            HannaEnvironment(self.graphs, anna, store.rows),
            DeviceFeatures(store, self.device, angle_size=config.angle_size, layout="block"),
            tokenizer.encode,
            vocab_size=vocab_size,
            max_length=length,
            bert=bert,
            optimizer=OptimizerConfig("adam", lr=flags["lr"], weight_decay=flags["weight_decay"]),
            search=search,
        )
        for name in MODULES:
            own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(name)}
            restore(agent.modules[name], own, self.name)
        return agent.train()

    def tasks(self, split: str, ids) -> list:
        """Tasks of a split by id."""
        found = {task.id: task for task in expand_tasks(self.case["data"][split], self.name)}
        return [found[name] for name in ids]

    def walk(self, agent: HannaAgent, recorded: dict[str, Any]):
        """Repeat a recorded training roll-out with its draws and ANNA's recorded answers."""
        told = [walk["message"] for walk in recorded["traj"]]

        def pick(i, answers):
            wanted = told[i][agent.environment.time]
            return next(one for one in answers if one.record(self.graphs) == wanted)

        return agent.rollout(
            self.tasks("train", recorded["instr_ids"]),
            resolve_split("train")[1],
            "sample",
            pick=pick,
            draws=recorded["draws(nav,ask interleaved, incl. re-draws)"],
        )

    def logits(self, variant: str, part: str, kind: str) -> list[np.ndarray]:
        """Recorded (B, .) logits of every step."""
        found = []
        while (name := f"{variant}/{part}/{kind}_{len(found)}") in self.arrays:
            found.append(self.arrays[name])
        return found
