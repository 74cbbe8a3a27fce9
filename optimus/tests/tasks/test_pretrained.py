"""`optimus train --model.init ENCODER DECODER` with networks other than the paper's."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import tiny_pretrained, write_network
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from optimus.api import SentenceVAE
from optimus.config import ModelOptions, OptimizerOptions
from optimus.data.pretrained_tokenizers import read_pretrained_tokenizers
from optimus.data.tokenizers import load_tokenizers
from optimus.data.toy import labeled_sentences, toy_sentences, write_toy
from optimus.models.pretrained import without_lora
from optimus.models.vae import OptimusModel
from optimus.released.checkpoints import export_authors_checkpoint
from optimus.runtime.logs import read_metrics
from optimus.tasks import pretrained
from optimus.tasks.classifier import PRESETS as CLASSIFIERS, build_classifier
from optimus.tasks.dialog import PRESETS as DIALOG, build_fusion
from optimus.tasks.judge import Judge
from optimus.tasks.label_control import (
    PRESETS as CONTROL,
    EvaluateControlConfig,
    evaluate as evaluate_control,
    train as train_control,
)
from optimus.tasks.language_model import PRESETS, train
from optimus.tasks.language_scores import EvaluateConfig, evaluate
from optimus.tasks.training import build_model, build_optimizer, parameter_groups

LINES = toy_sentences(60)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), sizes=(80, 12, 12))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folders of a BERT and of a Llama."""
    place = tmp_path_factory.mktemp("networks")
    return (
        write_network(place / "encoder", "bert", LINES, decoder=False),
        write_network(place / "decoder", "llama", LINES, decoder=True),
    )


@pytest.fixture
def smoke(corpus, networks, tmp_path):
    config = PRESETS["smoke"][1]
    return replace(
        config,
        run_dir=tmp_path / "run",
        model=ModelOptions(latent_dim=6, init=networks, pooling="mean", dropout=0.0),
        data=replace(config.data, folder=corpus),
        device="cpu",
    )


@pytest.fixture
def copies(networks, tmp_path):
    """Folders that a test may spoil."""
    return tuple(shutil.copytree(one, tmp_path / one.name) for one in networks)


def back_to_half(config, tmp_path):
    """The same run as it was after step 3."""
    halves = replace(config, run_dir=tmp_path / "halves")
    shutil.copytree(config.run_dir, halves.run_dir)
    shutil.rmtree(halves.run_dir / "checkpoints" / "00000006")
    return halves


def test_a_run_continues_exactly_and_can_be_used_without_the_folders(smoke, copies, tmp_path):
    options = replace(smoke.model, init=copies, start="data", start_sentences=40)
    smoke = replace(smoke, model=options, optimizer=OptimizerOptions(lr=1e-3, new_lr=1e-2))
    whole, halves = train(smoke), back_to_half(smoke, tmp_path)
    for folder in copies:
        shutil.rmtree(folder)
    for name, value in train(halves).state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
    vae = SentenceVAE.from_pretrained(smoke.run_dir)
    text = "the dog sees a ball in the field ."
    assert torch.equal(vae.encode(text), SentenceVAE.from_pretrained(halves.run_dir).encode(text))
    assert len(vae.decode(vae.encode([text, text]))) == 2
    scores = evaluate(EvaluateConfig(run_dir=smoke.run_dir, samples=5, device="cpu"))
    assert scores["perplexity"] > 1
    saved = json.loads((smoke.run_dir / "model" / "config.json").read_text())
    assert (saved["encoder"]["model_type"], saved["decoder"]["model_type"]) == ("bert", "llama")
    assert (saved["pooling"], saved["model_type"]) == ("mean", "optimus")


