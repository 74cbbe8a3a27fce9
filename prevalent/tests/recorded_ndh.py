"""NDH agents rebuilt from the recorded cases; sizes come from the weights of a case."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prevalent.agents.ndh import NDHAgent, NDHConfig, NDHRolloutConfig
from prevalent.agents.rollout import Batch
from prevalent.config import ModelConfig
from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.data.instructions import expand
from prevalent.data.ndh import encode_dialogs, open_dialog_pieces, to_dialog
from prevalent.environments.low_level import LowLevelEnvironment
from prevalent.environments.panorama import NDHEnvironment
from prevalent.models.prevalent import PrevalentModel
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import restore
from tests.recorded_agents import CPU, as_tensors, find_heads, largest_gap, near, number_of_heads

FORWARD = 1e-5  # absolute, float32
ANGLE = 1e-6


def read_case(golden: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    path = golden / "ndh" / f"{name}.json.gz"
    if not path.exists():
        pytest.skip(f"this golden folder has no ndh/{name}")
    with np.load(path.with_name(f"{name}.npz")) as file:
        return json.loads(gzip.decompress(path.read_bytes())), dict(file)


def sections_with(case, key):
    """Names of the parts of a case that hold ``key``."""
    return [name for name, value in case.items() if isinstance(value, dict) and key in value]


def draws_of(part):
    """Recorded draws in the order of the batch; the authors sort it by length."""
    return np.array(part["sampled"])[:, np.argsort(part["perm_idx"])] if part["sampled"] else None


def check_walks(walks, part):
    for i, theirs in zip(part["perm_idx"], part["traj"], strict=True):
        assert [pose[0] for pose in walks[i]] == [pose[0] for pose in theirs["path"]]
        angles = np.array([pose[1:] for pose in theirs["path"]])
        np.testing.assert_allclose([p[1:] for p in walks[i]], angles, rtol=0, atol=ANGLE)


def check_steps(steps, part, arrays, prefix):
    """Compare scores and states; logits are recorded unmasked, so those of padding are left out."""
    order = part["perm_idx"]
    for t, step in enumerate(steps):
        for key, ours in (("logit", step.logits[order]), ("h", step.hidden[order])):
            if f"{prefix}/{key}_{t}" in arrays:
                theirs = torch.as_tensor(arrays[f"{prefix}/{key}_{t}"])
                assert ours.shape == theirs.shape
                allowed, ours = near(ours.device, FORWARD), ours.detach().cpu()
                theirs = theirs.masked_fill(ours == -torch.inf, -torch.inf)
                torch.testing.assert_close(ours, theirs, rtol=0, atol=allowed)


@dataclass
class RecordedDialogs:
    """The vision-language agent's case."""

    case: dict[str, Any]
    arrays: dict[str, np.ndarray]
    graphs: Any
    vocabulary: Path
    num_heads: int
    device: torch.device = CPU

    @classmethod
    def load(cls, golden, graphs, data_dir, device=CPU):
        vocabulary = data_dir / "vocab/bert/bert-base-uncased-vocab.txt"
        case, arrays = read_case(golden, "ndh_agent")
        recorded = cls(case, arrays, graphs, vocabulary, number_of_heads(golden), device)
        width = len(arrays["enc/bert.pooler.dense.bias"])
        recorded.num_heads = find_heads(recorded.num_heads, width, recorded.gap)
        return recorded

    def gap(self, num_heads: int) -> float:
        """How far the first step is from the recorded one with so many heads."""
        self.num_heads, section = num_heads, self.sections()[0]
        feedback = sections_with(self.case[section], "traj")[0]
        part = self.case[section][feedback]
        agent, batch = self.agent(section), self.batches(section)[0]
        with torch.no_grad():
            rolled = agent.rollout(batch, feedback, draws=draws_of(part), keep_steps=True)
        theirs = self.arrays[f"{section}/{feedback}/logit_0"]
        return largest_gap(rolled.steps[0].logits[part["perm_idx"]], theirs)

    def sections(self):
        """Names of the settings that were recorded."""
        return sections_with(self.case, "episode_len")

    def dialogs(self, section):
        """Dialogs in the order of the recording."""
        path_type = self.case[section]["path_type"]
        by_id = {item["inst_idx"]: to_dialog(item, path_type) for item in self.case["items"]}
        return [by_id[number] for number in self.case[section]["order"]]

    def batches(self, section):
        dialogs, size = self.dialogs(section), self.case["batch"]
        tokenizer = open_dialog_pieces(self.vocabulary, self.case[section]["max_input"])
        return [
            Batch(part, encode_dialogs(part, tokenizer, "all"))
            for part in (dialogs[i : i + size] for i in range(0, len(dialogs), size))
        ]

    def bert(self):
        shapes = {name: value.shape for name, value in as_tensors(self.arrays, "enc/bert.").items()}
        vocab, width = shapes["embeddings.word_embeddings.weight"]

        def layers(kind):
            return len({name.split(".")[1] for name in shapes if name.startswith(kind)})

        return PrevalentModel(
            ModelConfig(
                vocab_size=vocab,
                hidden_size=width,
                num_heads=self.num_heads,
                intermediate_size=shapes["lalayer.0.intermediate.dense.weight"][0],
                num_language_layers=layers("lalayer"),
                num_cross_layers=layers("addlayer"),
                image_dim=shapes["vision_encoder.visn_fc.weight"][1],
                max_positions=shapes["embeddings.position_embeddings.weight"][0],
                dropout=0.0,
                attention_dropout=0.0,
            )
        )

    def agent(self, section, **optimizer) -> NDHAgent:
        """With the recorded weights; every option of an ended agent as the authors have it."""
        width, dim = self.arrays["dec/lstm.weight_ih"].shape[1] // 2, self.case["feature_dim"]
        config = NDHConfig(
            hidden_size=self.arrays["dec/lstm.weight_hh"].shape[1],
            encoder_size=self.arrays["enc/lstm.weight_hh_l0"].shape[1],
            attention_size=self.arrays["dec/decoder2action.linear_in_h.weight"].shape[0],
            bidirectional="enc/lstm.weight_hh_l0_reverse" in self.arrays,
            angle_size=width - dim,
            dropout=0.0,
            encoder_dropout=0.0,
        )
        scans = sorted({item["scan"] for item in self.case["items"]})
        names = [self.graphs.long_id(n) for scan in scans for n in self.graphs.nodes_of(scan)]
        store = synthetic_features(names, dim)
        features = DeviceFeatures(store, self.device, angle_size=config.angle_size, layout="block")
        agent = NDHAgent(
            config,
            NDHEnvironment(self.graphs, store.rows),
            features,
            bert=self.bert(),
            max_actions=self.case[section]["episode_len"],
            walk=NDHRolloutConfig(move_after_stop=True),
            optimizer=OptimizerConfig("adamax", **optimizer),
        )
        for name, prefix in (("encoder", "enc/"), ("decoder", "dec/")):
            restore(agent.modules[name], as_tensors(self.arrays, prefix), "ndh_agent")
        return agent.train()


