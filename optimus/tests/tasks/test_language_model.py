import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import close, recorded_model, tiny_batch, tiny_model
from torch.distributions import Normal

from optimus.__main__ import main
from optimus.api import SentenceVAE
from optimus.config import ModelOptions
from optimus.data import text
from optimus.data.text import build_batch
from optimus.data.tokenizers import load_tokenizers
from optimus.data.toy import toy_sentences, write_toy
from optimus.models.vae import OptimusModel, importance_scores
from optimus.objectives import Objective
from optimus.runtime.distributed import World
from optimus.runtime.logs import read_metrics
from optimus.runtime.run_folder import RunFolder
from optimus.tasks import language_model
from optimus.tasks.language_model import (
    PRESETS,
    TASK,
    ObjectiveOptions,
    build_batches,
    build_schedule,
    train,
)
from optimus.tasks.language_scores import (
    AUTHORS_KEYS,
    EvaluateConfig,
    evaluate,
    evaluate_command,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Sums of several threads differ in the last bit, and a forked child can have one only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), sizes=(120, 20, 20))


@pytest.fixture
def smoke(corpus, tmp_path):
    config = PRESETS["smoke"][1]
    return replace(
        config, run_dir=tmp_path / "run", data=replace(config.data, folder=corpus), device="cpu"
    )


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return OptimusModel.from_pretrained(run_dir / "model").state_dict()


def test_a_run_leaves_a_model_metrics_and_checkpoints(smoke):
    train(smoke)
    rows = read_metrics(smoke.run_dir)
    assert {"lr", "loss", "rec", "kl", "beta"} <= rows[0].keys()
    assert any({"eval_loss", "eval_rec", "eval_kl", "eval_au"} <= row.keys() for row in rows)
    assert sorted(p.name for p in (smoke.run_dir / "checkpoints").iterdir()) == [
        "00000003",
        "00000006",
    ]
    vae = SentenceVAE.from_pretrained(smoke.run_dir / "model")
    assert vae.encode(["the dog sees a ball in the field ."]).shape == (1, 8)


def test_accumulated_halves_are_one_whole_batch(smoke, tmp_path):
    config = replace(smoke, objective=ObjectiveOptions(kind="autoencoder"), max_steps=3)
    halves = replace(
        config, run_dir=tmp_path / "halves", optimizer=replace(config.optimizer, accumulate=2)
    )
    # in file order the first eight sentences of a bucket are the first two batches of four
    train(replace(config, compat=("order",)))
    train(replace(halves, compat=("order",)))
    ours, theirs = weights(config.run_dir), weights(halves.run_dir)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("objective", "inject"),
    [
        (ObjectiveOptions(kind="free-bits-floor"), "memory"),
        (ObjectiveOptions(kind="deterministic-connect"), "embedding"),
        (ObjectiveOptions(kind="autoencoder", length_weighted=True), "both"),
        (ObjectiveOptions(mask_probability=0.5), "both"),
        (ObjectiveOptions(kind="language-model"), "none"),
    ],
)
def test_every_objective_trains(smoke, objective, inject):
    model = train(
        replace(smoke, objective=objective, model=replace(smoke.model, inject=inject), max_steps=2)
    )
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_the_authors_habits_can_be_restored(smoke):
    train(replace(smoke, compat=("adamw", "order", "horizon")))
    assert read_metrics(smoke.run_dir)[-2]["lr"] > 0  # the horizon is one epoch, 15 steps


def test_a_trained_model_starts_another_run(smoke, tmp_path):
    train(smoke)
    first = weights(smoke.run_dir)["encoder.head.weight"]
    for place in (smoke.run_dir, smoke.run_dir / "model"):
        init = ModelOptions(latent_dim=8, init=(place,))
        folder = tmp_path / f"tuned-from-{place.name}"
        options = replace(smoke.optimizer, lr=1e-9)
        train(replace(smoke, run_dir=folder, model=init, optimizer=options, max_steps=1))
        torch.testing.assert_close(weights(folder)["encoder.head.weight"], first)


