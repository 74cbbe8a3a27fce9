import numpy as np
import pytest
from transformers import BertConfig, BertModel

from optimus.data.tokenizers import train_tokenizers
from optimus.judge import Judge
from optimus.models.classifier import SentenceClassifier

TEXTS = ["a good film .", "a bad film .", "the dog runs in the park and the cat sleeps ."]


@pytest.fixture
def judge():
    tokenizers = train_tokenizers(TEXTS * 4, 80, 290)
    bert = BertConfig(
        vocab_size=tokenizers.encoder_vocab_size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    model = SentenceClassifier(BertModel(bert), 3, pad_token_id=tokenizers.encoder_pad_id)
    return Judge(model, tokenizers, ("a", "b", "c"), max_tokens=8)


def test_batches_change_no_judgement(judge):
    whole, single = (judge.probabilities(TEXTS, batch_size=size) for size in (3, 1))
    np.testing.assert_allclose(whole, single, atol=1e-6)
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-6)
    assert judge.probabilities([]).shape == (0, 3)


def test_a_judge_is_read_back_from_its_folder_or_run(judge, tmp_path):
    judge.save(tmp_path / "model")
    for folder in (tmp_path, tmp_path / "model"):
        again = Judge.load(folder)
        assert (again.names, again.max_tokens) == (("a", "b", "c"), 8)
        np.testing.assert_allclose(
            again.probabilities(TEXTS), judge.probabilities(TEXTS), atol=1e-6
        )
    with pytest.raises(FileNotFoundError, match="train-classifier"):
        Judge.load(tmp_path / "none")
