"""What the authors' code wrote is read whole: every tensor reported, none missing or unexpected."""

from __future__ import annotations

import argparse
import json
import shutil

import numpy as np
import pytest
import torch
from factories import tiny_batch, tiny_model
from safetensors.torch import load_file, save_file

from optimus.data.text import read_authors_json
from optimus.models.vae import OptimusModel
from optimus.released.checkpoints import (
    ALLOWED,
    ConvertConfig,
    assemble,
    authors_name,
    convert,
    export_authors_checkpoint,
    import_checkpoint,
    load_authors_checkpoint,
    load_tensors,
    main,
    our_name,
    read_authors_checkpoint,
)
from optimus.runtime.weight_files import read_weight_file

LINEAR_EMB = "decoder.transformer.linear_emb.weight"


@pytest.mark.golden
def test_recorded_folders_are_imported_whole_and_exported_again(golden_kind, tmp_path):
    folder = golden_kind("checkpoints")
    theirs = read_authors_checkpoint(folder)
    model, report = load_authors_checkpoint(folder)
    assert report.missing == report.unexpected == ()
    assert len(report.rows) == len(theirs.tensors)
    export_authors_checkpoint(model, tmp_path, step=1)
    ours = read_authors_checkpoint(tmp_path)
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name, value in theirs.tensors.items():
        assert torch.equal(ours.tensors[name], value), name


@pytest.mark.golden
@pytest.mark.parametrize("part", ["encoder", "decoder", "full"])
def test_every_recorded_part_holds_the_same_weights(part, golden_kind):
    folder = golden_kind("checkpoints")
    paths = sorted(folder.glob(f"checkpoint-{part}-*"))
    if not paths:
        pytest.skip(f"{folder} has no checkpoint-{part}-STEP")
    model, _ = load_authors_checkpoint(paths[-1])
    whole, _ = load_authors_checkpoint(folder)
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_an_exported_model_comes_back_the_same(tmp_path):
    model = tiny_model()
    report = export_authors_checkpoint(model, tmp_path, step=7)
    assert {row.status for row in report.rows} == {"copied", "new"}
    again, report = load_authors_checkpoint(tmp_path)
    assert (report.missing, report.unexpected) == ((), ())
    assert report.text().endswith("0 missing, 0 unexpected")
    batch = tiny_batch(model)
    eps = torch.randn(3, 1, 6)
    assert torch.equal(again(*batch, eps=eps).total, model(*batch, eps=eps).total)


def test_names_go_there_and_back():
    model = tiny_model()
    for name, _ in model.named_parameters():
        assert our_name(authors_name(name)) == name


def changed(**tensors):
    """The tensors of a tiny model, some replaced or, where None, left out."""
    model = tiny_model()
    found = {authors_name(name): value for name, value in model.state_dict().items()}
    found |= {name.replace("__", "."): value for name, value in tensors.items()}
    kept = {name: value for name, value in found.items() if value is not None}
    heads = {"num_attention_heads": 4}, {"n_head": 4}
    return model, assemble(kept, *heads)


def test_a_checkpoint_of_the_memory_alone_gets_a_zero_embedding_connector():
    model, checkpoint = changed(**{LINEAR_EMB: None})
    again, report = import_checkpoint(checkpoint)
    assert not again.decoder.embedding.weight.any()
    assert "linear_emb" in report.text()
    _, ids = tiny_batch(model)
    latent = torch.randn(3, 6)
    model.decoder.embedding.weight.data.zero_()
    torch.testing.assert_close(again.decoder.nll(ids, latent), model.decoder.nll(ids, latent))


@pytest.mark.parametrize("inject", ["memory", "embedding"])
def test_the_injection_can_be_said_since_their_files_do_not(inject):
    _, checkpoint = changed()
    again, report = import_checkpoint(checkpoint, inject=inject)
    assert again.config.inject == inject
    assert [row.status for row in report.rows].count("unused") == 1


