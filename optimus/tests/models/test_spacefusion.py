import json
import math

import numpy as np
import pytest
import torch
from factories import GRADIENT, close, tiny_batch, tiny_model
from safetensors.torch import load_file

from optimus.models.spacefusion import (
    FusionNoise,
    SpaceFusion,
    StyleSentences,
    nearest_distance,
    pull_distance,
    push_distance,
    speaker_ids,
    towards_style,
)
from optimus.released.checkpoints import assemble, import_checkpoint

SEP = 102


def recorded(folder, device):
    """The recorded module with the authors' switches, its settings and its arrays."""
    settings = json.loads((folder / "args.json").read_text())
    configs = [
        json.loads((folder / f"config_{part}.json").read_text()) for part in ("encoder", "decoder")
    ]
    tensors = load_file(folder / "weights_full.safetensors")
    vae_tensors = {k: v for k, v in tensors.items() if k.startswith(("encoder.", "decoder."))}
    memory, embedding = settings["latent_as_gpt_memory"], settings["latent_as_gpt_emb"]
    inject = {(True, True): "both", (True, False): "memory", (False, True): "embedding"}
    vae, _ = import_checkpoint(
        assemble(vae_tensors, *configs), inject=inject[(bool(memory), bool(embedding))]
    )
    frozen = settings["num_frozen_bert_layer"] if settings["freeze_bert"] else 0
    model = SpaceFusion(
        vae,
        settings["num_s2s_bert_layer"],
        frozen,
        sep_id=SEP,
        include_self=True,
        mask_padding=False,
        speaker_rule="last-row",
    ).eval()
    copied = {k.removeprefix("S2S_layers."): v for k, v in tensors.items() if "S2S_layers." in k}
    model.context_layers.load_state_dict(copied)
    arrays = np.load(folder / "io.npz")
    io = {name: torch.from_numpy(arrays[name]).to(device) for name in arrays.files}
    return model.to(device), settings, io


@pytest.fixture
def case(golden_kind, device):
    return recorded(golden_kind("spacefusion", "io.npz"), device)


@pytest.mark.golden
def test_speakers_and_latents_agree_with_the_authors(case):
    model, _, io = case
    mask = io["src"] != 0
    assert torch.equal(speaker_ids(io["src"], mask, SEP, "last-row"), io["speaker"])
    close(model.vae.encode(io["tgt"]).sample(io["eps_ae"])[:, 0].detach(), io["z_ae"])
    close(model.context_posterior(io["src"]).sample(io["eps_s2s"])[:, 0].detach(), io["z_s2s"])
    z = model.context_posterior(io["src"]).sample(io["sent2latent_eps"])[:, 0]
    close(z.detach(), io["sent2latent"])


@pytest.mark.golden
def test_losses_and_gradients_agree_with_the_authors(case):
    model, settings, io = case
    noise = FusionNoise(io["eps_ae"], io["eps_s2s"], io["u"], io["noise_unit"])
    losses = model(io["src"], io["tgt"], io["labels"], weight=settings["beta"], noise=noise)
    close(losses.reconstruction.detach(), io["loss_rec"])
    close(losses.regulariser.detach(), io["loss_reg"])
    close(losses.total.detach(), io["loss"])
    close(losses.pull.detach(), io["dist_pair"])
    close(losses.push.detach(), torch.minimum(io["dist_batch_ae"], io["dist_batch_s2s"]))
    losses.total.mean().backward()
    close(model.vae.encoder.head.weight.grad, io["grad_encoder_linear"], GRADIENT)
    query = model.context_layers[-1].attention.self.query.weight.grad
    close(query, io["grad_s2s_last_query"], GRADIENT)


@pytest.mark.golden
def test_the_same_parameters_are_frozen(case):
    model, settings, _ = case
    frozen = [n for n, p in model.vae.encoder.bert.named_parameters() if not p.requires_grad]
    recorded = [n.removeprefix("encoder.") for n in settings["frozen_parameter_names"]]
    assert sorted(frozen) == sorted(recorded)
    assert all(p.requires_grad for p in model.context_layers.parameters())