def test_a_run_goes_on_without_an_option_that_it_recorded_and_does_not_use(smoke):
    unused = replace(smoke.model, lora_rank=3)  # refused on a command line that has no lora
    train(replace(smoke, model=unused, max_steps=1))
    train(replace(smoke, max_steps=2))
    assert read_metrics(smoke.run_dir)[-1]["step"] == 2


def test_the_schedule_is_cyclical_and_absent_without_a_kl():
    betas, _ = build_schedule(ObjectiveOptions(beta=0.5, cycles=2, ratio_zero=0.5), 40)
    assert betas[:10] == [0.0] * 10
    assert betas[19] == betas[39] == 0.5
    betas, objective = build_schedule(ObjectiveOptions(kind="autoencoder"), 5)
    assert (betas, objective.kind) == ([0.0] * 5, "autoencoder")


def test_a_missing_corpus_is_one_sentence(smoke, fails, tmp_path):
    nowhere = tmp_path / "nowhere"
    message = fails(
        "train", "smoke", "--run-dir", str(tmp_path / "r"), "--data.folder", str(nowhere)
    )
    assert str(nowhere) in message
    assert "optimus prepare" in message


def test_an_empty_corpus_is_one_sentence(fails, tmp_path):
    (tmp_path / "train.txt").write_text("")
    message = fails(
        "train", "smoke", "--run-dir", str(tmp_path / "r"), "--data.folder", str(tmp_path)
    )
    assert "train.txt" in message


def test_an_overlong_line_is_left_out_and_counted(smoke, caplog, tmp_path):
    caplog.set_level("INFO")
    lines = toy_sentences(40)
    (tmp_path / "train.txt").write_text("\n".join([*lines, "word " * 31]) + "\n")
    smoke = replace(smoke, data=replace(smoke.data, folder=tmp_path), max_steps=1)
    train(smoke)
    assert "40 of 41 lines kept, 1 too many words" in caplog.text
    assert f"--eval-every has nothing to score: there is no {tmp_path / 'valid.txt'}" in caplog.text
    with pytest.raises(ValueError, match="--patience 2 needs sentences in"):
        train(replace(smoke, patience=2, run_dir=tmp_path / "other"))
    (tmp_path / "valid.txt").write_text(f"{lines[0]}\n")
    with pytest.raises(ValueError, match=r"valid\.txt has one sentence: give two or more, or none"):
        train(replace(smoke, run_dir=tmp_path / "other"))


def test_a_wrong_tokenizer_folder_is_one_sentence(smoke, fails, tmp_path):
    words = ["train", "smoke", "--run-dir", str(tmp_path / "r")]
    words += ["--data.folder", str(smoke.data.folder), "--model.vocabulary", str(tmp_path)]
    assert "no vocabulary" in fails(*words)


def test_a_latent_size_that_contradicts_the_weights_is_one_sentence(smoke, fails, tmp_path):
    train(replace(smoke, max_steps=1))
    words = ["train", "smoke", "--run-dir", str(tmp_path / "r"), "--model.latent-dim", "9"]
    words += ["--data.folder", str(smoke.data.folder)]
    words += ["--model.init", str(smoke.run_dir / "model")]
    message = fails(*words)
    assert "--model.latent-dim 9" in message
    assert "8" in message


