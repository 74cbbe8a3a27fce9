import json

import numpy as np
import pytest
import torch
from factories import GRADIENT, close, tiny_batch, tiny_model
from safetensors.torch import load_file

from optimus.decoding import Sampling, generate
from optimus.models.label_control import (
    LabelControl,
    adversarial_loss,
    decide,
    draw_softly,
    label_loss,
)
from optimus.released.checkpoints import assemble, import_checkpoint

NAMES = {  # the authors' names of the networks on z
    "linear": "latent_head",
    "latent_generator": "generator",
    "latent_discriminator": "discriminator",
    "latent_classifier": "classifier",
    "label_embedding": "label_embedding",
    "conv1": "convolution",
    "classifier": "text_head",
}


@pytest.fixture
def case(golden_kind, device):
    folder = golden_kind("cara", "io.npz")
    settings = json.loads((folder / "args.json").read_text())
    configs = [
        json.loads((folder / f"config_{part}.json").read_text()) for part in ("encoder", "decoder")
    ]
    # the toy decoder's special tokens are among the settings, not in its configuration
    configs[1] |= {f"{name}_token_id": settings[name] for name in ("pad", "bos", "eos")}
    tensors = load_file(folder / "weights_full.safetensors")
    own = {k: v for k, v in tensors.items() if k.startswith(("encoder.", "decoder."))}
    vae, _ = import_checkpoint(assemble(own, *configs))
    model = LabelControl(
        vae, settings["label_size"], train_zero_label=False, mask_padding=False
    ).eval()
    added = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if first in NAMES:
            added[f"{NAMES[first]}.{rest}"] = value
    left = model.load_state_dict(added, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith("vae.") for name in left.missing_keys)
    arrays = np.load(folder / "io.npz")
    io = {name: torch.from_numpy(arrays[name]).to(device) for name in arrays.files}
    return model.to(device), settings, io


@pytest.mark.golden
def test_every_loss_agrees_with_the_authors(case):
    model, _, io = case
    losses = model(io["x0"], io["x1"], io["labels"], noise=io["noise"])
    for ours, theirs in {
        "reconstruction": "loss_rec",
        "encoder": "loss_encoder",
        "classifier": "loss_lsc",
        "discriminator": "loss_lsd",
        "generator": "loss_lsg",
        "text": "loss_cls",
    }.items():
        close(getattr(losses, ours).detach(), io[theirs])
    losses.reconstruction.mean().backward()  # everything else has weight 0 in their total
    close(losses.reconstruction.detach(), io["loss"])
    close(model.label_embedding.weight.grad, io["grad_label_embedding"], GRADIENT)
    close(model.latent_head.weight.grad, io["grad_linear"], GRADIENT)
    assert model.discriminator.weight.grad is None


@pytest.mark.golden
def test_accuracies_agree_with_the_authors(case):
    model, _, io = case
    latent, made = model.encode(io["x0"]), model.make_latent(io["noise"])
    for name, right in {
        "encode_z_dis": model.discriminator(latent)[:, 0] >= 0,
        "gen_z_dis": model.discriminator(made)[:, 0] < 0,
        "encode_z_cls": decide(model.classifier(latent)) == io["labels"],
        "cls": model.predict_text(io["x1"]) == io["labels"],
    }.items():
        assert torch.equal(right.float(), io[f"acc_{name}"]), name


@pytest.mark.golden
def test_reconstruction_transfer_and_generation_agree_with_the_authors(case):
    model, settings, io = case
    limit = io["eval/generated"].shape[1]
    latent = model.encode(io["x0"]).detach()
    made = model.make_latent(io["eval_noise"]).detach()
    given = {
        "generated": model.condition(latent, io["eval/cond_labels"]),
        "at_generated": model.condition(latent, io["eval/sampled_cond_labels"]),
        "cg_generated": model.condition(made, io["eval/sampled_cond_labels"]),
    }
    names = {"generated": "ge", "at_generated": "at", "cg_generated": "cg"}
    for name, vector in given.items():
        rows = generate(model.vae, vector.detach(), Sampling(max_new_tokens=limit - 1))
        recorded = io[f"eval/{name}"]
        for row, expected in zip(rows, recorded.tolist(), strict=True):
            # they go on after EOS until all rows have ended
            assert row == expected[: len(row)]
            assert len(row) == limit or row[-1] == settings["eos"]
        predicted = model.predict_text(recorded)
        assert torch.equal(predicted, io[f"eval/pred_{names[name]}_cls"]), name


