import json

import numpy as np
import pytest
import torch
from factories import (
    GRADIENT,
    close,
    recorded_model,
    tiny_batch,
    tiny_config,
    tiny_model,
)
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import BertModel, GPT2LMHeadModel
from transformers.utils import logging

from optimus.models.encoder import Posterior
from optimus.models.vae import ExtendedVae, OptimusConfig, OptimusModel
from optimus.objectives import Objective, sentence_lengths, total_loss
from optimus.released.checkpoints import assemble, authors_name, import_checkpoint
from optimus.runtime.precision import arithmetic, set_numerics

KINDS = {0: Objective(), 2: Objective(kind="deterministic-connect")}


def recorded_objective(fb_mode, free_bits):
    return KINDS.get(fb_mode, Objective(free_bits=free_bits))


def recorded_losses(model, inputs, case, eps, device="cpu"):
    """(rec, kl, total) as the recorded case counts them.

    With beta 0 the authors' module, unlike their loop, goes on masking; a beta too small to matter
    keeps our automatic switch out of the comparison.
    """
    ids = [torch.from_numpy(inputs[key]).to(device) for key in ("x0", "x1")]
    objective = recorded_objective(case["fb_mode"], case["dim_target_kl"])
    losses = model(*ids, objective=objective, beta=case["beta"] or 1e-30, eps=eps)
    lengths = None
    if case["length_weighted_loss"]:
        lengths = torch.tensor(case["sent_length"], device=device)
    return losses, total_loss(losses.reconstruction, losses.kl, case["beta"], lengths)


@pytest.mark.golden
def test_losses_agree_with_the_authors_in_every_mode(golden_kind, device):
    folder = golden_kind("vae_random", "loss_out.npz")
    model, expected = recorded_model(folder).to(device), np.load(folder / "loss_out.npz")
    inputs = np.load(folder / "inputs.npz")
    cases = json.loads((folder / "loss_cases.json").read_text())
    assert cases
    for case in cases:
        with torch.no_grad():
            eps = torch.from_numpy(expected[case["eps"]]).to(device)
            losses, total = recorded_losses(model, inputs, case, eps, device)
        close(losses.reconstruction, expected[f"{case['key']}/loss_rec"])
        close(losses.kl, expected[f"{case['key']}/loss_kl"])
        close(total, expected[f"{case['key']}/loss"])


@pytest.mark.golden
def test_gradients_agree_with_the_authors(golden_kind, device):
    folder = golden_kind("vae_random", "grads.npz")
    expected, inputs = np.load(folder / "grads.npz"), np.load(folder / "inputs.npz")
    noise = np.load(folder / "loss_out.npz")
    modes = sorted({name.split("/")[0] for name in expected})
    for mode in modes:
        model = recorded_model(folder).eval().to(device)
        fb_mode = int(mode.removeprefix("fb"))
        losses = model(
            *(torch.from_numpy(inputs[key]).to(device) for key in ("x0", "x1")),
            objective=recorded_objective(fb_mode, 0.5),
            beta=0.7,
            eps=torch.from_numpy(noise[f"eps_fb{fb_mode}"]).to(device),
        )
        loss = losses.total.mean()
        loss.backward()
        close(loss.detach(), expected[f"{mode}/loss"])
        gradients = {authors_name(n): p.grad for n, p in model.named_parameters()}
        for name in (n for n in expected if n.startswith(f"{mode}/")):
            key = name.removeprefix(f"{mode}/")
            if key in gradients:
                close(gradients[key], expected[name], GRADIENT)
        norm = torch.sqrt(sum(g.square().sum() for g in gradients.values()))
        close(norm, expected[f"{mode}/grad_l2"], GRADIENT)


@pytest.mark.golden
def test_the_true_vocabulary_is_weighted_by_its_own_padding(golden_kind):
    folder = golden_kind("truevocab")
    formula = json.loads((folder / "wte_formula.json").read_text())
    io = np.load(folder / "io.npz")
    configs = [
        json.loads((folder / f"config_{p}.json").read_text()) for p in ("encoder", "decoder")
    ]
    tensors = {
        f"encoder.{k}": v for k, v in load_file(folder / "weights_encoder.safetensors").items()
    }
    decoder = load_file(folder / "weights_decoder_without_wte.safetensors")
    tensors |= {f"decoder.{k}": v for k, v in decoder.items()}
    rows, width = configs[1]["vocab_size"], configs[1]["n_embd"]
    index = np.arange(rows * width, dtype=np.float64).reshape(rows, width)
    words = (0.3 * np.sin(index * 0.7310585 + formula["seed"])).astype(np.float32)
    tensors["decoder.transformer.wte.weight"] = torch.from_numpy(words)
    model, _ = import_checkpoint(assemble(tensors, *configs))
    ids = [torch.from_numpy(io[key]) for key in ("x0", "x1")]
    lengths = sentence_lengths(ids[1], model.config.pad_token_id)
    np.testing.assert_array_equal(lengths, io["sent_length"])
    for weighted in (False, True):
        with torch.no_grad():
            losses = model(
                *ids,
                objective=Objective(free_bits=formula["dim_target_kl"], length_weighted=weighted),
                beta=formula["beta"],
                eps=torch.from_numpy(io["eps"]),
            )
        close(losses.reconstruction, io["loss_rec"])
        close(losses.kl, io["loss_kl"])
        close(losses.total, io[f"loss_lw{int(weighted)}"])


