"""Every kind of run trains on two ranks, and loses no checkpoint where its weights find no room."""

import resource
import signal

import pytest
import torch
from factories import write_network
from jobs import Job, states, steps_of

from optimus.__main__ import main
from optimus.data.toy import labeled_sentences, toy_sentences
from optimus.tasks.language_model import LanguageModelTraining

TURNS = ["hello there .\thow are you ?", "hello there . [SEP] how are you ?\ti am fine ."] * 8


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text("".join(f"{turn}\n" for turn in TURNS))
    rows = [f"{label}\t{text}\n" for label, text in labeled_sentences(24, 0, "number")]
    (folder / "labeled.tsv").write_text("".join(rows))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "train-dialog smoke --data.folder FOLDER --eval-every 2",
        "train-label-control smoke --data.train FOLDER/labeled.tsv --eval-every 2 "
        "--data.test FOLDER/labeled.tsv --data.valid FOLDER/labeled.tsv",
        "train-classifier smoke --data.task labeled --data.folder FOLDER/labeled.tsv "
        "--data.test FOLDER/labeled.tsv --seeds 1",
    ],
    ids=lambda command: command.split()[0],
)
def test_two_ranks_train_together_and_go_on(corpora, tmp_path, command):
    job = Job(main, tuple(command.replace("FOLDER", str(corpora)).split()))
    words = job.command(tmp_path / "run", 2, 2)
    for _ in range(2):
        outcome = job.run(words, ranks=2)
        assert outcome.codes == [0, 0], outcome.text
    assert (tmp_path / "run" / "model" / "tokenizers").is_dir()


@pytest.mark.parametrize("start", ["fresh", "data"])
def test_two_ranks_train_other_networks_as_one_does(job, tmp_path, start):
    lines, found = toy_sentences(60), []
    networks = [
        write_network(tmp_path / kind, kind, lines, decoder)
        for kind, decoder in (("roberta", False), ("qwen2", True))
    ]
    more = f"--model.init {networks[0]} {networks[1]} --model.dropout 0 --model.latent-dim 6"
    more += f" --model.start {start} --objective.kind autoencoder --model.checkpointing"
    for ranks in (1, 2):
        words = job.command(tmp_path / str(ranks), 3, 3)
        outcome = job.run([*words, *more.split()], ranks=ranks)
        assert outcome.codes == [0] * ranks, outcome.text
        found.append(states(tmp_path / str(ranks))["model"])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_weights_that_find_no_room_cost_no_checkpoint(job, tmp_path):
    def full(rank: int) -> None:
        """The kernel refuses to let a file of the process grow beyond 5000 bytes."""
        export = LanguageModelTraining.export

        def limited(self, run_dir, name):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
            export(self, run_dir, name)

        LanguageModelTraining.export = limited

    run = tmp_path / "run"
    outcome = job.run(job.command(run, 6, 2), before=full)
    assert outcome.codes == [2]
    assert f"could not write the weights to {run / 'model'}" in outcome.sentence
    assert steps_of(run) == [2]
    assert not list(run.glob(".*.partial"))
    assert job.run(job.command(run, 6, 2)).codes == [0]
    assert (run / "model" / "model.safetensors").exists()