def test_a_start_from_data_gives_white_means_and_slots_like_the_decoders(smoke, caplog):
    caplog.set_level("INFO")
    options = replace(smoke.model, start="data", start_sentences=80)
    first = replace(smoke, model=options, max_steps=1, optimizer=OptimizerOptions(lr=1e-12))
    model = train(first).eval()
    assert "start from 80 sentences" in caplog.text
    vae = SentenceVAE(model, load_tokenizers(first.run_dir / "tokenizers"))
    means = vae.encode((first.data.folder / "train.txt").read_text().splitlines())
    torch.testing.assert_close(means.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(means.T @ means / len(means), torch.eye(6), atol=1e-3, rtol=0)
    assert (model.encoder.head.bias[6:] == -3).all()
    start = model.decoder.start(None)
    model.decoder.advance(start, torch.full((1, 1), model.config.bos_token_id))
    for slot, layer in zip(model.decoder.slots(torch.zeros(1, 6)), start.cache.layers, strict=True):
        torch.testing.assert_close(slot.key, layer.keys)
        torch.testing.assert_close(slot.value, layer.values)


def test_more_dimensions_than_axes_are_refused(smoke):
    options = replace(smoke.model, start="data", start_sentences=4)
    with pytest.raises(ValueError, match=r"--model\.latent-dim 6 is more than the 3 axes"):
        train(replace(smoke, model=options))
    assert not smoke.run_dir.exists()


def test_a_frozen_network_stays_and_the_rest_learns(smoke, networks):
    options = replace(smoke.model, train_encoder="frozen", checkpointing=True)
    model = train(replace(smoke, model=options, optimizer=OptimizerOptions(lr=1e-2)))
    before = AutoModel.from_pretrained(networks[0], add_pooling_layer=False).state_dict()
    for name, value in model.encoder.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    old = AutoModelForCausalLM.from_pretrained(networks[1]).state_dict()
    moved = [
        not torch.equal(value[: len(old[name])], old[name])
        for name, value in model.decoder.network.state_dict().items()
    ]
    assert all(moved)


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
def test_lora_is_trained_continued_and_merged_into_what_is_saved(smoke, tmp_path):
    options = replace(smoke.model, train_encoder="lora", train_decoder="lora", lora_rank=2)
    smoke = replace(smoke, model=options, optimizer=OptimizerOptions(lr=1e-2))
    whole, halves = train(smoke), back_to_half(smoke, tmp_path)
    for name, value in train(halves).state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
    trained = {name for name, one in whole.named_parameters() if one.requires_grad}
    assert all(pretrained.is_new(name) for name in trained)
    assert any("lora_A" in name for name in trained)
    plain = OptimusModel.from_pretrained(smoke.run_dir / "model")
    merged = without_lora(whole.state_dict(), plain)
    assert {*merged} == {*plain.state_dict()}
    ids = torch.randint(5, 40, (2, 6))
    with torch.no_grad():
        ours, theirs = (one.eval()(ids, ids, eps=torch.zeros(2, 1, 6)) for one in (whole, plain))
    torch.testing.assert_close(ours.total, theirs.total, rtol=1e-4, atol=1e-4)
    earlier = SentenceVAE.from_pretrained(smoke.run_dir, step=3)
    assert {*earlier.model.state_dict()} == {*merged}


def test_what_an_encoder_cannot_do_names_the_option(smoke, networks, tmp_path):
    albert = write_network(tmp_path / "albert", "albert", LINES, decoder=False)
    options = replace(smoke.model, init=(albert, networks[1]), checkpointing=True)
    with pytest.raises(ValueError, match=r"--model\.checkpointing: AlbertModel does not support"):
        train(replace(smoke, model=options))
    reader = write_network(tmp_path / "fnet", "fnet", LINES, decoder=False)
    options = replace(smoke.model, init=(reader, networks[1]))
    with pytest.raises(ValueError, match="fnet cannot be an encoder: its vector of a sentence"):
        train(replace(smoke, model=options))
    assert not smoke.run_dir.exists()


def test_lora_without_peft_is_one_sentence(smoke, monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    options = replace(smoke.model, train_decoder="lora")
    with pytest.raises(ValueError, match=r"--model\.train-decoder lora needs peft"):
        train(replace(smoke, model=options))


def test_a_language_model_without_a_latent_is_the_network_alone(smoke):
    options = replace(smoke.model, inject="none")
    objective = replace(smoke.objective, kind="language-model")
    model = train(replace(smoke, model=options, objective=objective))
    assert model.encoder is None
    assert "perplexity_word" in evaluate(EvaluateConfig(run_dir=smoke.run_dir, device="cpu"))


def test_new_and_pretrained_parts_have_learning_rates_of_their_own(smoke, networks):
    tokenizers = pretrained.read_tokenizers(smoke.model, networks)
    model = build_model(smoke.model, tokenizers)
    config = replace(smoke, max_steps=2, optimizer=OptimizerOptions(lr=1e-3, new_lr=0.1))
    before = {name: one.clone() for name, one in model.named_parameters()}
    after = dict(train(config).named_parameters())
    moved = {name: float((after[name] - one).detach().abs().max()) for name, one in before.items()}
    new = {name: size for name, size in moved.items() if pretrained.is_new(name)}
    assert {name.rsplit(".", 1)[0] for name in new} == {
        "encoder.head",
        "decoder.memory",
        "decoder.embedding",
    }
    assert max(new.values()) > 0.05 > 0.01 > max(moved[name] for name in moved.keys() - new.keys())
    assert len(parameter_groups(model, 0.1)) == 2


def test_the_default_pooling_is_what_the_folder_says(copies, smoke):
    encoder, decoder = copies

    def pooling() -> str:
        options = ModelOptions(init=(encoder, decoder))
        tokenizers = pretrained.read_tokenizers(options, (encoder, decoder))
        return build_model(options, tokenizers).config.pooling

    assert pooling() == "pooler"
    tensors = load_file(encoder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "pooler" not in name}
    save_file(kept, encoder / "model.safetensors", metadata={"format": "pt"})
    assert pooling() == "cls"
    (encoder / "1_Pooling").mkdir()
    file = encoder / "1_Pooling" / "config.json"
    for mean in (
        {"pooling_mode_mean_tokens": True, "include_prompt": True},
        {"pooling_mode": "mean"},
    ):
        file.write_text(json.dumps(mean))
        assert pooling() == "mean"
    for other in ("max_tokens", "cls_token"):
        file.write_text(
            json.dumps({"pooling_mode_mean_tokens": True, f"pooling_mode_{other}": True})
        )
        with pytest.raises(
            ValueError, match=f"asks for pooling_mode_mean_tokens and .*{other}, which"
        ):
            pooling()
    file.write_text('{"pooling_mode": "lasttoken"}')
    with pytest.raises(ValueError, match=r"asks for lasttoken, which .* say with --model\.pooling"):
        pooling()


@pytest.mark.parametrize("change", ["missing", "over"])
@pytest.mark.parametrize("side", [0, 1])
def test_tensors_that_do_not_fit_are_named(copies, smoke, side, change):
    file = copies[side] / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if "layer" in name and name.endswith("weight"))
    if change == "missing":
        del tensors[name]
    else:
        tensors[name.replace(".0.", ".7.")] = tensors[name].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    words = {"missing": "lacks 1 tensors of the network", "over": "has 1 tensors that the network"}
    with pytest.raises(ValueError, match=f"{copies[side].name} {words[change]}"):
        train(replace(smoke, model=replace(smoke.model, init=copies)))
    assert not smoke.run_dir.exists()


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((1, 1), "decoder must hold an encoder such as .* says 'llama'"),
        ((0, 0), "encoder must hold a causal decoder such as .* says 'bert'"),
    ],
)
def test_folders_of_the_wrong_kind_are_named(networks, smoke, order, words):
    init = tuple(networks[number] for number in order)
    with pytest.raises(ValueError, match=words):
        train(replace(smoke, model=replace(smoke.model, init=init)))


