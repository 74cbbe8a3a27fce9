import torch

from fqgan.gan import Latents
from fqgan.runtime import distributed


def draws(latents, count=3):
    return [latents(4) for _ in range(count)]


def test_two_processes_draw_what_one_draws_that_accumulates_twice(monkeypatch):
    alone = draws(Latents(5, 3, seed=1), 4)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        for number, mine in enumerate(draws(Latents(5, 3, seed=1), 2)):
            torch.testing.assert_close(mine, alone[2 * number + rank], rtol=0, atol=0)


def test_a_restored_stream_goes_on_where_it_was():
    latents = Latents(5, 3, seed=1)
    latents(4)
    state, expected = latents.state_dict(), latents(4)
    other = Latents(5, 3, seed=9)
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    torch.testing.assert_close(other(4), expected, rtol=0, atol=0)


def test_the_standard_deviation_scales_the_noise_alone():
    one, two = Latents(5, 3, seed=1)(8), Latents(5, 3, seed=1, std=0.5)(8)
    torch.testing.assert_close(two.z, one.z / 2)
    assert torch.equal(two.labels, one.labels)


def test_labels_cover_all_classes():
    assert set(Latents(2, 3)(200).labels.tolist()) == {0, 1, 2}
