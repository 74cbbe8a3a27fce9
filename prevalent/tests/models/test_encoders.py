"""Text encoders against the authors' outputs, and what must hold for any of them."""

import numpy as np
import pytest
import torch

from prevalent.models import encoders as encoder_module
from prevalent.models.encoders import (
    BertEncoder,
    DicEncoder,
    WordEncoder,
    Words,
    packed_lstm,
    reverse_words,
    run_lstm,
)
from prevalent.models.kernels import full_lstm
from prevalent.released.checkpoints import load_model, restore
from tests.small_agents import make_bert

FORWARD = 1e-5  # absolute, float32
ON_A_GPU = 1e-4  # likewise, where sums have another order


def near(device):
    """The tolerance of values that were computed on ``device``."""
    return FORWARD if device.type == "cpu" else ON_A_GPU


def recorded_cases(golden, pattern, device):
    """(name, arrays, weights) of the recorded modules; skips where there are none."""
    paths = sorted((golden / "models").glob(pattern))
    if not paths:
        pytest.skip(f"no recorded {pattern}")
    for path in paths:
        with np.load(path) as file:
            arrays = {name: torch.as_tensor(file[name]).to(device) for name in file.files}
        state = {k.removeprefix("sd/"): v for k, v in arrays.items() if k.startswith("sd/")}
        yield path.stem.removeprefix("r2r_"), arrays, state


def compare(encoding, arrays):
    for ours, name in zip(encoding, ("ctx", "decoder_init", "c_t"), strict=True):
        tolerance = near(ours.device)
        torch.testing.assert_close(ours.detach(), arrays[name], rtol=0, atol=tolerance, msg=name)


def words_of(arrays):
    words = Words.of(arrays["seq"].cpu().numpy(), arrays["seq"].device)
    assert words.lengths.tolist() == arrays["lengths"].tolist()
    return words


@pytest.mark.golden
def test_recorded_word_encoders_are_reproduced(golden, device):
    for name, arrays, state in recorded_cases(golden, "r2r_EncoderLSTM_*.npz", device):
        summary, zero = name.removeprefix("EncoderLSTM_").split("_")
        vocab, width = state["embedding.weight"].shape
        encoder = (
            WordEncoder(
                vocab,
                width,
                len(state["encoder2decoder.bias"]),
                bidirectional="lstm.bias_ih_l0_reverse" in state,
                summary=summary,
                zero_start=zero == "zero1",
            )
            .eval()
            .to(device)
        )
        restore(encoder, state, name)
        compare(encoder(words_of(arrays)), arrays)


@pytest.mark.golden
def test_recorded_dic_encoders_are_reproduced(golden, device):
    for name, arrays, state in recorded_cases(golden, "r2r_encoder_dic_*.npz", device):
        size, hidden, bidirectional, top, reverse, _, _ = arrays["ctor"].tolist()
        encoder = (
            DicEncoder(
                load_model(golden / "models/dicadd_tiny").bert,
                hidden,
                size,
                bidirectional=bool(bidirectional),
                top_lstm=bool(top),
                reverse_input=bool(reverse),
            )
            .eval()
            .to(device)
        )
        restore(encoder, state, name)
        words = words_of(arrays)
        compare(encoder(words, arrays["f_t_all"]), arrays)
        compare(encoder(words, arrays["f_t_all"], encoder.encode_text(words)), arrays)


@pytest.mark.golden
def test_recorded_bert_encoders_are_reproduced(golden, device):
    for name, arrays, state in recorded_cases(golden, "r2r_[BC]EncoderLSTM.npz", device):
        projected = "linear_in.weight" in state
        encoder = (
            BertEncoder(
                load_model(golden / "models/dicadd_tiny").bert,
                len(state["encoder2decoder.bias"]),
                len(state["linear_in.bias"]) if projected else None,
                summary="max",
            )
            .eval()
            .to(device)
        )
        restore(encoder, state, name)
        compare(encoder(words_of(arrays), arrays["img"]), arrays)


