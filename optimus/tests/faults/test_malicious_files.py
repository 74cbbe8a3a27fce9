"""Files that carry code: every kind that is read, with a canary that must never appear."""

import argparse
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from factories import tiny_vae
from hostile import Bomb, written

from optimus.api import SentenceVAE
from optimus.config import ModelOptions
from optimus.data.text import open_sentences, read_authors_json
from optimus.data.toy import toy_sentences
from optimus.page.plots import PlotConfig, plot
from optimus.released.checkpoints import ALLOWED, read_authors_checkpoint
from optimus.runtime.checkpoint import Checkpoint, Progress
from optimus.runtime.files import digest
from optimus.runtime.weight_files import read_weight_file
from optimus.tasks.judge import Judge
from optimus.tasks.language_scores import EvaluateConfig, evaluate
from optimus.tasks.training import build_model

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


KINDS = ["zip", "legacy", "pickle", "global"]


def test_the_canary_would_appear_if_a_file_were_run(tmp_path):
    for kind in ("pickle", "global"):
        path = written(kind, tmp_path / kind, tmp_path / "file.bin")
        with path.open("rb") as file:
            pickle.load(file)
        assert (tmp_path / kind).exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".pkl", ".safetensors"])
def test_a_file_of_weights_is_refused_by_name(tmp_path, canary, kind, suffix):
    path = written(kind, canary, tmp_path / f"weights{suffix}")
    with pytest.raises(ValueError, match=path.name):
        read_weight_file(path, ALLOWED)


