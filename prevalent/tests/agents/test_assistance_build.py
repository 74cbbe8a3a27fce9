"""HANNA's agents are built, saved and opened again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prevalent.config import TINY_MODEL
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import save_model
from prevalent.tasks.hanna import (
    HANNA_PRESETS,
    build_assistance_agent,
    load_assistance_agent,
    open_assistance_bert,
    open_assistance_tokenizer,
    open_assistance_world,
    save_assistance_agent,
)

CPU = torch.device("cpu")


def options(world, **changes):
    paths = {"data_dir": world, "features": Path("features.npy"), "world": "matterport"}
    paths["wordpieces"] = Path("wordpiece.txt")
    return replace(HANNA_PRESETS["hanna-smoke"][1], **paths, **changes)


def test_a_saved_agent_walks_like_the_one_that_was_saved(toy_world, tmp_path):
    config = options(toy_world)
    world = open_assistance_world(config, ["val_unseen"], CPU)
    vocabulary = toy_world / "wordpiece.txt"
    agent = build_assistance_agent(config, world, open_assistance_tokenizer(config, vocabulary))
    save_assistance_agent(tmp_path, agent, config, vocabulary)
    other, again = load_assistance_agent(tmp_path, config, ["val_unseen"], CPU)
    tasks = world.splits["val_unseen"]
    assert agent.act([tasks], "val") == other.act([again.splits["val_unseen"]], "val")


def test_an_encoder_that_does_not_fit_is_refused(toy_world, tmp_path):
    save_model(tmp_path, PrevalentForPretraining(replace(TINY_MODEL, vocab_size=9)))
    config = options(toy_world, pretrained=tmp_path)
    with pytest.raises(ValueError, match="knows 9 word pieces"):
        open_assistance_bert(config, 10)
    save_model(
        tmp_path, PrevalentForPretraining(replace(TINY_MODEL, vocab_size=9, max_positions=9))
    )
    with pytest.raises(ValueError, match="exceeds the 9 positions"):
        open_assistance_bert(config, 9)