def test_a_batch_that_processes_cannot_share_is_refused(smoke):
    bad = replace(smoke, data=replace(smoke.data, batch_size=9))
    with pytest.raises(ValueError, match="batch-size 9"):
        build_batches(bad, [], None, World(0, 2, torch.device("cpu")))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a few steps with three checkpoints."""
    folder = tmp_path_factory.mktemp("evaluate")
    config = PRESETS["smoke"][1]
    config = replace(
        config,
        run_dir=folder / "run",
        data=replace(config.data, folder=write_toy(folder / "toy", sizes=(120, 20, 20))),
        save_every=2,
        eval_every=0,
        keep=3,
        device="cpu",
    )
    train(config)
    return config


def scores(run, **options):
    return evaluate(EvaluateConfig(run_dir=run.run_dir, samples=8, device="cpu", **options))


def test_the_results_hold_every_metric_and_are_written_for_people_and_programs(run):
    results = scores(run)
    assert results["sentences"] == 20
    assert set(AUTHORS_KEYS) < results.keys()
    written = json.loads((run.run_dir / "eval_results.trial.json").read_text())
    about = written.pop("provenance")
    assert written == results
    assert (about["kind"], about["items"], about["left_out"]) == ("language-model", 20, 0)
    assert (about["step"], about["trial"], about["settings"]["samples"]) == (6, True, 8)
    text = (run.run_dir / "eval_results.trial.txt").read_text().splitlines()
    assert [line.split(" = ")[0] for line in text] == sorted(AUTHORS_KEYS)


def test_the_metrics_agree_with_each_other(run):
    results = scores(run)
    assert results["elbo"] == pytest.approx(results["reconstruction"] + results["kl"])
    assert results["iw_nll"] <= results["elbo"] + 1e-3
    assert results["nll"] == results["reconstruction"]
    tokenizers = load_tokenizers(run.run_dir / "model/tokenizers")
    lines = (run.data.folder / "test.txt").read_text().splitlines()
    lengths = [len(ids) for ids in tokenizers.encode_decoder(lines)]
    total = results["iw_nll"] * len(lines)
    assert results["perplexity"] == pytest.approx(math.exp(total / sum(lengths)))
    predicted = sum(length - 1 for length in lengths)
    assert results["perplexity_predicted"] == pytest.approx(math.exp(total / predicted))
    words = sum(len(line.split()) + 1 for line in lines)
    assert results["perplexity_word"] == pytest.approx(math.exp(total / words))


def test_neither_batch_size_nor_order_changes_a_result(run):
    whole, single = scores(run), scores(run, batch_size=1)
    assert whole.keys() == single.keys()
    for key in whole.keys() - {"split"}:
        assert whole[key] == pytest.approx(single[key], rel=1e-4, abs=1e-4), key


def test_only_the_first_sentences_are_scored_on_request(run):
    assert scores(run, max_sentences=7, batch_size=3)["sentences"] == 7


def test_a_trial_leaves_a_whole_evaluation_alone(run):
    whole = evaluate(EvaluateConfig(run_dir=run.run_dir, device="cpu"))
    scores(run, max_sentences=3)
    written = json.loads((run.run_dir / "eval_results.json").read_text())
    assert written.pop("provenance")["trial"] is False
    assert written == whole
    assert (run.run_dir / "eval_results.trial.json").exists()


def test_another_split_has_a_file_of_its_own(run):
    assert scores(run, split="valid")["split"] == "valid"
    assert (run.run_dir / "eval_results_valid.trial.json").exists()


def test_a_model_without_a_run_is_scored_on_a_named_corpus(run, tmp_path):
    config = EvaluateConfig(
        model=run.run_dir / "model", data=run.data.folder, samples=2, output_dir=tmp_path
    )
    assert evaluate(config)["sentences"] == 20
    assert (tmp_path / "eval_results.trial.json").exists()


def test_the_reconstruction_study_scores_every_checkpoint(run):
    results = scores(run, reconstruction_study=True)
    steps = [2, 4, 6]
    assert set(results) == {f"rec_{kind}_{step}" for kind in "sw" for step in steps}
    vae = SentenceVAE.from_pretrained(run.run_dir / "model")
    final = torch.load(run.run_dir / "checkpoints/00000006/model.pt", weights_only=True)
    assert torch.equal(final["encoder.head.weight"], vae.model.encoder.head.weight)


def test_a_language_model_is_scored_in_both_conventions(run, tmp_path):
    config = replace(
        run,
        run_dir=tmp_path / "lm",
        model=replace(run.model, inject="none"),
        objective=ObjectiveOptions(kind="language-model"),
        max_steps=2,
    )
    train(config)
    results = evaluate(EvaluateConfig(run_dir=config.run_dir, device="cpu"))
    assert 1 < results["perplexity"] < results["perplexity_predicted"]
    assert results["perplexity_predicted"] < results["perplexity_without_ends"]
    assert {"perplexity_of_means", "perplexity_word"} <= results.keys()


def test_generated_text_is_scored_by_bleu(tmp_path, capsys):
    lines = toy_sentences(12)
    (tmp_path / "fake.txt").write_text("\n".join(lines[:4]) + "\n")
    (tmp_path / "real.txt").write_text("\n".join(lines) + "\n")
    evaluate_command(
        ["--generated", str(tmp_path / "fake.txt"), "--references", str(tmp_path / "real.txt")]
    )
    results = json.loads((tmp_path / "bleu_results.json").read_text())
    assert results["bleu_5"] == pytest.approx(1.0)
    assert 0 < results["self_bleu_5"] < 1
    assert "| bleu_5 | 1.0000 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--run-dir", "nowhere"], "nowhere does not exist"),
        (["--model", "MODEL"], "--data is missing"),
        (["--model", "MODEL", "--data", "nowhere"], "nowhere has no test.txt"),
        (
            ["--generated", "nowhere", "--references", "nowhere"],
            "--generated nowhere is no text file",
        ),
    ],
)
def test_bad_input_is_one_sentence(run, words, expected, capsys):
    words = [str(run.run_dir / "model") if word == "MODEL" else word for word in words]
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *words])
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


def test_an_empty_split_is_one_sentence(run, tmp_path):
    (tmp_path / "test.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="no usable sentence"):
        scores(run, data=Path(tmp_path))


def recorded_sentences(folder, device):
    batches = np.load(folder / "eval_batches.npz")
    for number in sorted({int(name.split("/")[0]) for name in batches}):
        ids = (torch.from_numpy(batches[f"{number}/{key}"]) for key in ("bert", "gpt2"))
        yield number, *(one.to(device) for one in ids)


@pytest.mark.golden
def test_importance_weighted_perplexity_is_the_authors(golden_kind, device):
    folder = golden_kind("vae_trained", "metrics.npz", "metrics.json")
    model = recorded_model(folder).to(device)
    recorded = json.loads((folder / "metrics.json").read_text())
    noise = np.load(folder / "metrics.npz")["iwnll_eps"]
    marginal, kl, nll, tokens = [], [], [], 0
    for number, encoder_ids, decoder_ids in recorded_sentences(folder, device):
        eps = torch.from_numpy(noise[number]).reshape(1, -1, noise.shape[-1]).to(device)
        scores = importance_scores(model, encoder_ids, decoder_ids, eps=eps, mask_padding=False)
        marginal.append(scores.log_marginal().item())
        kl.append(scores.kl.item())
        nll.append(-scores.log_likelihood.mean().item())
        tokens += decoder_ids.numel()
    close(math.exp(-sum(marginal) / tokens), recorded["perplexity"])
    close(np.mean(kl) + np.mean(nll), recorded["elbo"])
    close(np.mean(nll), recorded["nll"])
    close(np.mean(kl), recorded["kl"])


@pytest.mark.golden
def test_a_padded_batch_is_scored_as_the_authors_do(golden_kind, device):
    folder = golden_kind("vae_trained", "metrics.npz")
    model, recorded = recorded_model(folder).to(device), np.load(folder / "metrics.npz")
    chunks, batch, samples, latent_dim = recorded["loss_iw_b4/eps"].shape
    eps = torch.from_numpy(recorded["loss_iw_b4/eps"]).transpose(0, 1)
    lines = json.loads(next(folder.glob("cached_*.json")).read_text())[:batch]
    ids = [
        torch.nn.utils.rnn.pad_sequence([torch.tensor(line[key]) for line in lines], True, pad)
        for key, pad in (
            ("bert_token", model.config.encoder_pad_token_id),
            ("gpt2_token", model.config.pad_token_id),
        )
    ]
    noise = eps.reshape(batch, chunks * samples, latent_dim).to(device)
    ids = [one.to(device) for one in ids]
    scores = importance_scores(model, *ids, eps=noise, mask_padding=False)
    close(scores.kl, recorded["loss_iw_b4/kl"])
    close(scores.log_marginal(), recorded["loss_iw_b4/log_prob_iw"])
    close(scores.log_likelihood.mean(dim=1), recorded["loss_iw_b4/log_gen"])


@pytest.mark.golden
def test_reconstruction_is_the_authors(golden_kind, device):
    folder = golden_kind("vae_trained", "metrics.npz", "metrics.json")
    model = recorded_model(folder).to(device)
    recorded = json.loads((folder / "metrics.json").read_text())
    noise = np.load(folder / "metrics.npz")["rec_eps"]
    losses, tokens = [], 0
    for number, *ids in recorded_sentences(folder, device):
        eps = torch.from_numpy(noise[number])[None].to(device)
        with torch.no_grad():
            losses.append(model(*ids, eps=eps).reconstruction)
        tokens += ids[1].numel()
    close(torch.cat(losses).mean(), recorded["rec_s"])
    close(torch.cat(losses).sum() / tokens, recorded["rec_w"])


@pytest.mark.golden
def test_the_language_model_baseline_is_the_authors(golden_kind, device):
    folder = golden_kind("vae_trained", "gpt2_baseline.json")
    recorded = json.loads((folder / "gpt2_baseline.json").read_text())
    model, sentences = recorded_model(folder).to(device), recorded_sentences(folder, device)
    found = [model.decoder.nll(ids, None).item() for _, _, ids in sentences]
    close(found, recorded["loss_per_sentence"])


def test_weights_are_those_of_torch_distributions():
    model = tiny_model()
    encoder_ids, decoder_ids = tiny_batch(model)
    scores = importance_scores(model, encoder_ids, decoder_ids, num_samples=5)
    posterior = Normal(scores.mean[:, None], (0.5 * scores.logvar).exp()[:, None])
    prior = Normal(0.0, 1.0).log_prob(scores.latent).sum(dim=-1)
    density = posterior.log_prob(scores.latent).sum(dim=-1)
    for k in range(5):
        nll = model.decoder.nll(decoder_ids, scores.latent[:, k])
        torch.testing.assert_close(scores.log_likelihood[:, k], -nll, rtol=1e-4, atol=1e-4)
    expected = (scores.log_likelihood + prior - density).double()
    torch.testing.assert_close(scores.log_weight, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk_tokens", [1, 30, 10**6])
def test_chunks_change_nothing(chunk_tokens):
    model = tiny_model()
    batch = tiny_batch(model)
    eps = torch.randn(3, 7, 6)
    whole = importance_scores(model, *batch, eps=eps)
    parts = importance_scores(model, *batch, eps=eps, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(parts.log_weight, whole.log_weight, rtol=1e-4, atol=1e-4)


def test_more_samples_tighten_the_bound_on_average():
    model = tiny_model(spread=3.0)
    batch = tiny_batch(model)
    scores = importance_scores(model, *batch, num_samples=400)
    assert (scores.log_marginal() >= scores.log_weight.mean(dim=1)).all()


@pytest.mark.parametrize("kind", ["mmd", "beta-tc"])
def test_objectives_of_the_batch_train_and_are_resumed(smoke, tmp_path, kind):
    objective = replace(smoke.objective, kind=kind, ratio_zero=0.0, ratio_increase=0.1)
    schedule = replace(smoke.optimizer, schedule="cosine", warmup_steps=0)
    whole = replace(smoke, objective=objective, optimizer=schedule)
    train(whole)
    rows = [row for row in read_metrics(whole.run_dir) if "kl" in row]
    assert all(math.isfinite(row["loss"]) and row["kl"] != row["full_kl"] for row in rows)
    halves = replace(whole, run_dir=tmp_path / "halves", max_steps=3)
    train(halves)
    train(replace(halves, max_steps=6))
    assert rows[-1]["lr"] == pytest.approx(read_metrics(halves.run_dir)[-2]["lr"])


@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveOptions(kind="autoencoder"),
        ObjectiveOptions(kind="deterministic-connect"),
        ObjectiveOptions(beta=0.0),
        ObjectiveOptions(),
    ],
    ids=["autoencoder", "deterministic-connect", "beta 0", "free bits"],
)
def test_held_out_text_is_scored_by_what_is_trained(smoke, objective):
    smoke = replace(smoke, objective=objective, max_steps=1, eval_every=1)
    model = train(smoke).eval()
    (scores,) = [row for row in read_metrics(smoke.run_dir) if "eval_loss" in row]
    vae = SentenceVAE.from_pretrained(smoke.run_dir)
    texts = (smoke.data.folder / "valid.txt").read_text().splitlines()
    batch = build_batch(vae.tokenizers, texts)
    with torch.no_grad():
        posterior = model.encode(batch.encoder_ids)
        exact = model.decoder.nll(batch.decoder_ids, posterior.mean).double().mean()
    unit = 0.5 * posterior.mean.square().sum(dim=1).mean()
    found, rec = scores["eval_loss"], scores["eval_rec"]
    if objective.kind == "autoencoder":
        assert rec == pytest.approx(float(exact), rel=1e-5), "z is the mean, without noise"
    else:
        assert rec != pytest.approx(float(exact), rel=1e-6)
    expected = {"autoencoder": 0.0, "deterministic-connect": float(unit)}
    kl = 0.0 if objective.beta == 0 else expected.get(objective.kind, scores["eval_kl"])
    assert found == pytest.approx(rec + kl, rel=1e-5)


def test_batches_that_have_no_statistic_are_refused(smoke):
    for options, name in (({"accumulate": 2}, "--optimizer.accumulate"), ({}, "--data.batch-size")):
        with pytest.raises(ValueError, match=f"{name} must be .* --objective.kind mmd"):
            replace(
                smoke,
                objective=ObjectiveOptions(kind="mmd"),
                optimizer=replace(smoke.optimizer, **options),
                data=replace(smoke.data, batch_size=2 if options else 1),
            )
    for alpha, weight in ((0.2, 0.5), (1.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(
            ValueError, match=r"--objective\.mmd-weight must be finite and at least 1"
        ):
            ObjectiveOptions(kind="mmd", alpha=alpha, mmd_weight=weight)


def test_the_term_of_a_batch_reaches_the_encoder():
    model = tiny_model()
    ids = tiny_batch(model, batch=4)
    for kind in ("mmd", "beta-tc"):
        losses = model(*ids, objective=Objective(kind, dataset_size=40), beta=1.0)
        model.zero_grad()
        losses.kl.mean().backward()
        assert model.encoder.head.weight.grad.abs().sum() > 0
        assert torch.equal(losses.kl, losses.kl[:1].expand(4))
        torch.testing.assert_close(losses.total, losses.reconstruction + losses.kl)


def test_a_text_larger_than_the_memory_is_trained_on_in_parts(smoke, tmp_path, monkeypatch):
    lines = toy_sentences(60)
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "valid.txt").write_text("\n".join(lines[:9]))
    monkeypatch.setattr(text, "PART_LINES", 25)
    config = replace(smoke, data=replace(smoke.data, folder=tmp_path))
    train(config)
    assert len(list((tmp_path / ".cache").glob("train*"))) == 3
    message = "has 3 shards of training sentences, which are not scored"
    with pytest.raises(ValueError, match=message):
        evaluate(EvaluateConfig(run_dir=config.run_dir, split="train", samples=2))


def test_more_ranks_than_validation_batches_give_the_scores_of_one(smoke, monkeypatch):
    shares = []

    def gather(own):
        shares.append(own)
        return list(shares)

    with RunFolder(smoke.run_dir, TASK.kind, smoke) as folder:
        run = TASK.open(smoke, World(0, 1, torch.device("cpu")), folder)
    alone, size = run.evaluate(), smoke.data.batch_size
    ranks = -(-len(run.held_out) // size) + 1
    monkeypatch.setattr(language_model, "gather_objects", gather)
    # per rank as many sentences as before
    run.config = replace(smoke, data=replace(smoke.data, batch_size=size * ranks))
    for rank in range(ranks):
        run.world = World(rank, ranks, torch.device("cpu"))
        scores = run.evaluate()
    assert shares[-1] == []
    assert scores == pytest.approx(alone)
