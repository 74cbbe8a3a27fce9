import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from optimus.config import OptimizerOptions
from optimus.data.text import Batches, Padding
from optimus.data.tokenizers import load_tokenizers, train_tokenizers
from optimus.metrics.dialog import read_generated
from optimus.models.spacefusion import SpaceFusion
from optimus.runtime.logs import read_metrics
from optimus.tasks.dialog import (
    PRESETS,
    EvaluateDialogConfig,
    FusionOptions,
    evaluate,
    load_dialogs,
    read_turns,
    train,
)
from optimus.tasks.training import build_optimizer

TURNS = [
    "hello there .\thow are you ?",
    "hello there . [SEP] how are you ?\ti am fine .",
    "where is the dog ?\tthe dog is in the garden .",
    "where is the dog ? [SEP] the dog is in the garden .\tand the cat ?",
]
STYLE = ["pray tell , where is the hound ?", "a most singular case .", "indeed , my dear friend ."]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialog")
    for split in ("train", "test"):
        (folder / f"{split}.txt").write_text("".join(f"{t}\n" for t in TURNS * 4))
    (folder / "style.txt").write_text("".join(f"{t}\n" for t in STYLE * 3))
    return folder


@pytest.fixture
def smoke(corpus, tmp_path):
    config = PRESETS["smoke"][1]
    data = replace(config.data, folder=corpus)
    return replace(config, run_dir=tmp_path / "run", data=data, device="cpu")


def assert_identical(one: SpaceFusion, other: SpaceFusion) -> None:
    theirs = other.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def test_a_run_can_be_evaluated_and_reloaded_whole(smoke, corpus):
    model = train(smoke)
    assert_identical(model, SpaceFusion.from_pretrained(smoke.run_dir / "model"))
    config = EvaluateDialogConfig(
        run_dir=smoke.run_dir, responses=3, max_contexts=4, batch_size=2, latents=4, device="cpu"
    )
    results = evaluate(config)
    assert (results["contexts"], results["responses"]) == (4, 12)
    written = json.loads((smoke.run_dir / "eval_results.trial.json").read_text())
    assert written.pop("provenance")["trial"]
    assert written == results
    turns = read_generated(smoke.run_dir / "eval_text_generation_results.txt")
    assert [len(turn.responses) for turn in turns] == [3] * 4
    dumped = np.load(smoke.run_dir / "latents.npz")
    assert dumped["features"].shape == (8, 8)
    config = replace(config, latents=0)
    random, human = (evaluate(replace(config, baseline=name)) for name in ("random", "human"))
    assert human["bleu_f1"] > 0.9 > random["bleu_f1"]
    said = smoke.run_dir / "eval_text_generation_results.txt"
    assert evaluate(replace(config, generated=said, max_contexts=0)) == results
    written = json.loads((smoke.run_dir / "eval_results_generated.json").read_text())
    about = written["provenance"]
    assert (about["data"], about["step"], about["settings"]) == (str(said), None, {})


