import pytest
import torch
from factories import tiny_model

from optimus.decoding import Sampling, generate
from optimus.models.soft_sampling import draw_softly


def soft(model, latent, **options):
    ends = (model.config.bos_token_id, model.config.eos_token_id)
    return draw_softly(model.decoder, latent, ends, **options)


def test_a_cold_draw_from_a_sharp_decoder_is_greedy_decoding():
    model, latent = tiny_model(spread=3.0).eval(), torch.randn(5, 6)
    table = model.decoder.gpt2.transformer.wte.weight
    table.data *= 100  # the head shares it: the noise no longer decides
    rows = generate(model, latent, Sampling(max_new_tokens=7))
    drawn = soft(model, latent, num_tokens=8, temperature=1e-3)
    for ids, embedded, length in zip(rows, drawn.embedded, drawn.lengths, strict=True):
        assert length == len(ids)
        torch.testing.assert_close(embedded[:length], table[torch.tensor(ids)])


def test_a_loss_on_the_sentence_reaches_every_latent():
    model, latent = tiny_model(), torch.randn(3, 6, requires_grad=True)
    drawn = soft(model, latent, num_tokens=5)
    assert drawn.embedded.shape == (3, 5, model.config.gpt2.n_embd)
    assert drawn.lengths.le(5).all()
    drawn.embedded.square().sum().backward()
    assert (latent.grad.abs().sum(dim=1) > 0).all()


def test_gradient_checkpointing_is_refused():
    model = tiny_model().train()
    model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="without gradient checkpointing"):
        soft(model, torch.zeros(1, 6), num_tokens=3)
