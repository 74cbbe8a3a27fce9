"""Batches come in one order, whatever reads ahead and wherever a run was resumed."""

from __future__ import annotations

import json

import pytest
import torch

from fqgan.data.batches import Batches, EpochSampler, fixed_choice, one_pass, windows
from fqgan.data.folders import read_folder
from fqgan.data.images import normalize
from fqgan.data.toy import toy_images
from fqgan.runtime import distributed


def equal(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_resumed_batches_equal_uninterrupted_ones(image_folder, prefetch):
    images = read_folder(image_folder, resolution=8, workers=2)
    whole = Batches(images, 4, seed=1, augment=True, pad=1, prefetch=0)
    expected = [next(whole) for _ in range(7)]
    first = Batches(images, 4, seed=1, augment=True, pad=1, prefetch=prefetch)
    for step in range(3):
        assert equal(next(first), expected[step])
    assert first.images_seen == 12
    second = Batches(images, 4, seed=1, augment=True, pad=1, prefetch=prefetch)
    second.load_state_dict(first.state_dict())
    for step in range(3, 7):
        assert equal(next(second), expected[step])
    first.close()
    second.close()


def test_closing_gives_back_what_was_read_ahead(image_folder):
    images = read_folder(image_folder, resolution=8)
    batches, other = (Batches(images, 2, seed=4, prefetch=p) for p in (2, 0))
    next(batches), next(other)
    batches.close()
    assert equal(next(batches), next(other))
    batches.close()


def test_augmentation_does_not_depend_on_the_number_of_ranks(monkeypatch):
    images = toy_images(40)
    alone = Batches(images, 5, seed=1, augment=True, pad=2)
    ranks = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        ranks.append(Batches(images, 5, seed=1, augment=True, pad=2))
    for _ in range(3):
        for rank in ranks:
            assert equal(next(rank), next(alone))


def test_augmentation_mirrors_about_half_of_the_images():
    images = toy_images(200)
    plain = next(Batches(images, 200, shuffle=False)).images
    drawn = next(Batches(images, 200, shuffle=False, augment=True)).images
    same = (plain == drawn).flatten(1).all(1)
    mirrored = (plain.flip(3) == drawn).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 60 < int(mirrored.sum()) < 140


def test_a_window_is_cut_where_the_shift_says():
    pixels = torch.arange(2 * 3 * 6 * 6, dtype=torch.uint8).view(2, 3, 6, 6)
    out = windows(pixels, torch.tensor([[2, 2], [0, 1]]), 4)
    assert torch.equal(out[0], pixels[0, :, 2:, 2:])
    assert torch.equal(out[1], pixels[1, :, :4, 1:5])


def test_one_image_in_two_is_enlarged_and_cut_back():
    images = toy_images(100, resolution=16)
    plain = next(Batches(images, 100, shuffle=False)).images
    drawn = next(Batches(images, 100, shuffle=False, augment=True, enlarge=4)).images
    assert drawn.shape == plain.shape
    same = (drawn - plain).abs().flatten(1).amax(1) < 1e-6
    assert 30 < int(same.sum()) < 70


def test_one_pass_of_two_ranks_covers_every_image_once(monkeypatch):
    images = toy_images(23)
    seen = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        seen.append(torch.cat([batch.images for batch in one_pass(images, 5)]))
    assert torch.equal(seen[0], normalize(images.pixels[0::2]))
    assert torch.equal(seen[1], normalize(images.pixels[1::2]))


def test_a_choice_of_images_is_fixed_and_spread():
    chosen = fixed_choice(1000, 100)
    assert torch.equal(chosen, fixed_choice(1000, 100))
    assert len(chosen.unique()) == 100
    assert chosen.min() < 100
    assert chosen.max() > 900
    assert torch.equal(fixed_choice(10, 0), torch.arange(10))


@pytest.mark.parametrize("prefetch", [0, 3])
def test_another_batch_size_goes_on_in_the_same_order(image_folder, prefetch):
    images = read_folder(image_folder, resolution=8, workers=2)
    single = Batches(images, 1, prefetch=0)
    expected = torch.cat([next(single).images for _ in range(10)])
    batches = Batches(images, 4, prefetch=prefetch)
    found = [next(batches).images]
    batches.resize(3)
    found += [next(batches).images, next(batches).images]
    assert torch.equal(torch.cat(found), expected)
    assert batches.images_seen == 10
    batches.close()


@pytest.mark.gpu
def test_batches_on_a_gpu_equal_those_on_the_cpu(image_folder):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    options = {"seed": 1, "augment": True, "pad": 2}
    toy = toy_images(40)
    for images in (read_folder(image_folder, resolution=8), toy):
        there, here = (Batches(images, 4, device=device, **options) for device in ("cuda", "cpu"))
        moved = Batches(toy_images(40).to("cuda"), 4, device="cuda", **options)
        for _ in range(3):
            expected, found = next(here), next(there)
            assert found.images.device.type == "cuda"
            assert torch.equal(found.images.cpu(), expected.images)
            assert torch.equal(found.labels.cpu(), expected.labels)
            if images is toy:
                assert torch.equal(next(moved).images.cpu(), expected.images)
        there.close()
        here.close()


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
