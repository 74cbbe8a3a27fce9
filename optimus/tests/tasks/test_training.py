import json
from dataclasses import replace

import pytest
import torch
from factories import tiny_model, tiny_vae
from safetensors.torch import load_file, save_file

from optimus.config import ModelOptions
from optimus.data.toy import toy_sentences
from optimus.models.vae import OptimusModel
from optimus.tasks.training import OriginalAdamW, build_model, parameter_groups


@pytest.fixture
def public(tmp_path):
    """Folders of a BERT and a GPT-2, as one downloads them, and their vocabularies."""
    vae = tiny_vae(toy_sentences(40))
    vae.model.encoder.bert.save_pretrained(tmp_path / "bert")
    vae.model.decoder.gpt2.resize_token_embeddings(vae.tokenizers.decoder_vocab_size - 3)
    vae.model.decoder.gpt2.save_pretrained(tmp_path / "gpt2")
    return tmp_path / "bert", tmp_path / "gpt2", vae.tokenizers


def test_public_weights_are_taken_whole(public):
    bert, gpt2, tokenizers = public
    model = build_model(ModelOptions(init=(bert, gpt2)), tokenizers)
    for name, value in load_file(bert / "model.safetensors").items():
        assert torch.equal(model.encoder.bert.state_dict()[name], value), name


def test_another_architecture_and_missing_tensors_are_named(public):
    bert, gpt2, tokenizers = public
    with pytest.raises(ValueError, match=r"bert must hold a causal decoder .* says 'bert'"):
        build_model(ModelOptions(init=(gpt2, bert)), tokenizers)
    tensors = load_file(bert / "model.safetensors")
    del tensors["pooler.dense.bias"]
    save_file(tensors, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"bert lacks 1 tensors .* such as pooler\.dense\.bias"):
        build_model(ModelOptions(init=(bert, gpt2)), tokenizers)
    settings = json.loads((gpt2 / "config.json").read_text())
    (gpt2 / "config.json").write_text(json.dumps({**settings, "model_type": "opt"}))
    with pytest.raises(ValueError, match=r"gpt2 (lacks|has) \d+ tensors"):
        build_model(ModelOptions(init=(bert, gpt2)), tokenizers)


@pytest.mark.parametrize("public_weights", [True, False])
def test_the_asked_dropout_is_saved_with_the_model(public, tmp_path, public_weights):
    bert, gpt2, tokenizers = public
    options = ModelOptions(init=(bert, gpt2) if public_weights else (), layers=1, hidden=64)
    build_model(replace(options, dropout=0.25), tokenizers).save_pretrained(tmp_path / "saved")
    again = OptimusModel.from_pretrained(tmp_path / "saved")
    found = {m.p for m in again.modules() if isinstance(m, torch.nn.Dropout)}
    assert found == {0.25}


def test_norms_and_biases_are_never_decayed_unless_asked_for():
    model = tiny_model()
    for compat in (False, True):
        decayed, spared = parameter_groups(model, 0.1, compat)
        assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
        names = {id(p): name for name, p in model.named_parameters()}
        found = {names[id(p)] for p in decayed["params"]}
        assert len(decayed["params"]) + len(spared["params"]) == len(names)
        assert not any("bias" in name or "LayerNorm" in name for name in found)
        assert any("ln_1.weight" in name for name in found) == compat


def test_the_original_adamw_stays_near_the_one_of_torch():
    runs = []
    for kind in (OriginalAdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(6, 6))
        optimizer = kind([weight], lr=1e-2, weight_decay=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            (weight @ torch.ones(6)).square().sum().backward()
            optimizer.step()
        runs.append(weight.detach())
    torch.testing.assert_close(*runs, rtol=1e-3, atol=1e-4)


def test_its_state_is_saved_and_restored():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = OriginalAdamW([weight])
    weight.sum().backward()
    optimizer.step()
    other = OriginalAdamW([weight])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[weight]["step"] == 1
    assert torch.equal(other.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg"])


def test_what_a_first_start_lacks_is_named_with_the_way_to_it(fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (["train", "lm-penn-0.50"], "train the run runs/pretrain/wikipedia_32 first, or give"),
        (["train", "lm-penn-0.50", "--model.init", "gpt2"], "--model.init gpt2 is not a folder"),
        (["train", "smoke"], "`optimus prepare toy --folder data/toy` writes it"),
        (["train", "smoke", "--data.folder", "a"], "`optimus prepare NAME --folder a` writes it"),
        (["evaluate", "--run-dir", "nowhere"], "nowhere does not exist; give the folder of a run"),
        (["generate", "sample", "--run-dir", "nowhere"], "nowhere does not exist"),
        (["generate", "--dry-run"], "a kind comes first, before any option"),
    ):
        assert said in fails(*words)
    assert list(tmp_path.iterdir()) == []
