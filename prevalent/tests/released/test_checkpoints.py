""""""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch

from prevalent.config import TINY_MODEL
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import (
    TIED,
    initialize_from,
    load_model,
    normalize_names,
    read_weights,
    save_authors_folder,
    save_model,
    to_authors_config,
    to_model_config,
)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_both_containers_and_safetensors_are_read(tmp_path):
    state = {"a": torch.arange(3.0)}
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    for name in ("zip.pt", "legacy.bin"):
        torch.testing.assert_close(read_weights(tmp_path / name), state)


def test_nested_snapshots_are_read(tmp_path):
    snapshot = {"encoder": {"epoch": 3, "state_dict": {"a": torch.zeros(1)}}}
    torch.save(snapshot, tmp_path / "best", _use_new_zipfile_serialization=False)
    assert read_weights(tmp_path / "best")["encoder"]["epoch"] == 3


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_file_is_refused_and_never_run(tmp_path, legacy):
    canary = tmp_path / "canary"
    torch.save(
        {"a": Canary(canary)}, tmp_path / "bad.bin", _use_new_zipfile_serialization=not legacy
    )
    with pytest.raises(ValueError, match="reading that could run code"):
        read_weights(tmp_path / "bad.bin")
    assert not canary.exists()


def test_a_plain_pickle_with_code_is_refused(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "bad.bin").write_bytes(pickle.dumps({"a": Canary(canary)}))
    with pytest.raises(ValueError, match=r"bad\.bin"):
        read_weights(tmp_path / "bad.bin")
    assert not canary.exists()


def test_training_args_beside_the_weights_are_never_opened(tmp_path):
    save_authors_folder(tmp_path / "a", PrevalentForPretraining(TINY_MODEL))
    torch.save(Canary(tmp_path / "canary"), tmp_path / "a/training_args.bin")
    load_model(tmp_path / "a")
    assert not (tmp_path / "canary").exists()


def test_damaged_files_are_named(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    for name in ("cut.pt", "cut.safetensors"):
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="is no whole weight file"):
            read_weights(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        read_weights(tmp_path / "none.pt")


def test_old_names_are_understood():
    state = {"module.x.LayerNorm.gamma": 1, "x.LayerNorm.beta": 2}
    assert normalize_names(state) == {"x.LayerNorm.weight": 1, "x.LayerNorm.bias": 2}


def test_a_missing_tied_matrix_is_filled_in(tmp_path):
    model = PrevalentForPretraining(TINY_MODEL)
    save_authors_folder(tmp_path, model)
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    del state[TIED]
    torch.save(state, tmp_path / "pytorch_model.bin")
    again = load_model(tmp_path)
    assert again.mlmhead.predictions.decoder.weight is again.bert.embeddings.word_embeddings.weight


def test_a_saved_model_loads_the_same(tmp_path):
    model = PrevalentForPretraining(TINY_MODEL)
    save_model(tmp_path, model)
    again = load_model(tmp_path)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.golden
def test_the_released_config_survives_a_round_trip(golden):
    path = golden / "models/released_layout.json"
    if not path.exists():
        pytest.skip("no released_layout case")
    released = json.loads(path.read_text())["config.json"]
    assert to_authors_config(to_model_config(released, path)) == released


def test_a_config_without_a_size_is_refused():
    with pytest.raises(ValueError, match="has no key 'vocab_size'"):
        to_model_config({"la_layers": 9}, "config.json")


def test_bert_without_heads_gives_it_too(tmp_path):
    model, other = PrevalentForPretraining(TINY_MODEL), PrevalentForPretraining(TINY_MODEL)
    names = {"bert.lalayer.": "encoder.layer.", "bert.embeddings.": "embeddings."}
    bare = {
        name.replace(ours, theirs): value
        for name, value in other.state_dict().items()
        for ours, theirs in names.items()
        if name.startswith(ours)
    }
    torch.save(bare, tmp_path / "pytorch_model.bin")
    assert len(initialize_from(model, tmp_path).matched) >= len(bare)
    for part in ("lalayer", "embeddings"):
        loaded, given = (getattr(one.bert, part).state_dict() for one in (model, other))
        torch.testing.assert_close(loaded, given)


def test_bert_gives_the_text_side(tmp_path):
    model, other = PrevalentForPretraining(TINY_MODEL), PrevalentForPretraining(TINY_MODEL)
    bert = {
        name.replace("bert.lalayer.", "bert.encoder.layer.").replace(
            "mlmhead.predictions.", "cls.predictions."
        ): value
        for name, value in other.state_dict().items()
        if "addlayer" not in name and "vision" not in name and "next_action" not in name
    }
    bert["bert.encoder.layer.7.output.dense.bias"] = torch.zeros(3)
    bert["cls.seq_relationship.bias"] = torch.zeros(2)
    torch.save(bert, tmp_path / "pytorch_model.bin")
    before = model.bert.addlayer[0].lang_inter.dense.weight.clone()
    report = initialize_from(model, tmp_path)
    torch.testing.assert_close(
        model.bert.lalayer[0].output.dense.weight, other.bert.lalayer[0].output.dense.weight
    )
    torch.testing.assert_close(model.bert.addlayer[0].lang_inter.dense.weight, before)
    assert all("addlayer" in n or "vision" in n or "next_action" in n for n in report.missing)
    torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no tensor has a known name"):
        initialize_from(model, tmp_path)
