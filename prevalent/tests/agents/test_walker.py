"""What agents see, and texts that are read ahead of the walk."""

import numpy as np
import torch

from prevalent.agents import rollout as walker_module
from prevalent.agents.rollout import Walker, see
from prevalent.models.encoders import Words
from tests.small_agents import make_batch, make_follower, make_world


def test_noise_multiplies_the_image_features_of_each_agent():
    environment, features = make_world()
    seen = environment.reset(make_batch(environment).tasks)
    plain, noise = see(features, seen), torch.rand(5, 6)
    noisy = see(features, seen, noise.unsqueeze(1))
    torch.testing.assert_close(noisy.images, plain.images * noise.unsqueeze(1))
    torch.testing.assert_close(
        noisy.candidates[..., :6], plain.candidates[..., :6] * noise[:, None]
    )
    assert torch.equal(noisy.angles, plain.angles)


def test_what_is_read_ahead_is_what_is_read_at_each_step(monkeypatch):
    follower = make_follower("dic").train(False)
    batch, environment = make_batch(follower.environment, count=6), follower.environment
    words = Words.of(batch.tokens)
    steps = []
    for most in (1, 7, 1000):  # a step, some steps, all steps at once
        monkeypatch.setattr(walker_module, "READ_TOGETHER", most)
        one = Walker(follower.policy, follower.features, words, None, True, follower.walk)
        one.read_ahead(environment, environment.reset(batch.tasks))
        steps.append(one.ahead)
    seen, ended = environment.reset(batch.tasks), np.zeros(6, dtype=bool)
    for t, read in enumerate(zip(*steps, strict=True)):
        rows = torch.from_numpy(np.flatnonzero(~ended))
        panorama = follower.features.panorama(seen.row, seen.view)[rows]
        wanted = follower.policy.encoder(words.pick(rows), panorama)
        for encoding, own in read:
            length = own.ids.shape[1]
            assert torch.equal(own.ids, words.ids[rows, :length])
            torch.testing.assert_close(encoding.context, wanted.context[:, :length])
            torch.testing.assert_close(encoding.hidden, wanted.hidden)
        ended |= seen.teacher == seen.count
        assert ended.all() == (t == len(steps[0]) - 1)
        seen = environment.step(np.where(ended, -1, seen.teacher))