@pytest.mark.parametrize("inject", ["memory", "embedding", "both", "none"])
def test_a_saved_model_is_read_back_the_same(inject, tmp_path):
    model = tiny_model(inject=inject)
    model.save_pretrained(tmp_path)
    again = OptimusModel.from_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    assert again.config.inject == inject
    assert again.config.eos_token_id == model.config.eos_token_id
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    head, words = again.decoder.gpt2.lm_head.weight, again.decoder.gpt2.transformer.wte.weight
    assert head.data_ptr() == words.data_ptr()


def test_a_fresh_model_starts_from_small_normal_weights():
    model = OptimusModel(tiny_config())
    for name, parameter in model.named_parameters():
        if "LayerNorm.weight" in name or ("ln_" in name and name.endswith("weight")):
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif parameter.ndim == 1:
            assert not parameter.any(), name
        else:
            bound = 0.02 / (2 if name.endswith("c_proj.weight") else 1)
            assert parameter.std().item() == pytest.approx(bound, rel=0.25), name


def test_pretrained_parts_keep_their_weights_and_gain_three_tokens():
    config = tiny_config()
    config.gpt2.vocab_size = 47
    bert, gpt2 = BertModel(config.bert), GPT2LMHeadModel(config.gpt2)
    model = OptimusModel.from_parts(bert, gpt2, latent_dim=4, inject="memory")
    words = model.decoder.gpt2.transformer.wte.weight
    assert len(words) == 50
    assert (model.config.pad_token_id, model.config.eos_token_id) == (47, 49)
    assert torch.equal(words[:47], gpt2.transformer.wte.weight)
    assert words[47:].std().item() == pytest.approx(0.02, rel=0.3)
    for name, value in bert.state_dict().items():
        assert torch.equal(model.encoder.bert.state_dict()[name], value)


def test_samples_are_averaged_per_sentence():
    model = tiny_model()
    encoder_ids, decoder_ids = tiny_batch(model)
    eps = torch.randn(3, 4, 6)
    losses = model(encoder_ids, decoder_ids, eps=eps)
    single = [
        model(encoder_ids, decoder_ids, eps=eps[:, k : k + 1]).reconstruction for k in range(4)
    ]
    torch.testing.assert_close(losses.reconstruction, torch.stack(single).mean(dim=0))


def test_the_autoencoder_uses_the_mean_and_pays_no_kl():
    model = tiny_model()
    encoder_ids, decoder_ids = tiny_batch(model)
    losses = model(encoder_ids, decoder_ids, objective=Objective(kind="autoencoder"))
    torch.testing.assert_close(losses.total, losses.reconstruction)
    torch.testing.assert_close(losses.reconstruction, model.decoder.nll(decoder_ids, losses.mean))
    assert losses.full_kl.min() > 0


def test_a_language_model_is_plain_gpt2_without_encoder():
    model = tiny_model(inject="none")
    _, ids = tiny_batch(model)
    losses = model(None, ids)
    logits = model.decoder.gpt2(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    expected = F.cross_entropy(
        logits[:, :-1].transpose(1, 2),
        ids[:, 1:],
        ignore_index=model.config.pad_token_id,
        reduction="none",
    ).sum(dim=1)
    assert model.encoder is None
    assert losses.mean.shape == (3, 0)
    torch.testing.assert_close(losses.total, expected)
    assert all(p.grad is not None for p in _backward(model, None, ids))


@pytest.mark.parametrize("inject", ["memory", "embedding", "both"])
def test_every_parameter_is_used(inject):
    model = tiny_model(inject=inject).train()
    used = _backward(model, *tiny_batch(model))
    assert all(parameter.grad is not None for parameter in used)


def test_gradient_checkpointing_of_the_whole_model_agrees():
    found = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert any(getattr(m, "gradient_checkpointing", False) for m in model.encoder.modules())
        found.append(
            [p.grad for p in _backward(model, *tiny_batch(model), eps=torch.ones(3, 1, 6))]
        )
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=1e-4, atol=1e-5)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="memory, embedding, both or none, got 'everything'"):
        OptimusConfig(inject="everything")
    with pytest.raises(ValueError, match="latent_dim must be at least 1"):
        OptimusConfig(latent_dim=0)


def _backward(model, encoder_ids, decoder_ids, **options):
    model(encoder_ids, decoder_ids, **options).total.mean().backward()
    return list(model.parameters())


