import json
import shutil

import pytest
import torch
from factories import tiny_model
from safetensors.torch import save_file

from optimus.authors_checkpoint import read_authors_checkpoint
from optimus.convert import export_authors_checkpoint, import_checkpoint


@pytest.fixture
def exported(tmp_path):
    model = tiny_model()
    for step in (4, 20):
        export_authors_checkpoint(model, tmp_path / "run", step)
    return model, tmp_path / "run"


def same(model, source, **options):
    again, report = import_checkpoint(read_authors_checkpoint(source, **options))
    assert not report.missing
    assert not report.unexpected
    ours, theirs = model.state_dict(), again.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_newest_step_or_the_one_asked_for_is_read(exported):
    model, run = exported
    assert "full-20" in str(read_authors_checkpoint(run).files[0])
    assert "full-4" in str(read_authors_checkpoint(run, step=4).files[0])
    assert same(model, run)
    with pytest.raises(FileNotFoundError, match=r"no step 5, only \[4, 20\]"):
        read_authors_checkpoint(run, step=5)


def test_every_way_of_pointing_at_a_checkpoint_works(exported):
    model, run = exported
    full = run / "checkpoint-full-20" / "training.bin"
    assert same(model, run / "checkpoint-encoder-4")
    shutil.rmtree(run / "checkpoint-full-4")
    assert same(model, run, step=4)
    released = run.parent / "released"
    for part in ("encoder", "decoder", "full"):
        shutil.copytree(run / f"checkpoint-{part}-20", released / part)
    assert same(model, released)
    (released / "full" / "training.bin").unlink()
    assert full.is_file()


def test_names_with_beta_in_them_are_found(exported):
    model, run = exported
    for part in ("encoder", "decoder"):
        (run / f"checkpoint-{part}-20").rename(run / f"checkpoint-{part}-20-1.0")
    shutil.rmtree(run / "checkpoint-full-20")
    assert same(model, run, step=20)


@pytest.mark.parametrize("prefix", ["", "module.", "model.optimus."])
def test_third_party_files_of_the_whole_model_are_read(prefix, exported, tmp_path):
    _, run = exported
    model = tiny_model(layers=2)
    tensors = read_authors_checkpoint(run).tensors
    heads = {"encoder": 4, "decoder": 4}
    content = {prefix + name: value.clone() for name, value in tensors.items()}
    save_file(content, tmp_path / "optimus.safetensors")
    found = read_authors_checkpoint(tmp_path / "optimus.safetensors")
    assert found.tensors.keys() == tensors.keys()
    assert found.encoder_config["num_hidden_layers"] == 2
    # Without a config.json heads are taken to have 64 dimensions, which tiny models contradict.
    assert found.encoder_config["num_attention_heads"] != heads["encoder"]
    assert found.decoder_config["n_embd"] == model.config.gpt2.n_embd


def test_older_names_of_norms_and_missing_base_prefixes_are_understood(exported):
    model, run = exported
    shutil.rmtree(run / "checkpoint-full-20")
    for part, strip in (("encoder", ""), ("decoder", "transformer.")):
        path = run / f"checkpoint-{part}-20" / "pytorch_model.bin"
        state = torch.load(path)
        renamed = {}
        for name, value in state.items():
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            name = name.replace("LayerNorm.bias", "LayerNorm.beta").removeprefix(strip)
            renamed[("bert." if part == "encoder" else "") + name] = value
        torch.save(renamed, path)
    assert same(model, run, step=20)


def test_what_is_not_a_checkpoint_is_named(exported, tmp_path):
    _, run = exported
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        read_authors_checkpoint(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds none of training\.bin"):
        read_authors_checkpoint(tmp_path / "empty")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no sentence VAE of the authors"):
        read_authors_checkpoint(tmp_path / "other.safetensors")
    shutil.rmtree(run / "checkpoint-full-4")
    shutil.rmtree(run / "checkpoint-decoder-4")
    with pytest.raises(FileNotFoundError, match="no decoder checkpoint folder"):
        read_authors_checkpoint(run, step=4)
    (run / "checkpoint-encoder-20" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_authors_checkpoint(run, step=20)


def test_the_exported_configurations_carry_what_the_authors_read(exported):
    _, run = exported
    decoder = json.loads((run / "checkpoint-decoder-20" / "config.json").read_text())
    assert decoder["n_ctx"] == decoder["n_positions"] == 40
    assert decoder["latent_size"] == 6
