"""The speaker's networks against the authors' outputs."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prevalent.models.decoders import PathFeatures, SpeakerDecoder, SpeakerEncoder
from prevalent.released.checkpoints import restore

FORWARD = 1e-5  # absolute, float32


def close(ours, theirs):
    torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=FORWARD)


def weights_of(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


@pytest.mark.golden
def test_the_recorded_speaker_is_reproduced(golden):
    path = golden / "models/r2r_speaker.npz"
    if not path.exists():
        pytest.skip("no recorded speaker networks")
    with np.load(path) as file:
        arrays = {name: torch.as_tensor(file[name]) for name in file.files}
    seen = PathFeatures(arrays["can_feats"], arrays["img_feats"], arrays["lengths"])
    words, weights = arrays["words"], weights_of(arrays, "dec/")
    vocab, width = weights["embedding.weight"].shape
    hidden = weights["projection.weight"].shape[1]
    encoder = SpeakerEncoder(seen.candidates.shape[-1], 4, hidden).eval()
    decoder = SpeakerDecoder(vocab, width, hidden).eval()
    restore(encoder, weights_of(arrays, "enc/"), path)
    restore(decoder, weights, path)
    context, start = encoder(seen), decoder.start(len(words))
    logits, state = decoder(words, context, seen.padding, start)
    loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), words[:, 1:], ignore_index=0)
    first, _ = decoder(words[:, :1], context, seen.padding, start)
    assert torch.equal(seen.padding, arrays["ctx_mask"])
    for ours, name in (
        (context, "ctx"),
        (logits, "logits"),
        (state.hidden, "h1"),
        (state.cell, "c1"),
        (first, "first_step_logits"),
        (loss, "teacher_forcing_loss"),
    ):
        close(ours, arrays[name])


def test_words_one_by_one_give_the_logits_of_all_at_once():
    torch.manual_seed(0)
    decoder = SpeakerDecoder(11, 6, 8).eval()
    words, context = torch.randint(1, 11, (2, 5)), torch.randn(2, 4, 8)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])
    whole, _ = decoder(words, context, padding, decoder.start(2))
    state, steps = decoder.start(2), []
    for i in range(5):
        logits, state = decoder(words[:, i : i + 1], context, padding, state)
        steps.append(logits)
    close(torch.cat(steps, dim=1), whole.detach())