def test_a_namespace_cannot_smuggle_in_a_call(tmp_path, canary):
    arguments = argparse.Namespace(device=torch.device("cpu"), inner=Bomb(canary))
    torch.save(arguments, tmp_path / "args.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"refused.*system"):
        read_weight_file(tmp_path / "args.bin", ALLOWED)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_the_authors_is_refused(tmp_path, canary, kind):
    written(kind, canary, tmp_path / "checkpoint-full-1" / "training.bin")
    with pytest.raises(ValueError, match=r"training\.bin"):
        read_authors_checkpoint(tmp_path)


def test_a_training_command_refuses_it_in_one_sentence(job, tmp_path, canary):
    written("global", canary, tmp_path / "authors" / "checkpoint-full-1" / "training.bin")
    tiny_vae(toy_sentences(40)).tokenizers.save(tmp_path / "vocabulary")
    words = [*job.command(tmp_path / "run", 2, 2), "--model.init", str(tmp_path / "authors")]
    outcome = job.run([*words, "--model.vocabulary", str(tmp_path / "vocabulary")])
    assert outcome.codes == [2]
    assert "training.bin is refused" in outcome.sentence


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_a_run_is_refused_even_with_a_right_digest(tmp_path, canary, kind):
    model, progress = torch.nn.Linear(2, 2), Progress()
    Checkpoint(tmp_path, model=model, progress=progress).save(3)
    folder = tmp_path / "checkpoints" / "00000003"
    written(kind, canary, folder / "model.pt")
    digests = json.loads((folder / "digest.json").read_text())
    digests["model"] = digest(folder / "model.pt")
    (folder / "digest.json").write_text(json.dumps(digests))
    with pytest.raises(ValueError, match=r"model\.pt is refused"):
        Checkpoint(tmp_path, model=model, progress=progress).load_latest()


def test_the_study_of_reconstruction_study_refuses_one(job, tmp_path, canary):
    run = tmp_path / "run"
    assert job.run(job.command(run, 2, 2)).codes == [0]
    folder = run / "checkpoints" / "00000002"
    written("zip", canary, folder / "model.pt")
    digests = json.loads((folder / "digest.json").read_text())
    digests["model"] = digest(folder / "model.pt")
    (folder / "digest.json").write_text(json.dumps(digests))
    with pytest.raises(ValueError, match=r"model\.pt is refused"):
        evaluate(EvaluateConfig(run_dir=run, reconstruction_study=True, samples=2, device="cpu"))


@pytest.fixture
def model(tmp_path):
    tiny_vae(toy_sentences(40)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_folder_with_a_torch_file_for_weights_is_refused(model, canary, kind):
    (model / "model.safetensors").unlink()
    written(kind, canary, model / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"model\.safetensors"):
        SentenceVAE.from_pretrained(model)
    written(kind, canary, model / "model.safetensors")
    with pytest.raises(ValueError, match=r"no readable model\.safetensors"):
        SentenceVAE.from_pretrained(model)


@pytest.mark.parametrize("kind", KINDS)
def test_public_weights_with_code_in_them_are_refused(model, tmp_path, canary, kind):
    whole = SentenceVAE.from_pretrained(model)
    for part, module in (("bert", whole.model.encoder.bert), ("gpt2", whole.model.decoder.gpt2)):
        module.save_pretrained(tmp_path / part)
    (tmp_path / "gpt2" / "model.safetensors").unlink()
    written(kind, canary, tmp_path / "gpt2" / "pytorch_model.bin")
    options = ModelOptions(init=(tmp_path / "bert", tmp_path / "gpt2"))
    with pytest.raises(ValueError, match=r"were refused or are damaged, nothing in them was run"):
        build_model(options, whole.tokenizers)


def test_code_that_a_configuration_names_is_not_imported(model, canary):
    (model / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Model: ...\n")
    settings = json.loads((model / "config.json").read_text())
    settings["auto_map"] = {"AutoModel": "evil.Model", "AutoConfig": "evil.Model"}
    settings["bert"]["auto_map"] = settings["gpt2"]["auto_map"] = settings["auto_map"]
    (model / "config.json").write_text(json.dumps(settings))
    assert SentenceVAE.from_pretrained(model).encode(["the dog ."]).shape == (1, 6)


def test_a_classifier_with_a_pickled_head_is_refused(tmp_path, model, canary):
    folder = tmp_path / "judge"
    shutil.copytree(model / "tokenizers", folder / "tokenizers")
    vae = SentenceVAE.from_pretrained(model)
    vae.model.encoder.bert.save_pretrained(folder / "bert")
    (folder / "classifier.json").write_text(json.dumps({"names": ["0", "1"], "max_tokens": 9}))
    written("pickle", canary, folder / "head.safetensors")
    with pytest.raises(ValueError, match=r"head\.safetensors"):
        Judge.load(folder)


def test_features_with_pickled_objects_are_refused(tmp_path, canary):
    bombs = np.array([Bomb(canary)] * 6, dtype=object)
    np.savez(tmp_path / "features.npz", features=bombs, labels=np.arange(6), names=["a"] * 6)
    with pytest.raises(ValueError, match=r"features\.npz"):
        plot(PlotConfig(features=tmp_path / "features.npz", output_dir=tmp_path))


@pytest.mark.parametrize("content", ["pickle", "deep", "call"])
def test_a_json_shard_is_only_ever_data(tmp_path, canary, content):
    path = tmp_path / "shard.json"
    if content == "pickle":
        written("pickle", canary, path)
    else:
        call = f'__import__("os").system("touch {canary}")'
        path.write_text("[" * 200_000 if content == "deep" else call)
    with pytest.raises(ValueError, match=r"shard\.json is not in the authors' JSON format"):
        read_authors_json(path)


@pytest.mark.parametrize("size", [0, 7, 1 << 62])
def test_a_token_file_with_a_lying_header_is_refused(tmp_path, canary, size):
    path = written("pickle", canary, tmp_path / "shard-00000.safetensors")
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes())
    with pytest.raises(ValueError, match="no file of tokenised sentences"):
        open_sentences(path)


def test_text_that_looks_like_code_is_text(tmp_path, canary, model):
    line = f'__import__("os").system("touch {canary}") $(touch {canary}) `touch {canary}`'
    vae = SentenceVAE.from_pretrained(model)
    assert vae.encode([line]).isfinite().all()