@pytest.mark.parametrize("latent_dim", [1, 5, 768])
def test_the_latent_size_is_read_from_the_weights(latent_dim, tmp_path):
    model = tiny_model(latent_dim=latent_dim)
    export_authors_checkpoint(model, tmp_path)
    assert load_authors_checkpoint(tmp_path)[0].config.latent_dim == latent_dim
    with pytest.raises(ValueError, match=f"--latent-dim 99 contradicts .* have {latent_dim}"):
        load_authors_checkpoint(tmp_path, latent_dim=99)


def test_a_decoder_without_special_tokens_gains_them():
    width = 32
    words = torch.zeros(50257, width)
    _, checkpoint = changed(decoder__transformer__wte__weight=words, decoder__lm_head__weight=words)
    model, report = import_checkpoint(checkpoint)
    rows = model.decoder.gpt2.transformer.wte.weight
    assert rows.shape == (50260, width)
    assert not rows[:50257].any()
    assert rows[50257:].std().item() == pytest.approx(0.02, rel=0.3)
    assert model.config.eos_token_id == 50259
    assert "3 new rows" in report.text()


def test_misfits_are_named():
    other = {"decoder.transformer.linear.weight": torch.zeros(64, 4)}
    with pytest.raises(ValueError, match=r"has 6 dimensions and the decoder's 4"):
        import_checkpoint(changed(**other)[1])
    with pytest.raises(ValueError, match=r"missing \['encoder\.bert\.pooler\.dense\.bias'\]"):
        import_checkpoint(changed(encoder__pooler__dense__bias=None)[1])
    with pytest.raises(ValueError, match=r"unexpected \['encoder\.extra'\]"):
        import_checkpoint(changed(encoder__extra=torch.ones(1))[1])
    with pytest.raises(ValueError, match="plain BERT"):
        import_checkpoint(changed(encoder__linear__weight=None)[1])
    with pytest.raises(ValueError, match="no place for inject='embedding'"):
        export_authors_checkpoint(tiny_model(inject="embedding"), None)