def test_answers_are_scored_as_they_were_said(smoke, tmp_path, monkeypatch):
    said = ["it is , i do not know .", "yes , it 's fine !"]
    lines = "".join(f"hello . [SEP] is it ?\t{text}\n" for text in said)
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text(lines)
    train(smoke)

    def references(model, latents, sampling, **_):
        tokenizers = load_tokenizers(smoke.run_dir / "model" / "tokenizers")
        return [row for row in tokenizers.encode_decoder(said) for _ in range(len(latents) // 2)]

    monkeypatch.setattr("optimus.tasks.dialog.generate", references)
    config = EvaluateDialogConfig(
        run_dir=smoke.run_dir, data=tmp_path, responses=2, output_dir=tmp_path, device="cpu"
    )
    ours, human = evaluate(config), evaluate(replace(config, baseline="human"))
    assert ours["bleu_f1"] == human["bleu_f1"]
    cleaned = evaluate(replace(config, decoding=replace(config.decoding, clean=True)))
    assert cleaned["bleu_f1"] < human["bleu_f1"]


def test_style_sentences_train_a_branch_and_steer_responses(smoke, corpus):
    fusion = replace(smoke.fusion, style=corpus / "style.txt")
    train(replace(smoke, fusion=fusion, max_steps=2))
    assert read_metrics(smoke.run_dir)[0]["style"] > 0
    config = EvaluateDialogConfig(
        run_dir=smoke.run_dir,
        responses=2,
        max_contexts=2,
        style=corpus / "style.txt",
        style_degree=0.5,
        device="cpu",
    )
    results = evaluate(config)
    assert 0 <= results["style_ngram"] <= 1
    assert results["entropy_4"] >= 0


def test_the_copied_layers_are_none_of_the_new_ones(smoke):
    model = train(replace(smoke, max_steps=1))
    optimizer = build_optimizer(OptimizerOptions(lr=1e-3, new_lr=0.1), model)
    new = {id(one) for group in optimizer.param_groups if group["new"] for one in group["params"]}
    assert {name for name, one in model.named_parameters() if id(one) in new} == {
        "vae.encoder.head.weight",
        "vae.decoder.memory.weight",
        "vae.decoder.embedding.weight",
    }


def test_mistakes_are_told_in_one_sentence(corpus, tmp_path, fails):
    run = ("--run-dir", str(tmp_path / "run"), "--device", "cpu")
    message = fails("train-dialog", "smoke", *run, "--data.folder", str(tmp_path))
    assert "optimus prepare dailydialog" in message
    (tmp_path / "train.txt").write_text("a __eou__ b\tc\n")
    message = fails("train-dialog", "smoke", *run, "--data.folder", str(tmp_path))
    assert "has no separator [SEP]" in message
    deep = ("--data.folder", str(corpus), "--fusion.frozen-layers", "9")
    assert "9 frozen layers" in fails("train-dialog", "smoke", *run, *deep)
    (tmp_path / "glove.txt").write_text("a 1 2\n")
    score = ("evaluate-dialog", "--data", str(corpus), "--baseline", "human", "--output-dir")
    score += (str(tmp_path), "--glove")
    assert "200 are expected" in fails(*score, str(tmp_path / "glove.txt"))
    assert "no word vectors" in fails(*score, str(tmp_path / "none.txt"))


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"--fusion\.context-layers"):
        FusionOptions(context_layers=0)
    with pytest.raises(ValueError, match=r"--style-degree and .* need --style"):
        EvaluateDialogConfig(style_degree=1.0)


TWO_TURNS = "hello there .\thow are you ?\nhello there . [SEP] how are you ?\tfine .\n"


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(["hello there .", "how are you ?", "fine ."] * 4, 60, 290)


@pytest.mark.golden
def test_turns_become_the_authors_cache(golden_kind):
    folder = golden_kind("spacefusion", "dialog.txt")
    tokenizers = load_tokenizers(golden_kind("dialog_ctrl_tokenizer"))
    (cache,) = folder.glob("cached_*_dialog.json")
    expected = json.loads(cache.read_text())
    dialogs = load_dialogs(folder / "dialog.txt", tokenizers)
    assert len(dialogs) == len(expected)
    for i, entry in enumerate(expected):
        assert dialogs.contexts[i].tolist() == entry["bert_token_ctx"]
        assert dialogs.responses.encoder(i).tolist() == entry["bert_token"]
        assert dialogs.responses.decoder(i).tolist() == entry["gpt2_token"]


def test_contexts_stand_beside_their_responses(tokenizers, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(TWO_TURNS * 4)
    dialogs = load_dialogs(path, tokenizers)
    batch = next(Batches(dialogs.responses, 4, Padding(tokenizers.pad_id)))
    rows = dialogs.contexts_of(batch, tokenizers.encoder_pad_id)
    for row, number in zip(rows, batch.index.tolist(), strict=True):
        np.testing.assert_array_equal(
            row[row != tokenizers.encoder_pad_id], dialogs.contexts[number]
        )


def test_a_long_context_keeps_its_last_tokens(tokenizers, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(TWO_TURNS)
    whole = load_dialogs(path, tokenizers).contexts[1].tolist()
    cut = load_dialogs(path, tokenizers, max_tokens=6).contexts[1].tolist()
    assert cut == [tokenizers.cls_id, *whole[-5:]]


def test_contexts_beyond_the_encoders_positions_are_refused_before_the_first_step(
    smoke, monkeypatch
):
    monkeypatch.setattr("optimus.tasks.training.ENCODER_POSITIONS", 12)
    with pytest.raises(
        ValueError, match=r"has \d\d tokens and the encoder 12 positions; give --da"
    ):
        train(smoke)
    assert not smoke.run_dir.exists()


def test_other_separators_count_as_one(tokenizers, tmp_path):
    (tmp_path / "a").write_text("hello . EOS fine .\tfine .\n")
    (tmp_path / "b").write_text("hello . [SEP] fine .\tfine .\n")
    a, b = (load_dialogs(tmp_path / name, tokenizers).contexts[0].tolist() for name in "ab")
    assert a == b


def test_lines_without_two_sides_are_named(tokenizers, tmp_path):
    path = tmp_path / "train.txt"
    for line in ("hello", "a\tb\tc"):
        path.write_text(f"a\tb\n\n{line}\n")
        with pytest.raises(ValueError, match=r"line 3: it is not `context TAB response`"):
            list(read_turns(path))
    path.write_text("\n")
    with pytest.raises(ValueError, match="no dialog turn"):
        load_dialogs(path, tokenizers)
    path.write_text("hello\thi\nhello\t\u00ad\n")
    with pytest.raises(ValueError, match=r"'hello / .*' has a side of which BERT's normalisation"):
        load_dialogs(path, tokenizers)
    with pytest.raises(FileNotFoundError, match="dailydialog"):
        load_dialogs(tmp_path / "none", tokenizers)
