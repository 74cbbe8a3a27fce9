import pytest
import torch

from optimus.data.batches import build_batch
from optimus.data.corruption import corrupt, corrupt_tokens
from optimus.data.tokenizers import train_tokenizers

TOLERANCE = 0.01  # five standard deviations of a share of 60,000 draws


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(["the dog barks .", "a cat sleeps ."] * 3, 40, 280)


def test_shares_are_those_of_bert():
    ids = torch.full((100, 600), 7)
    generator = torch.Generator().manual_seed(0)
    changed = corrupt_tokens(
        ids, torch.ones_like(ids, dtype=torch.bool), 3, 1000, probability=0.3, generator=generator
    )
    assert float((changed == 3).double().mean()) == pytest.approx(0.3 * 0.8, abs=TOLERANCE)
    others = (changed != 3) & (changed != 7)
    assert float(others.double().mean()) == pytest.approx(0.3 * 0.1, abs=TOLERANCE)


def test_special_tokens_and_padding_are_spared(tokenizers):
    batch = build_batch(tokenizers, ["the dog barks .", "a cat"] * 20)
    changed = corrupt(batch, tokenizers, 1.0)
    spared = ~batch.encoder_mask
    spared |= (batch.encoder_ids == tokenizers.cls_id) | (batch.encoder_ids == tokenizers.sep_id)
    assert torch.equal(changed.encoder_ids[spared], batch.encoder_ids[spared])
    assert (changed.encoder_ids != batch.encoder_ids).any()
    assert torch.equal(changed.decoder_ids, batch.decoder_ids)


def test_the_authors_way_spares_nothing(tokenizers):
    batch = build_batch(tokenizers, ["the dog barks .", "a cat"] * 20)
    changed = corrupt(batch, tokenizers, 1.0, spare_special=False)
    assert (changed.encoder_ids[:, 0] != tokenizers.cls_id).any()


def test_probability_zero_changes_nothing(tokenizers):
    batch = build_batch(tokenizers, ["the dog barks ."])
    assert torch.equal(corrupt(batch, tokenizers, 0.0).encoder_ids, batch.encoder_ids)
    with pytest.raises(ValueError, match="must be in"):
        corrupt(batch, tokenizers, 1.5)


def test_a_seed_fixes_the_corruption(tokenizers):
    batch = build_batch(tokenizers, ["the dog barks ."] * 8)
    draws = [
        corrupt(batch, tokenizers, 0.5, generator=torch.Generator().manual_seed(3)).encoder_ids
        for _ in range(2)
    ]
    assert torch.equal(*draws)
