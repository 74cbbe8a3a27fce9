"""The order of images can be saved, shared among ranks, and is the authors'."""

import json

import pytest
import torch

from fqgan.data.batches import EpochSampler


def take(sampler, count):
    return torch.cat([next(sampler) for _ in range(count)])


@pytest.mark.golden
def test_the_order_is_the_one_of_the_authors_multi_epoch_sampler(golden):
    path = golden / "biggan" / "misc" / "misc.json"
    if not path.exists():
        pytest.skip("no recorded sampler order")
    case = json.loads(path.read_text())["multi_epoch_sampler"]
    length, batch = case["n"], case["batch_size"]
    for name, order in case.items():
        if name.startswith("start_itr"):
            sampler = EpochSampler(length, batch, seed=case["torch_seed"])
            first = int(name.removeprefix("start_itr")) * batch
            stream = sampler.slice(first, length * case["num_epochs"])
            assert stream.tolist() == order, name


def test_an_epoch_holds_every_image_once():
    stream = take(EpochSampler(10, 4, seed=1), 5)
    assert sorted(stream[:10].tolist()) == list(range(10))
    assert sorted(stream[10:].tolist()) == list(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()


def test_a_resumed_sampler_goes_on_in_mid_epoch():
    whole, first, second = (EpochSampler(7, 3, seed=5) for _ in range(3))
    expected = take(whole, 9)
    head = take(first, 4)
    second.load_state_dict(first.state_dict())
    assert torch.equal(torch.cat([head, take(second, 5)]), expected)


def test_two_ranks_see_what_one_process_sees():
    alone = EpochSampler(11, 3, seed=2)
    ranks = [EpochSampler(11, 3, seed=2, rank=rank, world_size=2) for rank in range(2)]
    for _ in range(6):
        for rank in ranks:
            assert torch.equal(next(rank), next(alone))


def test_a_checkpoint_of_two_ranks_resumes_on_one():
    pair = EpochSampler(11, 3, seed=2, rank=0, world_size=2)
    take(pair, 3)
    alone = EpochSampler(11, 3, seed=2)
    expected = take(EpochSampler(11, 3, seed=2), 9)[18:]
    alone.load_state_dict(pair.state_dict())
    assert torch.equal(take(alone, 3), expected)


def test_the_stream_can_be_read_backwards():
    sampler = EpochSampler(5, 2, seed=3)
    late = sampler.slice(40, 45)
    assert torch.equal(sampler.slice(0, 5), EpochSampler(5, 5, seed=3).slice(0, 5))
    assert torch.equal(sampler.slice(40, 45), late)


def test_without_shuffling_the_order_is_the_stored_one():
    assert take(EpochSampler(4, 3, shuffle=False), 2).tolist() == [0, 1, 2, 3, 0, 1]


def test_another_data_set_is_refused():
    with pytest.raises(ValueError, match="trained on 9 images and there are 8 now"):
        EpochSampler(8, 2).load_state_dict(EpochSampler(9, 2).state_dict())
