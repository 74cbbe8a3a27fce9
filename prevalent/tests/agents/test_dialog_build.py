"""Agents of NDH are built, saved and read back."""

from dataclasses import replace

import pytest
import torch

from prevalent.agents.ndh import DialogConfig
from prevalent.tasks.ndh import (
    build_dialog_agent,
    extend_vocabulary,
    find_dialog_vocabulary,
    load_dialog_agent,
    open_dialog_tokenizer,
    open_dialog_world,
    open_dialogs,
    save_dialog_agent,
)
from tests.small_agents import make_bert
from tests.test_train_ndh import SEQ2SEQ, dialog_run


@pytest.mark.parametrize("model", [None, SEQ2SEQ], ids=["dic", "seq2seq"])
def test_an_agent_read_back_walks_as_before(toy_world, tmp_path, model):
    config = dialog_run(toy_world, tmp_path)
    config = config if model is None else replace(config, model=model)
    world = open_dialog_world(config, ["val_unseen@4"], torch.device("cpu"))
    vocabulary = find_dialog_vocabulary(config)
    tokenizer = open_dialog_tokenizer(config, vocabulary)
    agent = build_dialog_agent(config, world, tokenizer)
    save_dialog_agent(tmp_path / "agent", agent, config, vocabulary)
    other = replace(config, seed=5, model=DialogConfig())  # sizes are those that were saved
    again, opened, tokenizer = load_dialog_agent(
        tmp_path / "agent", other, ["val_unseen@4"], torch.device("cpu")
    )
    episodes = open_dialogs(config, opened.splits["val_unseen@4"], tokenizer)
    first, second = (one.act(episodes.batches(3)) for one in (agent, again))
    assert first == second


def test_a_split_without_dialogs_is_refused(toy_world, tmp_path):
    config = dialog_run(toy_world, tmp_path)
    with pytest.raises(ValueError, match="'val_seen@0' is empty"):
        open_dialog_world(config, ["val_seen@0"], torch.device("cpu"))


def test_new_words_change_nothing_for_known_ones():
    bert = make_bert(dropout=0.0, attention_dropout=0.0)
    wider = extend_vocabulary(bert, bert.config.vocab_size + 3)
    ids = torch.tensor([[1, 4, 2, 0]])
    torch.testing.assert_close(wider(ids).sequence, bert(ids).sequence)
    assert wider(ids + 8).sequence.isfinite().all()
