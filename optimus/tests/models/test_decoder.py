import numpy as np
import pytest
import torch
from factories import close, recorded_model, tiny_batch, tiny_model
from torch.nn import functional as F

INJECTIONS = {"mem": "memory", "emb": "embedding", "both": "both"}


@pytest.mark.golden
@pytest.mark.parametrize("key", [*INJECTIONS, "lm_no_latent"])
def test_logits_and_losses_agree_with_the_authors(key, golden_kind, device):
    folder = golden_kind("vae_random", "decoder_out.npz")
    expected = np.load(folder / "decoder_out.npz")
    model = recorded_model(folder, inject=INJECTIONS.get(key)).to(device)
    ids = torch.from_numpy(np.load(folder / "inputs.npz")["x1"]).to(device)
    latent = None if key == "lm_no_latent" else torch.from_numpy(expected["z"]).to(device)
    with torch.no_grad():
        close(model.decoder.logits(ids, latent), expected[f"logits_{key}"])
        close(model.decoder.nll(ids, latent), expected[f"loss_{key}"])


@pytest.mark.golden
def test_the_memory_slot_is_the_authors(golden_kind, device):
    folder = golden_kind("vae_random", "decoder_out.npz")
    expected = np.load(folder / "decoder_out.npz")
    decoder = recorded_model(folder).to(device).decoder
    state = decoder.start(torch.from_numpy(expected["z"]).to(device))
    key, value = expected["present_l0_first_key_value_both"]
    close(state.cache.layers[0].keys[:, :, 0].detach(), key)
    close(state.cache.layers[0].values[:, :, 0].detach(), value)


def test_the_loss_is_the_cross_entropy_of_the_logits():
    model = tiny_model()
    _, ids = tiny_batch(model)
    latent = torch.randn(3, 6)
    logits = model.decoder.logits(ids, latent)
    losses = F.cross_entropy(
        logits[:, :-1].transpose(1, 2),
        ids[:, 1:],
        ignore_index=model.config.pad_token_id,
        reduction="none",
    )
    torch.testing.assert_close(model.decoder.nll(ids, latent), losses.sum(dim=1))


@pytest.mark.parametrize("inject", ["memory", "embedding", "both", "none"])
def test_reading_token_by_token_equals_reading_at_once(inject):
    model = tiny_model(inject=inject)
    _, ids = tiny_batch(model)
    latent = None if inject == "none" else torch.randn(3, 6)
    whole = model.decoder.hidden(ids, latent)
    state = model.decoder.start(latent)
    parts = [model.decoder.advance(state, ids[:, t : t + 1]) for t in range(ids.shape[1])]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inject", ["memory", "embedding", "both"])
def test_the_latent_reaches_every_position(inject):
    model = tiny_model(inject=inject)
    _, ids = tiny_batch(model)
    first, second = (
        model.decoder.logits(ids, torch.zeros(3, 6)),
        model.decoder.logits(ids, torch.ones(3, 6)),
    )
    assert (first - second).abs().amax(dim=-1).min() > 1e-4


def test_sentences_of_a_batch_and_padding_do_not_touch_each_other():
    model = tiny_model()
    _, ids = tiny_batch(model)
    latent = torch.randn(3, 6)
    losses = model.decoder.nll(ids, latent)
    for row, (sentence, z) in enumerate(zip(ids, latent, strict=True)):
        kept = sentence[sentence != model.config.pad_token_id][None]
        torch.testing.assert_close(model.decoder.nll(kept, z[None])[0], losses[row])


@pytest.mark.parametrize("inject", ["memory", "embedding", "both"])
def test_gradient_checkpointing_keeps_the_latent(inject):
    model = tiny_model(inject=inject, dropout=0.1).train()
    _, ids = tiny_batch(model)
    found = []
    for checkpointing in (False, True):
        model.decoder.checkpointing = checkpointing
        latent = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
        torch.manual_seed(5)
        losses = model.decoder.nll(ids, latent)
        names = [name for name, _ in model.decoder.named_parameters()]
        found.append(
            (losses, *torch.autograd.grad(losses.sum(), [latent, *model.decoder.parameters()]))
        )
    assert found[0][1].abs().max() > 0
    for name, plain, checkpointed in zip(["loss", "latent", *names], *found, strict=True):
        torch.testing.assert_close(plain, checkpointed, msg=name, rtol=1e-5, atol=1e-6)


def test_an_overlong_sentence_is_named():
    model = tiny_model()
    with pytest.raises(ValueError, match="more than 39 decoder tokens"):
        model.decoder.hidden(torch.zeros(1, 40, dtype=torch.long), torch.zeros(1, 6))


def test_bfloat16_autocast_gives_nearly_the_same_loss():
    model = tiny_model(spread=1.0)
    _, ids = tiny_batch(model)
    latent = torch.randn(3, 6)
    exact = model.decoder.nll(ids, latent)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model.decoder.nll(ids, latent)
    torch.testing.assert_close(rough, exact, rtol=0.01, atol=0.1)