@dataclass
class RecordedBaseline:
    """The Seq2Seq baseline's case: R2R instructions in the order of the recording."""

    case: dict[str, Any]
    arrays: dict[str, np.ndarray]
    graphs: Any
    device: torch.device

    @classmethod
    def load(cls, golden, graphs, device):
        return cls(*read_case(golden, "seq2seq_r2r_baseline"), graphs, device)

    def feedbacks(self):
        return sections_with(self.case, "n_steps")

    def batch(self, feedback) -> Batch:
        """The batch whose first items a section names."""
        by_id = {one.id: one for one in expand(self.case["items"])}
        size = self.case["batch"]
        walked = {walk["instr_id"] for walk in self.case[feedback]["traj"]}
        order = self.case["order"]
        ids = next(
            order[i : i + size]
            for i in range(0, len(order), size)
            if walked == set(order[i : i + size])
        )
        tokens = np.array([self.case["instr_encoding"][name] for name in ids])
        return Batch([by_id[name] for name in ids], tokens)

    def agent(self, feedback) -> NDHAgent:
        arrays = self.arrays
        vocab, word_size = arrays["enc/embedding.weight"].shape
        config = NDHConfig(
            encoder="lstm",
            actions="low-level",
            hidden_size=arrays["dec/lstm.weight_hh"].shape[1],
            word_size=word_size,
            action_size=arrays["dec/embedding.weight"].shape[1],
            bidirectional="enc/lstm.weight_hh_l0_reverse" in arrays,
            dropout=0.0,
        )
        scans = sorted({item["scan"] for item in self.case["items"]})
        names = [self.graphs.long_id(n) for scan in scans for n in self.graphs.nodes_of(scan)]
        store = synthetic_features(names, self.case["feature_dim"])
        agent = NDHAgent(
            config,
            LowLevelEnvironment(self.graphs, store.rows),
            DeviceFeatures(store, self.device),
            vocab_size=vocab,
            max_actions=self.case[feedback]["n_steps"],
            walk=NDHRolloutConfig(move_after_stop=True),
        )
        for name, prefix in (("encoder", "enc/"), ("decoder", "dec/")):
            restore(agent.modules[name], as_tensors(arrays, prefix), "seq2seq_r2r_baseline")
        return agent.train()
