"""A run that an older commit saved is continued by this one to the same loss and weights.

``tests/compat/run.zip`` holds step 4 of a run of 5, and the model and metrics of step 5; it is made
by ``python tests/test_compatibility.py``, and again only where a format changes on purpose.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, GPT2Config

from optimus.api import SentenceVAE
from optimus.config import ModelOptions, OptimizerOptions
from optimus.data.tokenizers import train_tokenizers
from optimus.data.toy import write_toy
from optimus.models.vae import OptimusConfig, OptimusModel
from optimus.runs import open_run
from optimus.runtime.download import extract
from optimus.runtime.logs import read_metrics
from optimus.tasks.language_model import TrainConfig, train

ARCHIVE = Path(__file__).parent / "compat" / "run.zip"
TOLERANCE = 1e-6


@pytest.fixture
def saved(tmp_path) -> Path:
    extract(ARCHIVE, tmp_path / "saved")
    return tmp_path / "saved"


def continued(run: Path) -> TrainConfig:
    """The configuration of the saved run with the places of this machine."""
    config = open_run(run).config
    data = replace(config.data, folder=run / "corpus")
    return replace(config, run_dir=run, data=data, device="cpu")


def test_a_saved_run_goes_on_to_the_recorded_loss_and_weights(saved, tmp_path, caplog):
    caplog.set_level("INFO")
    torch.set_num_threads(1)
    run = tmp_path / "run"
    shutil.copytree(saved, run)
    shutil.copytree(saved / "model" / "tokenizers", run / "tokenizers")  # kept once in the archive
    train(continued(run))
    assert "continuing from step 4" in caplog.text
    ours, recorded = read_metrics(run), read_metrics(saved)
    assert [row["step"] for row in ours] == [row["step"] for row in recorded]
    for row, expected in zip(ours, recorded, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            assert abs(row[name] - value) <= TOLERANCE * (1 + abs(value)), name
    weights, expected = (load_file(each / "model/model.safetensors") for each in (run, saved))
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_saved_model_is_read_and_answers(saved):
    vae = SentenceVAE.from_pretrained(saved / "model")
    sentence = (saved / "corpus" / "train.txt").read_text().splitlines()[0]
    assert vae.encode([sentence]).shape == (1, 2)
    assert isinstance(vae.reconstruct([sentence])[0], str)


def make(archive: Path) -> None:
    """Write the smallest run there is: width 4, one layer on each side."""
    folder = Path(tempfile.mkdtemp())
    run, init = folder / "run", folder / "init"
    corpus = write_toy(run / "corpus", sizes=(24, 4, 4))
    tokenizers = train_tokenizers((corpus / "train.txt").read_text().splitlines(), 60, 270)
    sizes = {"vocab_size": tokenizers.encoder_vocab_size, "max_position_embeddings": 32}
    bert = BertConfig(
        hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4, **sizes
    )
    gpt2 = GPT2Config(
        vocab_size=tokenizers.decoder_vocab_size, n_embd=4, n_layer=1, n_head=1, n_positions=64
    )
    torch.manual_seed(0)
    model = OptimusModel(OptimusConfig(bert=bert, gpt2=gpt2, latent_dim=2))
    model.encoder.head.weight.data.mul_(100)  # away from the prior, so that the KL counts
    SentenceVAE(model, tokenizers).save_pretrained(init)
    config = TrainConfig(run_dir=run, max_steps=5, save_every=4, log_every=1, eval_every=0)
    options = ModelOptions(latent_dim=2, init=(init,), vocabulary=str(init / "tokenizers"))
    data = replace(config.data, folder=corpus, batch_size=8)
    train(replace(config, model=options, data=data, optimizer=OptimizerOptions(lr=1e-3)))
    for leftover in ("checkpoints/00000005", "events", "tokenizers", "corpus/.cache"):
        shutil.rmtree(run / leftover, ignore_errors=True)
    for leftover in (".lock", "log.txt", "corpus/test.txt"):
        (run / leftover).unlink(missing_ok=True)
    text = (run / "config.json").read_text()
    text = text.replace(str(run), "run").replace(str(init), "run/model")
    (run / "config.json").write_text(text)
    archive.parent.mkdir(exist_ok=True)
    shutil.make_archive(str(archive.with_suffix("")), "zip", run)


if __name__ == "__main__":
    make(ARCHIVE)
