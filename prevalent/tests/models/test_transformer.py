import torch

from prevalent.config import ModelConfig
from prevalent.models.prevalent import Attention, CrossLayer, LanguageLayer, attention_bias

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