def test_the_command_goes_both_ways(tmp_path, capsys):
    model = tiny_model()
    model.save_pretrained(tmp_path / "ours")
    options = ["--source", str(tmp_path / "ours"), "--target", str(tmp_path / "theirs")]
    main([*options, "--direction", "export", "--step", "12"])
    assert (tmp_path / "theirs" / "checkpoint-full-12" / "training.bin").is_file()
    main(["--source", str(tmp_path / "theirs"), "--target", str(tmp_path / "back")])
    assert "0 missing, 0 unexpected" in capsys.readouterr().out
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("ours", "back"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert OptimusModel.from_pretrained(tmp_path / "back").config.inject == "both"


def test_tokenizers_are_kept_beside_the_model_if_they_fit(golden_kind, tmp_path):
    toy = golden_kind("toy_tokenizer")
    source = golden_kind("checkpoints")
    convert(ConvertConfig(source, tmp_path / "model", tokenizers=toy))
    assert (tmp_path / "model" / "tokenizers" / "tokenizers.json").is_file()
    export_authors_checkpoint(tiny_model(), tmp_path / "other")
    with pytest.raises(ValueError, match="decoder tokens, the model 50"):
        convert(ConvertConfig(tmp_path / "other", tmp_path / "new", tokenizers=toy))


def test_a_folder_without_a_model_cannot_be_exported(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        convert(ConvertConfig(tmp_path, tmp_path / "out", direction="export"))


def test_a_decoder_alone_becomes_a_language_model(tmp_path):
    model = tiny_model()
    export_authors_checkpoint(model, tmp_path)
    _, ids = tiny_batch(model)
    expected = model.decoder.nll(ids, None)
    whole, report = load_authors_checkpoint(tmp_path, inject="none")
    assert (report.missing, report.unexpected) == ((), ())
    for part in ("encoder", "full"):
        shutil.rmtree(tmp_path / f"checkpoint-{part}-0")
    with pytest.raises(FileNotFoundError, match=r"no encoder checkpoint folder; .* --inject none"):
        load_authors_checkpoint(tmp_path)
    alone, report = load_authors_checkpoint(tmp_path, inject="none")
    assert [row.status for row in report.rows].count("unused") == 2
    for found in (whole, alone):
        assert found.encoder is None
        torch.testing.assert_close(found(None, ids).total, expected)


def test_twelve_layers_have_as_many_tensors_as_the_released_models(tmp_path):
    model = tiny_model(layers=12)
    rows = export_authors_checkpoint(model, tmp_path).rows
    theirs = [row.theirs for row in rows]
    assert sum(name.startswith("encoder.") for name in theirs) == 200
    assert sum(name.startswith("decoder.") for name in theirs) == 163
    assert len(load_authors_checkpoint(tmp_path)[1].rows) == 363


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


@pytest.mark.golden
def test_recorded_folders_load_with_a_report_of_every_tensor(golden_kind):
    folder = golden_kind("checkpoints")
    theirs = read_authors_checkpoint(folder)
    _, report = load_authors_checkpoint(folder)
    assert (report.missing, report.unexpected) == ((), ())
    assert {row.theirs for row in report.rows} == theirs.tensors.keys()
    assert report.text().endswith("0 missing, 0 unexpected")
    for name in theirs.tensors:
        assert name in report.text()


@pytest.mark.golden
def test_every_recorded_torch_file_is_read_without_running_it(golden_kind):
    files = sorted(golden_kind("checkpoints").rglob("*.bin"))
    assert files
    for path in files:
        assert read_weight_file(path, ALLOWED) is not None


@pytest.mark.golden
def test_recorded_token_caches_are_read(golden_kind):
    caches = sorted(golden_kind("dataloader").glob("cached_lm_gpt_bert_*.json"))
    assert caches
    for cache in caches:
        assert len(read_authors_json(cache))


@pytest.mark.parametrize("layers", [1, 12])
def test_folders_of_any_depth_load_whole(layers, tmp_path):
    model = tiny_model(layers=layers)
    export_authors_checkpoint(model, tmp_path, step=31250)
    again, report = load_authors_checkpoint(tmp_path)
    assert (report.missing, report.unexpected) == ((), ())
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("zipped", [True, False])
def test_what_the_authors_save_is_read(zipped, tmp_path):
    content = {
        "iter": 3,
        "beta": np.float64(0.5),
        "args": argparse.Namespace(device=torch.device("cpu"), name="x"),
        "model_state_dict": {"weight": torch.arange(6.0).view(2, 3)},
    }
    torch.save(content, tmp_path / "training.bin", _use_new_zipfile_serialization=zipped)
    found = read_weight_file(tmp_path / "training.bin", ALLOWED)
    assert (found["iter"], float(found["beta"]), found["args"].name) == (3, 0.5, "x")
    assert torch.equal(
        load_tensors(tmp_path / "training.bin")["weight"], content["model_state_dict"]["weight"]
    )


def test_safetensors_are_read_too(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert torch.equal(load_tensors(tmp_path / "a.safetensors")["a"], torch.ones(2))


def test_broken_files_are_named(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "whole.bin")
    data = (tmp_path / "whole.bin").read_bytes()
    for name, content in (("cut.bin", data[:-500]), ("empty.bin", b""), ("x.safetensors", b"{}")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            read_weight_file(tmp_path / name, ALLOWED)
    torch.save({"a": 1}, tmp_path / "none.bin")
    with pytest.raises(ValueError, match="no tensors by name"):
        load_tensors(tmp_path / "none.bin")
    with pytest.raises(FileNotFoundError, match=r"gone\.bin"):
        read_weight_file(tmp_path / "gone.bin", ALLOWED)
