"""The speaker and back-translation against recorded cases, and what must hold for any speaker."""

import numpy as np
import pytest
import torch

from prevalent.agents.speaker import back_translate, feature_noise
from prevalent.data.tokenizers import EOS, PAD, UNK
from prevalent.models.encoders import Words
from tests.agents.test_rollout import check_reinforcement, check_rollout, draws_of
from tests.recorded_agents import Recorded, near, rollout_cases
from tests.small_agents import TOKENIZER, make_batch, make_speaker

FORWARD = 1e-5


@pytest.fixture(scope="module")
def recordings(golden, real_graphs, data_dir, device):
    cases = [Recorded.load(path, real_graphs, data_dir, device) for path in rollout_cases(golden)]
    cases = [recorded for recorded in cases if "speaker_tf" in recorded.case]
    if not cases:
        pytest.skip("no recorded speaker")
    return cases


def word_batch(recorded, ids):
    batch = recorded.batch(ids)
    tokens = np.stack([recorded.words.encode(task.text) for task in batch.tasks])
    return batch._replace(tokens=tokens)


@pytest.mark.golden
def test_recorded_path_features_and_teacher_forcing_are_reproduced(recordings):
    for recorded in recordings:
        case, speaker = recorded.case["speaker_tf"], recorded.speaker()
        batch = word_batch(recorded, case["items"])
        path = speaker.look(batch.tasks)
        assert path.lengths.tolist() == case["path_lengths"]
        wanted = recorded.array("speaker_tf/can_feats")
        torch.testing.assert_close(path.candidates, wanted, rtol=0, atol=1e-6)
        sums = recorded.array("speaker_tf/img_feat_sums")
        ours = path.panoramas.sum(dim=(2, 3))
        torch.testing.assert_close(ours.to(sums.dtype), sums, rtol=1e-5, atol=1e-3)
        scores = speaker.evaluate(batch)
        assert scores.loss == pytest.approx(case["loss"], abs=near(recorded.device, FORWARD))
        assert scores.word_accuracy == pytest.approx(case["word_accu"], abs=1e-6)
        assert scores.sentence_accuracy == pytest.approx(case["sent_accu"], abs=1e-6)


@pytest.mark.golden
def test_recorded_captions_are_generated_again(recordings):
    for recorded in recordings:
        case, speaker = recorded.case["speaker_infer"], recorded.speaker()
        tasks = recorded.batch(recorded.case["speaker_tf"]["items"]).tasks
        words = speaker.generate(tasks)
        assert words.tolist() == case["words"]
        assert [recorded.words.decode(row) for row in words] == case["text"]
        assert [recorded.words.shrink(row) for row in words] == case["shrunk"]


@pytest.mark.golden
def test_a_recorded_rollout_on_back_translated_instructions_is_walked_again(recordings):
    for recorded in recordings:
        if "backtrans_sample" not in recorded.case:
            continue
        case, follower = recorded.case["backtrans_sample"], recorded.trained()
        noise = recorded.array("backtrans_noise")
        tasks = recorded.batch(case["items"]).tasks
        batch = back_translate(recorded.speaker(), tasks, recorded.tokenizer, noise)
        np.testing.assert_array_equal(batch.tokens, case["instr_encoding"])
        rolled = follower.rollout(
            batch, "sample", noise=noise, draws=draws_of(case), bootstrap=True, keep_steps=True
        )
        check_rollout(recorded, "backtrans_sample", follower, rolled)
        check_reinforcement(follower, case, rolled)
        assert Words.of(batch.tokens).ids.shape[1] <= batch.tokens.shape[1]


def test_the_speaker_learns_a_batch_by_heart():
    speaker = make_speaker(hidden_size=32)
    speaker.updater.set_lr(1e-2)
    batch = make_batch(speaker.environment, count=3)
    for _ in range(120):
        speaker.step(batch)
    scores = speaker.evaluate(batch)
    assert scores.word_accuracy > 0.95
    words = speaker.generate(batch.tasks)
    texts = [TOKENIZER.shrink(row) for row in batch.tokens]
    assert sum(TOKENIZER.shrink(a) == b for a, b in zip(words, texts, strict=True)) >= 2


def test_generated_texts_are_padded_behind_their_end_and_never_unknown():
    speaker = make_speaker()
    words = speaker.generate(make_batch(speaker.environment).tasks, sample=True)
    assert words.shape[1] <= speaker.config.max_decode
    assert not (words == UNK).any()
    for row in words.tolist():
        if EOS in row:
            assert set(row[row.index(EOS) + 1 :]) <= {PAD}
    assert speaker.decoder.training


def test_noise_is_one_mask_of_zeros_and_scaled_ones():
    torch.manual_seed(0)
    noise = feature_noise(1000, 0.4)
    assert noise.shape == (1000,)
    assert sorted(noise.unique().tolist()) == pytest.approx([0.0, 1 / 0.6])
    assert 0.35 < (noise == 0).float().mean() < 0.45


def test_back_translated_words_end_with_the_end_word():
    speaker = make_speaker()
    batch = back_translate(speaker, make_batch(speaker.environment).tasks, TOKENIZER)
    assert (batch.tokens[:, 0] == TOKENIZER.bos).all()
    assert all(EOS in row for row in batch.tokens.tolist())


def test_the_loss_of_words_is_the_cross_entropy_to_the_bit():
    """By a gather, whose gradient has a fixed order on a GPU as well."""
    speaker = make_speaker().train(False)
    batch = make_batch(speaker.environment)
    path, tokens = speaker.look(batch.tasks), speaker.cut(batch.tokens)
    found = []
    for ours in (True, False):
        speaker.updater.clear()
        if ours:
            each = speaker.log_probs(path, tokens)
        else:
            state = speaker.decoder.start(len(tokens))
            logits, _ = speaker.decoder(tokens[:, :-1], speaker.encoder(path), path.padding, state)
            each = -torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), tokens[:, 1:], ignore_index=PAD, reduction="none"
            )
        each.sum().backward()
        found.append([each.detach(), *(p.grad for p in speaker.decoder.lstm.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