def fusion(**options):
    vae = tiny_model()
    return SpaceFusion(vae, 1, 1, sep_id=7, **options).eval()


def test_the_last_utterance_of_every_context_is_the_other_speaker():
    ids = torch.tensor([[1, 5, 7, 6, 7, 4, 7], [1, 5, 6, 7, 0, 0, 0], [1, 5, 7, 6, 7, 0, 0]])
    expected = [[1, 1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0]]
    assert speaker_ids(ids, ids != 0, 7).tolist() == expected


def test_the_push_term_ignores_a_rows_distance_to_itself():
    latent = torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.6, 1.8]])
    assert push_distance(latent).item() == pytest.approx((1 + 1 + 1) / 3, abs=1e-4)
    assert push_distance(latent, include_self=True).item() == pytest.approx(1e-6 * math.sqrt(2))
    assert push_distance(latent[:1]).item() == 0


def test_rows_further_apart_than_draws_from_the_prior_are_pushed_no_further():
    latent = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]], requires_grad=True)
    push = push_distance(latent)
    assert push.item() == pytest.approx((2 + 1 + 1) / 3, abs=1e-4)
    push.backward()
    assert latent.grad[0].abs().max() == 0


def test_distances_of_pairs_and_of_sets():
    first, second = torch.zeros(2, 3), torch.tensor([[1.0, 0, 0], [0, 2.0, 0]])
    assert pull_distance(first, second).item() == pytest.approx(1.5, abs=1e-4)
    assert nearest_distance(first, second).item() == pytest.approx((1 + 1.5) / 2, abs=1e-4)


def test_padding_changes_nothing_in_the_context():
    model = fusion()
    ids, _ = tiny_batch(model.vae)
    wide = torch.cat([ids, ids.new_zeros(len(ids), 4)], dim=1)
    for a, b in zip(model.context_posterior(ids), model.context_posterior(wide), strict=True):
        torch.testing.assert_close(a, b)


def test_style_sentences_add_a_third_branch():
    model = fusion()
    ids, decoder_ids = tiny_batch(model.vae)
    torch.manual_seed(1)
    plain = model(ids, ids, decoder_ids)
    torch.manual_seed(1)
    styled = model(ids, ids, decoder_ids, style=StyleSentences(ids, decoder_ids), style_weight=0.5)
    assert plain.style.item() == 0
    torch.testing.assert_close(styled.total, plain.total + 0.5 * styled.style)


def test_moving_towards_a_style_ends_at_its_neighbours():
    style = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-5.0, 0.0]])
    latent = torch.zeros(1, 2)
    torch.testing.assert_close(towards_style(latent, style, 0.0), latent)
    moved = towards_style(latent, style, 1.0, neighbours=2)
    torch.testing.assert_close(moved, torch.tensor([[0.95, 0.05]]))


def test_the_module_is_saved_whole(tmp_path):
    model = fusion(include_self=True)
    with torch.no_grad():
        for parameter in model.context_layers.parameters():
            parameter.add_(0.1)
    model.save_pretrained(tmp_path)
    again = SpaceFusion.from_pretrained(tmp_path)
    ids, _ = tiny_batch(model.vae)
    assert again.include_self
    torch.testing.assert_close(again.context_posterior(ids), model.context_posterior(ids))
    with pytest.raises(FileNotFoundError, match="no spacefusion model"):
        SpaceFusion.from_pretrained(tmp_path / "none")


def test_impossible_numbers_of_layers_are_refused():
    with pytest.raises(ValueError, match="9 frozen layers"):
        SpaceFusion(tiny_model(), 1, 9)
    with pytest.raises(ValueError, match="0 context layers"):
        SpaceFusion(tiny_model(), 0, 0)