@pytest.mark.parametrize("side", [0, 1])
def test_one_network_alone_is_named(networks, smoke, side):
    init = (networks[side],)
    with pytest.raises(ValueError, match=r"holds one network alone \((bert|llama)\); give two"):
        train(replace(smoke, model=ModelOptions(init=init)))
    assert not smoke.run_dir.exists()


def test_a_tokenizer_of_another_network_is_refused(copies, smoke):
    config = AutoConfig.from_pretrained(copies[1])
    config.vocab_size = 200
    AutoModelForCausalLM.from_config(config).save_pretrained(copies[1])
    with pytest.raises(
        ValueError, match=r"the tokenizer has \d+ tokens and the network embeddings"
    ):
        train(replace(smoke, model=replace(smoke.model, init=copies)))
    (copies[0] / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="encoder: there is no tokenizer that can be read"):
        train(replace(smoke, model=replace(smoke.model, init=copies)))


def test_the_name_of_a_hub_is_fetched(networks, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.setdefault(name, networks[0])
    )
    assert pretrained.find_folders((Path("someone/some-model"), networks[1])) == networks
    assert asked == {"someone/some-model": networks[0]}


def test_a_name_that_no_hub_gives_is_one_sentence(smoke, networks, monkeypatch):
    def unreachable(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    init = (Path("someone/some-model"), networks[1])
    with pytest.raises(FileNotFoundError, match=r"someone/some-model is not a folder \(the hub"):
        train(replace(smoke, model=replace(smoke.model, init=init)))


def test_dialog_says_that_it_needs_the_papers_networks(networks):
    options = ModelOptions(init=networks, pooling="mean")
    tokenizers = pretrained.read_tokenizers(options, networks)
    with pytest.raises(ValueError, match="dialog copies layers of BERT"):
        build_fusion(replace(DIALOG["smoke"][1], model=options), tokenizers)


def test_labels_are_controlled_from_a_run_on_other_networks(smoke, tmp_path):
    train(replace(smoke, max_steps=1))
    rows = [f"{label}\t{text}" for label, text in labeled_sentences(24, 0, "number")]
    (tmp_path / "labels.tsv").write_text("\n".join(rows) + "\n")
    config = CONTROL["smoke"][1]
    config = replace(
        config,
        run_dir=tmp_path / "control",
        model=ModelOptions(latent_dim=6, init=(smoke.run_dir,), dropout=0.0),
        data=replace(config.data, train=tmp_path / "labels.tsv", test=tmp_path / "labels.tsv"),
        optimizer=OptimizerOptions(lr=1e-12, new_lr=0.1),
        device="cpu",
    )
    before = OptimusModel.from_pretrained(smoke.run_dir / "model").state_dict()
    model = train_control(config)
    after = model.vae.state_dict()
    assert not torch.equal(after["decoder.memory.weight"], before["decoder.memory.weight"])
    network = "decoder.network.model.embed_tokens.weight"
    torch.testing.assert_close(after[network], before[network])
    scores = evaluate_control(EvaluateControlConfig(run_dir=config.run_dir, device="cpu"))
    assert 0 <= scores["transfer_accuracy"] <= 1
    fixed = replace(
        config, run_dir=tmp_path / "no", model=replace(config.model, checkpointing=True)
    )
    with pytest.raises(ValueError, match=r"--model\.checkpointing True counts in `optimus train`"):
        train_control(fixed)
    started = replace(smoke.model, start="data")
    with pytest.raises(ValueError, match=r"--model\.start data counts in `optimus train` only"):
        train_control(replace(fixed, model=started))
    assert not fixed.run_dir.exists()


def test_sentences_without_positions_are_refused_before_a_label_is_trained(
    networks, tmp_path, fails
):
    rows = [f"{label}\t{text}" for label, text in labeled_sentences(24, 0, "number")]
    long = " ".join(["the dog sees a ball"] * 9)
    for name, more in (("short", []), ("long", [f"0\t{long}", f"1\t{long}"])):
        (tmp_path / f"{name}.tsv").write_text("\n".join([*rows, *more]) + "\n")
    short, longer, run = tmp_path / "short.tsv", tmp_path / "long.tsv", tmp_path / "run"
    model = ("--model.init", *networks, "--device", "cpu", "--run-dir", run)
    said = fails(
        "train-label-control", "smoke", "--data.train", longer, "--data.max-words", 60, *model
    )
    assert "decoder tokens and the decoder 39 positions; leave long sentences out by" in said
    assert "smaller --data.max-words" in said
    words = ("train-classifier", "smoke", "--data.task", "labeled", "--data.max-tokens", 90, *model)
    for train_text, test_text in ((longer, short), (short, longer)):
        said = fails(*words, "--data.folder", train_text, "--data.test", test_text)
        assert "tokens and the encoder 40 positions; give --data.max-tokens 40" in said
    assert not run.exists()
    config = CONTROL["smoke"][1]
    config = replace(
        config,
        run_dir=run,
        model=ModelOptions(init=networks),
        data=replace(config.data, train=short, test=short, max_words=60),
        device="cpu",
        max_steps=1,
    )
    train_control(config)
    said = fails("evaluate-label-control", "--run-dir", run, "--test", longer, "--device", "cpu")
    assert f"{longer}: a sentence of" in said


@pytest.mark.parametrize("mode", ["feature", "finetune"])
def test_the_head_of_a_classifier_has_a_learning_rate_of_its_own(mode, networks, tmp_path):
    config = CLASSIFIERS["smoke"][1]
    config = replace(
        config, mode=mode, model=ModelOptions(latent_dim=6, init=networks, pooling="mean")
    )
    tokenizers = pretrained.read_tokenizers(config.model, networks)
    model = build_classifier(config, tokenizers, 2)
    trained = model.classifier if mode == "feature" else model
    optimizer = build_optimizer(OptimizerOptions(lr=1e-3, new_lr=0.1), trained)
    new = {id(one) for group in optimizer.param_groups if group["new"] for one in group["params"]}
    assert new == {id(one) for one in model.classifier.parameters()}


def test_a_classifier_takes_another_encoder_and_its_pooling(networks, tmp_path):
    config = CLASSIFIERS["smoke"][1]
    config = replace(config, model=ModelOptions(latent_dim=6, init=networks, pooling="mean"))
    tokenizers = pretrained.read_tokenizers(config.model, networks)
    judge = Judge(build_classifier(config, tokenizers, 2), tokenizers, ("bad", "good"), 20)
    judge.save(tmp_path)
    texts = ["the dog sees a ball .", "a cat"]
    expected = judge.probabilities(texts)
    assert np.array_equal(Judge.load(tmp_path).probabilities(texts), expected)
    frozen = replace(config, model=replace(config.model, train_encoder="frozen"))
    with pytest.raises(ValueError, match=r"--model\.train-encoder frozen counts in"):
        build_classifier(frozen, tokenizers, 2)


def test_other_networks_have_no_place_in_the_authors_layout(tmp_path):
    with pytest.raises(ValueError, match="BERT and GPT-2 only"):
        export_authors_checkpoint(tiny_pretrained("bert", "llama"), tmp_path)


def test_special_tokens_are_reused_and_added_where_there_are_none(networks, copies, tmp_path):
    tokenizers = read_pretrained_tokenizers(*networks)
    ids = [tokenizers.bpe.token_to_id(token) for token in ("<s>", "</s>")]
    assert [tokenizers.bos_id, tokenizers.eos_id] == ids
    assert len({tokenizers.pad_id, tokenizers.bos_id, tokenizers.eos_id}) == 3
    settings = json.loads((copies[1] / "tokenizer_config.json").read_text())
    del settings["bos_token"], settings["pad_token"]
    (copies[1] / "tokenizer_config.json").write_text(json.dumps(settings))
    (copies[1] / "special_tokens_map.json").unlink(missing_ok=True)
    fewer = read_pretrained_tokenizers(*copies)
    assert fewer.bos_id == fewer.eos_id
    assert fewer.pad_id == fewer.decoder_vocab_size - 1
    fewer.save(tmp_path / "saved")
    again = load_tokenizers(tmp_path / "saved")
    assert again.fingerprint == fewer.fingerprint
    texts = ["the dog sees a ball .", "a cat"]
    for one in (tokenizers, fewer, again):
        assert one.decode_batch(one.encode_decoder(texts)) == texts
        assert one.encode_encoder(texts)[0][0] == one.cls_id


def test_metrics_of_a_checkpointed_run_are_those_of_a_plain_one(smoke, tmp_path):
    other = replace(smoke.model, checkpointing=True)
    train(smoke)
    train(replace(smoke, model=other, run_dir=tmp_path / "recomputed"))
    plain, recomputed = read_metrics(smoke.run_dir), read_metrics(tmp_path / "recomputed")
    for ours, theirs in zip(plain, recomputed, strict=True):
        assert ours["step"] == theirs["step"]
        assert ours.get("loss", 0) == pytest.approx(theirs.get("loss", 0), rel=1e-4)