def control(num_labels=2, **options):
    torch.manual_seed(3)
    return LabelControl(tiny_model(), num_labels, **options).eval()


@pytest.mark.parametrize("num_labels", [2, 4])
def test_the_phases_train_different_parameters(num_labels):
    model = control(num_labels, hidden=5)
    ids, decoder_ids = tiny_batch(model.vae)
    labels = torch.tensor([0, 1, num_labels - 1])
    critics = model.critics()
    losses = model(ids, decoder_ids, labels, phase="critics")
    (losses.classifier + losses.discriminator + losses.text).backward()
    touched = {id(p) for p in model.parameters() if p.grad is not None}
    assert touched == {id(p) for p in critics}
    model.zero_grad()
    losses = model(ids, decoder_ids, labels, phase="model")
    (losses.reconstruction.mean() + losses.encoder + losses.generator).backward()
    assert model.generator.weight.grad is not None
    assert model.text_head.weight.grad is None


def test_every_label_is_trained_unless_the_authors_switch_is_on():
    for train_zero in (True, False):
        model = control(train_zero_label=train_zero)
        ids, decoder_ids = tiny_batch(model.vae)
        losses = model(ids, decoder_ids, torch.zeros(3, dtype=torch.long))
        losses.reconstruction.mean().backward()
        moved = model.label_embedding.weight.grad[0].abs().sum() > 0
        assert bool(moved) == train_zero


def test_padding_changes_no_decision_on_text():
    model = control()
    _, ids = tiny_batch(model.vae)
    pad = model.vae.config.pad_token_id
    wide = torch.cat([ids, ids.new_full((len(ids), 5), pad)], dim=1)
    torch.testing.assert_close(model.classify_text(ids), model.classify_text(wide))
    assert model.classify_text(ids[:, :2]).isfinite().all()


def test_two_labels_with_one_logit_equal_two_logits():
    logits, labels = torch.randn(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(label_loss(logits, labels), label_loss(both, labels))
    assert torch.equal(decide(logits), decide(both))
    for adversary in ("reverse", "confusion"):
        one, two = (adversarial_loss(each, labels, adversary) for each in (logits, both))
        torch.testing.assert_close(one, two)


def test_a_start_from_the_posterior_begins_with_what_the_decoder_knows():
    model = control()
    ids, _ = tiny_batch(model.vae)
    model.start_from_posterior()
    mean = model.vae.encode(ids).mean
    torch.testing.assert_close(model.encode(ids), mean)
    both = [model.condition(mean, torch.full((len(mean),), label)) for label in (0, 1)]
    assert not torch.equal(*both)
    torch.testing.assert_close(sum(both) / 2, mean)
    noise = torch.randn(3, 6)
    torch.testing.assert_close(model.make_latent(noise), noise)


def test_the_module_is_saved_whole(tmp_path):
    model = control(3, hidden=4, noise=0.5)
    model.save_pretrained(tmp_path)
    again = LabelControl.from_pretrained(tmp_path)
    ids, decoder_ids = tiny_batch(model.vae)
    torch.testing.assert_close(again.encode(ids), model.encode(ids))
    torch.testing.assert_close(again.classify_text(decoder_ids), model.classify_text(decoder_ids))
    assert again.noise == 0.5


def test_the_soft_term_reaches_labels_and_encoder():
    vae = tiny_model()
    model, batch = LabelControl(vae, 3), tiny_batch(vae)
    labels = torch.arange(len(batch[0])) % 3
    losses = model(*batch, labels, phase="model", soft_temperature=0.5)
    losses.soft.backward()
    assert losses.soft > 0
    assert model.label_embedding.weight.grad.abs().sum() > 0
    assert model.latent_head.weight.grad.abs().sum() > 0
    assert model(*batch, labels, phase="model").soft == 0


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