def encoders():
    options = {"summary": "max"}
    return [
        WordEncoder(20, 6, 8, **options),
        DicEncoder(make_bert(), 8, 5, top_lstm=True),
        DicEncoder(make_bert(), 8, 5, bidirectional=False, reverse_input=False),
        BertEncoder(make_bert(), 8, **options),
        BertEncoder(make_bert(), 8, 6, **options),
    ]


@pytest.mark.parametrize("number", range(5))
def test_the_rest_of_a_batch_and_its_order_change_nothing(number):
    torch.manual_seed(0)
    encoder = encoders()[number].eval()
    tokens = np.array([[5, 6, 7, 8, 0, 0], [5, 6, 0, 0, 0, 0], [9, 3, 4, 5, 6, 7]])
    views = torch.randn(3, 36, 10) if encoder.sees_images else None
    together = encoder(Words.of(tokens), views)
    for i, row in enumerate(tokens):
        alone = encoder(Words.of(row[None]), None if views is None else views[i : i + 1])
        length = alone.context.shape[1]
        torch.testing.assert_close(alone.context[0], together.context[i, :length])
        assert not together.context[i, length:].any()
        if encoder.__dict__.get("summary") != "max":  # there padding counts as zeros
            torch.testing.assert_close(alone.hidden[0], together.hidden[i])
        torch.testing.assert_close(alone.cell[0], together.cell[i])


def test_words_end_at_the_first_padding():
    words = Words.of(np.array([[4, 5, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]]))
    assert words.ids.shape == (3, 2)
    assert words.lengths.tolist() == [2, 1, 1]
    assert words.padding.tolist() == [[False, False], [False, True], [True, True]]


def test_reversing_keeps_padding_at_the_end():
    words = Words.of(np.array([[1, 2, 3], [4, 5, 0]]))
    states = words.ids.float().unsqueeze(-1)
    reversed_states = reverse_words(states, words).squeeze(-1)
    assert reversed_states.tolist() == [[3.0, 2.0, 1.0], [5.0, 4.0, 0.0]]


def test_the_backward_state_comes_first():
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    words = Words.of(np.array([[1, 2, 3], [4, 5, 0]]))
    outputs, hidden, _ = run_lstm(lstm, torch.randn(2, 3, 3), words)
    torch.testing.assert_close(hidden[:, :4], outputs[:, 0, 4:])
    torch.testing.assert_close(hidden[0, 4:], outputs[0, 2, :4])
    torch.testing.assert_close(hidden[1, 4:], outputs[1, 1, :4])


@pytest.mark.parametrize("both", [True, False])
def test_the_lstm_over_words_alone_is_the_packed_one(both):
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 4, batch_first=True, bidirectional=both)
    words = Words.of(np.array([[5, 6, 7, 8], [5, 6, 0, 0], [5, 0, 0, 0]]))
    gradients = []
    for way in (packed_lstm, run_lstm):
        inputs = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(1))
        inputs.requires_grad_()
        results = way(lstm, inputs, words)
        lstm.zero_grad()
        sum((result * (i + 1)).square().sum() for i, result in enumerate(results)).backward()
        gradients.append([*results, inputs.grad, *(p.grad for p in lstm.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_lstm_runs_in_fp32_whatever_autocast_asks_for(dtype, monkeypatch):
    seen = []
    lstm = torch.nn.LSTM(4, 4, batch_first=True)
    words = Words.of(np.array([[5, 6, 7], [5, 0, 0]]))
    monkeypatch.setattr(encoder_module, "ragged_lstm", lambda _, inputs, __: seen.append(inputs))
    with torch.autocast("cpu", dtype):
        run_lstm(lstm, torch.randn(2, 3, 4).to(dtype), words)
        outputs, (hidden, _) = full_lstm(lstm, torch.randn(2, 3, 4).to(dtype))
    assert {one.dtype for one in (*seen, outputs, hidden)} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")
