import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import tiny_stylegan2

from fqgan.stylegan2.legacy import build_generator
from fqgan.stylegan2.sampling import (
    Sampler,
    labels_for,
    noise_inputs,
    numbers,
    repeated_label,
    seeded_image,
    seeded_inputs,
    seeded_styles,
    style_mixing_images,
    style_mixing_sheet,
    truncation_sheet,
)


def generator_of(classes=0):
    run = tiny_stylegan2("run", conditional=classes > 0)
    generator = build_generator(run.networks(classes)).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    generator.style_average.fill_(0.25)
    return generator


def test_a_sampler_repeats_itself_and_leaves_the_random_state_alone():
    generator = generator_of()
    before = torch.random.get_rng_state()
    one, two = (Sampler(generator, seed=3)(5) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(one, Sampler(generator, seed=4)(5))


def test_the_batch_size_changes_nothing_but_the_noise():
    generator = generator_of()
    one = Sampler(generator, noise="fixed", batch_size=2)(5)
    torch.testing.assert_close(one, Sampler(generator, noise="fixed", batch_size=5)(5))


def test_a_label_is_given_to_all_images():
    sampler = Sampler(generator_of(classes=3), label=2)
    assert sampler.draw(4)[1].tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match=r"--label 3: these weights have 3 classes"):
        Sampler(generator_of(classes=3), label=3)
    with pytest.raises(ValueError, match="no classes"):
        repeated_label(generator_of(), 0, 1)


def test_labels_are_for_networks_that_take_them():
    assert labels_for(torch.tensor([1]), 0) is None
    assert labels_for(torch.tensor([1]), 2).tolist() == [1]


def test_a_seed_gives_the_latent_first_and_then_the_noise_of_every_layer():
    generator = generator_of()
    latent, noise = seeded_inputs(generator, 66)
    state = np.random.RandomState(66)
    np.testing.assert_array_equal(latent, state.randn(1, 4).astype(np.float32))
    assert [part.shape for part in noise] == [part.shape for part in noise_inputs(generator)]
    for part in noise:
        np.testing.assert_array_equal(part, state.randn(*part.shape).astype(np.float32))
    expected = generator(latent, truncation=0.5, noise=noise)[0]
    torch.testing.assert_close(seeded_image(generator, 66), expected, rtol=0, atol=0)


def test_mixed_images_take_the_chosen_layers_from_the_column(tmp_path):
    generator = generator_of()
    rows = seeded_styles(generator, [1, 2], truncation=0.7)
    columns = seeded_styles(generator, [3], truncation=0.7)
    everything = style_mixing_images(generator, rows, columns, range(generator.num_layers))
    nothing = style_mixing_images(generator, rows, columns, [])
    assert set(everything) == {(0, -1), (1, -1), (-1, 0), (0, 0), (1, 0)}
    torch.testing.assert_close(everything[1, 0], everything[-1, 0])
    torch.testing.assert_close(nothing[1, 0], nothing[1, -1])
    path = style_mixing_sheet(everything, tmp_path / "grid.png")
    with Image.open(path) as sheet:
        assert sheet.size == (2 * 8, 3 * 8)
    with pytest.raises(ValueError, match="--mixing-layers 4"):
        style_mixing_images(generator, rows, columns, [4])


def test_truncation_to_nothing_gives_the_average_style(tmp_path):
    generator = generator_of()
    styles = seeded_styles(generator, [1, 2], truncation=0.0)
    torch.testing.assert_close(styles, torch.full_like(styles, 0.25))
    path = truncation_sheet(generator, [1, 2], [0.0, 0.5, 1.0], tmp_path / "t.png")
    with Image.open(path) as sheet:
        assert sheet.size == (3 * 10 + 2, 2 * 10 + 2)


def test_numbers_and_ranges_are_read():
    assert numbers(["85", "100-102,7"], "seeds") == [85, 100, 101, 102, 7]
    with pytest.raises(ValueError, match=r"--seeds x: give numbers"):
        numbers(["x"], "seeds")
