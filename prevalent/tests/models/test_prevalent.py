""""""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from prevalent.config import ModelConfig
from prevalent.models.prevalent import (
    Attention,
    CrossLayer,
    LanguageLayer,
    PrevalentForPretraining,
    attention_bias,
    mean_cross_entropy,
)
from prevalent.released.checkpoints import load_model, to_model_config

FORWARD = {"cpu": 1e-5, "cuda": 1e-4}  # absolute, float32; on a GPU sums have another order
GRADIENT = {"cpu": 1e-4, "cuda": 1e-3}  # relative


def tiny(**changes) -> ModelConfig:
    return replace(
        ModelConfig(
            vocab_size=50,
            hidden_size=16,
            num_heads=2,
            intermediate_size=32,
            num_language_layers=2,
            num_cross_layers=2,
            image_dim=12,
            max_positions=32,
            dropout=0.0,
            attention_dropout=0.0,
        ),
        **changes,
    )


def random_batch(config, batch=3, length=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(config.vocab_size, (batch, length), generator=generator)
    mask = (torch.arange(length) < torch.tensor([length, 5, 3])[:batch, None]).long()
    images = torch.randn(batch, 36, config.image_dim, generator=generator)
    labels = torch.where(torch.rand(batch, length, generator=generator) < 0.4, ids, -1)
    actions = torch.randint(config.num_actions, (batch,), generator=generator)
    return ids, mask, images, labels * mask - (1 - mask), actions


@pytest.fixture
def recorded(golden, device):
    """(model, arrays) of the recorded forward passes."""
    folder = golden / "models"
    if not (folder / "dicadd_forward.npz").exists():
        pytest.skip(f"{folder} has no dicadd_forward case")
    arrays = np.load(folder / "dicadd_forward.npz")
    return load_model(folder / "dicadd_tiny").to(device), {
        name: torch.as_tensor(array).to(device) if array.dtype.kind in "fi" else array
        for name, array in arrays.items()
    }


@pytest.mark.golden
def test_every_recorded_layer_and_loss_is_reproduced(recorded):
    model, case = recorded
    bert, mask = model.bert, case["attention_mask"]
    everywhere = torch.arange(case["input_ids"].numel(), device=mask.device)
    near = FORWARD[mask.device.type]
    inputs = (case["input_ids"], mask, case["img"], case["labels"])
    with torch.no_grad():
        full = model(*inputs, case["action"], positions=everywhere)
        with_image = bert(case["input_ids"], mask, case["img"])
        no_image = bert(case["input_ids"], mask)
        no_mask = bert(case["input_ids"], None, case["img"])
        ours = {
            "loss": model(*inputs, case["action"]).loss,
            "loss_no_action": model(*inputs).loss,
            "mlm_logits": full.word_logits.view(case["mlm_logits"].shape),
            "action_logp": full.action_log_probs,
            "lang_output": with_image.sequence,
            "pooled": with_image.pooled,
            "lang_output_noimg": no_image.sequence,
            "pooled_noimg": no_image.pooled,
            "lang_output_nomask": no_mask.sequence,
            "embeddings": bert.embeddings(case["input_ids"]),
            "vision_in": bert.vision_encoder(case["img"]),
        }
        bias = (1.0 - mask[:, None, None, :]) * -10000.0
        text = ours["embeddings"]
        for i, layer in enumerate(bert.lalayer):
            text = ours[f"la{i}"] = layer(text, bias)
        views = ours["vision_in"]
        for i, layer in enumerate(bert.addlayer):
            text, views = layer(text, views, bias)
            ours[f"vl{i}_lang"], ours[f"vl{i}_visn"] = text, views
    torch.testing.assert_close(full.loss, ours["loss"], rtol=0, atol=near)
    layers = [name for name in case if name[:2] in {"la", "vl"} and name[2].isdigit()]
    assert set(layers) <= set(ours)
    for name, value in ours.items():
        torch.testing.assert_close(value, case[name], rtol=0, atol=near, msg=name)


@pytest.mark.golden
def test_recorded_gradients_are_reproduced(recorded):
    model, case = recorded
    near = GRADIENT[case["img"].device.type]
    inputs = (case["input_ids"], case["attention_mask"], case["img"], case["labels"])
    model(*inputs, case["action"]).loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    for name, norm in zip(case["grad_names"], case["grad_norms"].tolist(), strict=True):
        if not name.endswith("key.bias"):  # analytically zero: only rounding is recorded
            assert float(gradients[name].norm()) == pytest.approx(norm, rel=near, abs=1e-5)
    for name in case["no_grad_names"]:
        assert gradients[name] is None, f"{name} has a gradient"
    for name in case:
        if name.startswith("grad/"):
            torch.testing.assert_close(
                gradients[name.removeprefix("grad/")], case[name], rtol=near, atol=1e-5
            )


@pytest.mark.golden
def test_frozen_variants_reach_the_recorded_parameters(golden):
    path = golden / "models/dicadd_train.json"
    if not path.exists():
        pytest.skip("no dicadd_train case")
    case = json.loads(path.read_text())
    arrays = np.load(golden / "models/dicadd_forward.npz")
    source = load_model(golden / "models/dicadd_tiny")
    inputs = [torch.as_tensor(arrays[name]) for name in ("input_ids", "attention_mask", "img")]
    inputs += [torch.as_tensor(arrays[name]) for name in ("labels", "action")]
    for flags, expected in case["frozen_variants"].items():
        language, cross = (part.split("=")[1] == "True" for part in flags.split(","))
        config = replace(source.config, update_language=language, update_cross=cross)
        model = PrevalentForPretraining(config)
        model.load_state_dict(source.state_dict())
        loss = model(*inputs).loss
        loss.backward()
        assert loss.item() == pytest.approx(expected["loss"], abs=FORWARD["cpu"])
        reached = {name for name, value in model.named_parameters() if value.grad is not None}
        assert reached == set(expected["params_with_grad"]), flags


@pytest.mark.golden
def test_the_released_layout_has_the_same_names_and_shapes(golden):
    path = golden / "models/released_layout.json"
    if not path.exists():
        pytest.skip("no released_layout case")
    case = json.loads(path.read_text())
    with torch.device("meta"):
        model = PrevalentForPretraining(to_model_config(case["config.json"], path))
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert shapes == case["keys"]
    assert len(shapes) == case["n_keys"]
    assert sum(p.numel() for p in model.parameters()) == case["n_parameters_unique"]
    assert sum(p.numel() for p in model.bert.parameters()) == case["n_bert_parameters"]


@pytest.mark.golden
def test_fresh_weights_have_the_recorded_spread(golden):
    path = golden / "models/dicadd_train.json"
    if not path.exists():
        pytest.skip("no dicadd_train case")
    case = json.loads(path.read_text())
    torch.manual_seed(0)
    model = PrevalentForPretraining(to_model_config(case["config"], path))
    state = model.state_dict()
    for name, (mean, std) in case["fresh_init_[mean,std]"].items():
        value = state[name].double()
        error = 6 * max(std, 1e-9) / value.numel() ** 0.5
        assert float(value.mean()) == pytest.approx(mean, abs=2 * error), name
        assert float(value.std(correction=0)) == pytest.approx(std, abs=2 * error), name


def test_predicting_only_masked_positions_changes_no_loss():
    model = PrevalentForPretraining(tiny()).eval()
    inputs = random_batch(model.config)
    few = model(*inputs)
    everywhere = model(*inputs, positions=torch.arange(inputs[0].numel()))
    torch.testing.assert_close(few.loss, everywhere.loss, rtol=0, atol=1e-6)
    assert len(few.word_logits) == (inputs[3] != -1).sum() < len(everywhere.word_logits)


def test_padding_changes_nothing():
    model = PrevalentForPretraining(tiny()).eval()
    ids, mask, images, labels, actions = random_batch(model.config)
    padded = [torch.nn.functional.pad(ids, (0, 4)), torch.nn.functional.pad(mask, (0, 4))]
    longer = model(*padded, images, torch.nn.functional.pad(labels, (0, 4), value=-1), actions)
    torch.testing.assert_close(
        longer.loss, model(ids, mask, images, labels, actions).loss, rtol=0, atol=1e-6
    )


def test_leaving_out_the_padding_changes_no_loss_and_no_gradient():
    model = PrevalentForPretraining(tiny())
    inputs = random_batch(model.config)
    words = inputs[1].flatten().nonzero().squeeze(1)
    gradients = []
    for word_positions in (None, words):
        model.zero_grad()
        output = model(*inputs, word_positions=word_positions)
        output.loss.backward()
        gradients.append((output.loss, [p.grad for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)
    packed = model.bert(*inputs[:3], words).sequence
    padded = model.bert(*inputs[:3]).sequence
    torch.testing.assert_close(packed, padded * inputs[1][..., None], rtol=0, atol=1e-6)


def test_no_target_costs_nothing_instead_of_nan():
    logits = torch.randn(2, 5, requires_grad=True)
    loss = mean_cross_entropy(logits, torch.tensor([-1, -1]))
    loss.backward()
    assert loss.item() == 0
    assert float(logits.grad.abs().sum()) == 0


def test_without_images_the_model_is_a_text_encoder():
    model = PrevalentForPretraining(tiny())
    ids, mask, _, labels, actions = random_batch(model.config)
    model(ids, mask, None, labels, actions).loss.backward()
    assert all(p.grad is None for p in model.bert.addlayer.parameters())
    assert model.bert.lalayer[0].output.dense.weight.grad is not None


def test_losses_are_fp32_under_bf16_autocast():
    model = PrevalentForPretraining(tiny()).eval()
    inputs = random_batch(model.config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*inputs)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, model(*inputs).loss, rtol=0.02, atol=0.02)


def test_text_can_be_encoded_once_and_fused_often():
    bert = PrevalentForPretraining(tiny()).bert.eval()
    ids, mask, images, _, _ = random_batch(bert.config)
    text = bert.encode_text(ids, mask)
    torch.testing.assert_close(bert.fuse(text, mask, images), bert(ids, mask, images).sequence)


CONFIG = ModelConfig(
    vocab_size=20, hidden_size=8, num_heads=2, intermediate_size=16, image_dim=6, dropout=0.0
)


def test_attention_agrees_with_the_written_out_formula():
    attention = Attention(CONFIG).eval()
    states, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        query = attention.query(states)[..., part]
        key, value = attention.key(memory)[..., part], attention.value(memory)[..., part]
        scores = query @ key.mT / 2 + (1 - mask[:, None]) * -10000.0
        heads.append(scores.softmax(-1) @ value)
    torch.testing.assert_close(
        attention(states, memory, attention_bias(mask, torch.float32)), torch.cat(heads, -1)
    )


def test_a_language_layer_is_the_bert_layer_of_transformers():
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    theirs = BertLayer(
        BertConfig(
            hidden_size=8,
            num_attention_heads=2,
            intermediate_size=16,
            layer_norm_eps=CONFIG.layer_norm_eps,
            attn_implementation="eager",
        )
    ).eval()
    ours = LanguageLayer(CONFIG).eval()
    ours.load_state_dict(theirs.state_dict())
    text = torch.randn(2, 4, 8)
    expected = theirs(text)
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(ours(text), expected)


def test_an_empty_text_gives_finite_attention():
    attention = Attention(CONFIG).eval()
    bias = attention_bias(torch.zeros(1, 3), torch.float32)
    assert torch.isfinite(attention(torch.randn(1, 2, 8), torch.randn(1, 3, 8), bias)).all()


def test_both_streams_start_from_the_inputs_of_the_layer():
    layer = CrossLayer(CONFIG).eval()
    text, images = torch.randn(1, 3, 8), torch.randn(1, 36, 8)
    new_text, new_images = layer(text, images)
    torch.testing.assert_close(new_text, layer.fuse_text(text, images))
    torch.testing.assert_close(new_images, layer.fuse_images(images, text))
