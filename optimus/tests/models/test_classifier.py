import json
import re

import numpy as np
import pytest
import torch
from factories import close, tiny_config
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from optimus.models.classifier import SentenceClassifier, classification_loss
from optimus.released.checkpoints import ENCODER_FIELDS, load_tensors


def recorded_bert(folder):
    """The encoder of a recorded checkpoint, and the tensors that a classifier does not use."""
    given = json.loads((folder / "config.json").read_text())
    bert = BertModel(BertConfig(**{k: given[k] for k in ENCODER_FIELDS if k in given}))
    tensors = load_tensors(folder / "pytorch_model.bin")
    tensors = {name.removeprefix("bert."): value for name, value in tensors.items()}
    left = bert.load_state_dict(tensors, strict=False)
    assert not left.missing_keys
    return bert, left.unexpected_keys


@pytest.mark.golden
def test_heads_agree_with_the_authors(golden_kind, device):
    folder = golden_kind("glue_head")
    cases = sorted(folder.glob("out_*.npz"))
    if not cases:
        pytest.skip(f"{folder} has no out_*.npz")
    for path in cases:
        bert, unexpected = recorded_bert(next(folder.glob("checkpoint-encoder-*")))
        info = json.loads((folder / "loading_info.json").read_text())
        assert unexpected == info["unexpected"]
        num_labels = int(re.search(r"\d+", path.stem)[0])
        model = SentenceClassifier(bert, num_labels).eval()
        model.classifier.load_state_dict(load_file(folder / f"classifier_{num_labels}.safetensors"))
        model.to(device)
        io = {name: torch.from_numpy(value).to(device) for name, value in np.load(path).items()}
        logits = model(io["x0"])
        close(model.features(io["x0"]).detach(), io["pooled"])
        close(logits.detach(), io["logits"])
        close(classification_loss(logits, io["labels"]).detach(), io["loss"])


def classifier(**options):
    return SentenceClassifier(BertModel(tiny_config().bert), 3, **options)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_feature_based_classifier_leaves_the_encoder_alone(frozen):
    model = classifier(frozen=frozen)
    ids, labels = torch.randint(1, 60, (4, 7)), torch.tensor([0, 1, 2, 0])
    classification_loss(model(ids), labels).backward()
    moved = [p.grad is not None for p in model.bert.parameters()]
    assert any(moved) != frozen
    assert model.classifier.weight.grad is not None


def test_padding_changes_nothing():
    model = classifier().eval()
    ids = torch.randint(1, 60, (2, 6))
    wide = torch.cat([ids, ids.new_zeros(2, 3)], dim=1)
    torch.testing.assert_close(model(ids), model(wide))


def test_one_output_is_regression():
    loss = classification_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 3.0]))
    assert loss.item() == pytest.approx(0.5)
    with pytest.raises(ValueError, match="at least 1 output"):
        SentenceClassifier(BertModel(tiny_config().bert), 0)