def test_configurations_given_as_objects_keep_their_attention_and_are_not_changed():
    given = tiny_config()
    given.gpt2.activation_function, given.gpt2.eos_token_id = "gelu_new", 7
    given.bert._attn_implementation = given.gpt2._attn_implementation = "eager"
    config = OptimusConfig(bert=given.bert, gpt2=given.gpt2)
    assert config.bert._attn_implementation == config.gpt2._attn_implementation == "eager"
    assert (config.gpt2.eos_token_id, given.gpt2.eos_token_id) == (49, 7)
    assert given.gpt2.activation_function == "gelu_new"
    eager, fast = (
        OptimusModel(config).eval(),
        OptimusModel(OptimusConfig(given.bert.to_dict(), given.gpt2.to_dict())).eval(),
    )
    fast.load_state_dict(eager.state_dict())
    batch, eps = tiny_batch(eager), torch.randn(3, 1, 32)
    assert fast.decoder.gpt2.config._attn_implementation == "sdpa"
    torch.testing.assert_close(eager(*batch, eps=eps).total, fast(*batch, eps=eps).total)


@pytest.mark.golden
def test_the_posterior_agrees_with_the_authors_with_and_without_mask(golden_kind, device):
    folder = golden_kind("vae_random", "encoder_out.npz")
    model = recorded_model(folder).to(device)
    expected = np.load(folder / "encoder_out.npz")
    ids = torch.from_numpy(np.load(folder / "inputs.npz")["x0"]).to(device)
    with torch.no_grad():
        masked, bare = model.encode(ids), model.encode(ids, mask_padding=False)
        kinds = torch.from_numpy(expected["token_type_ids"]).to(device)
        segments = model.encoder.pooled(ids, ids > 0, kinds)
        pooled = model.encoder.pooled(ids, ids > 0)
    close(masked.mean, expected["mu"])
    close(masked.logvar, expected["logvar"])
    close(bare.mean, expected["mu_nomask"])
    close(bare.logvar, expected["logvar_nomask"])
    close(pooled, expected["pooled"])
    close(segments, expected["pooled_token_type"])


def test_samples_have_the_posterior_moments():
    posterior = Posterior(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]]))
    samples = posterior.sample(num_samples=20000)[0]
    torch.testing.assert_close(samples.mean(dim=0), posterior.mean[0], atol=0.1, rtol=0)
    torch.testing.assert_close(samples.var(dim=0).log(), posterior.logvar[0], atol=0.1, rtol=0)


def test_given_noise_is_used_as_it_is():
    posterior = Posterior(torch.zeros(2, 3), torch.full((2, 3), 2.0).log() * 2)
    eps = torch.randn(2, 4, 3)
    torch.testing.assert_close(posterior.sample(eps), 2 * eps)


def test_padding_changes_nothing():
    model = tiny_model()
    ids, _ = tiny_batch(model)
    more = torch.nn.functional.pad(ids, (0, 5))
    torch.testing.assert_close(model.encode(more).mean, model.encode(ids).mean)


def test_the_head_stays_in_float32_under_autocast():
    model = tiny_model()
    ids, _ = tiny_batch(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = model.encode(ids)
    assert posterior.mean.dtype == posterior.logvar.dtype == torch.float32


def test_an_overlong_sentence_is_named():
    model = tiny_model()
    with pytest.raises(ValueError, match="41 encoder tokens exceeds the encoder's 40 positions"):
        model.encode(torch.ones(1, 41, dtype=torch.long))


class Added(ExtendedVae):
    NAME, SETTINGS = "task", ("width",)

    def __init__(self, vae: OptimusModel, width: int = 3) -> None:
        super().__init__(vae)
        self.width, self.layer = width, nn.Linear(width, width)


def test_added_layers_and_settings_return(tmp_path):
    module = Added(tiny_model(), 4)
    module.save_pretrained(tmp_path)
    again = Added.from_pretrained(tmp_path)
    assert again.width == 4
    assert torch.equal(again.layer.weight, module.layer.weight)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    module = Added(tiny_model())
    del module.layer.bias
    module.layer.register_parameter("bias", None)
    module.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"missing \['layer\.bias'"):
        Added.from_pretrained(tmp_path)
    (tmp_path / "task.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no task model"):
        Added.from_pretrained(tmp_path)


def test_saving_and_loading_draw_no_bars_and_leave_them_to_others(tmp_path, capfd):
    tiny_model().save_pretrained(tmp_path)
    OptimusModel.from_pretrained(tmp_path)
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled()


def test_the_posterior_is_ieee_where_products_may_be_tf32(monkeypatch):
    before, benchmark = arithmetic(), torch.backends.cudnn.benchmark
    linear, seen = torch.nn.functional.linear, []

    def watched(*given):
        seen.append(arithmetic())
        return linear(*given)

    encoder = tiny_model().encoder
    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    set_numerics()
    try:
        encoder.posterior(torch.randn(2, 32))
    finally:
        torch.backends.cuda.matmul.fp32_precision = before[0]
        torch.backends.cudnn.conv.fp32_precision = before[1]
        torch.backends.cudnn.rnn.fp32_precision = before[2]
        torch.backends.cudnn.benchmark = benchmark
    assert seen == [("ieee", "ieee", "ieee")]
