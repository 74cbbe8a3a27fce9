import copy

import pytest
import torch
from factories import tiny_config
from PIL import Image

from fqgan.biggan import GeneratorConfig, build_generator
from fqgan.biggan.sampling import Sampler, class_sheet, interpolation_sheets, random_sheet
from fqgan.gan import Latents


def build(statistics="running", shared_dim=0, **options):
    torch.manual_seed(0)
    config = tiny_config(generator=GeneratorConfig(4, latent_dim=8, shared_dim=shared_dim))
    generator = build_generator(config)
    latents = Latents(8, 3, seed=3)
    return generator, Sampler(generator, latents, statistics=statistics, batch_size=4, **options)


@pytest.mark.parametrize("statistics", ["running", "batch", "standing"])
def test_sampling_leaves_the_generator_as_it_is(statistics):
    generator, sampler = build(statistics, standing_batches=2)
    before = copy.deepcopy(generator.state_dict())
    images, labels = sampler.draw(6)
    assert images.shape == (6, 3, 32, 32)
    assert labels.shape == (6,)
    assert float(images.abs().max()) <= 1
    assert generator.training
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_with_running_statistics_an_image_does_not_depend_on_its_neighbours():
    _, sampler = build()
    latent = sampler.latents(6)
    together = sampler.images(latent.z, latent.labels)
    alone = sampler.images(latent.z[2:3], latent.labels[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


def test_images_of_classes_come_class_by_class():
    _, sampler = build()
    drawn = sampler.of_classes([2, 0], 3)
    z = Latents(8, 3, seed=3)(6).z
    expected = sampler.images(z, torch.tensor([2, 2, 2, 0, 0, 0]))
    torch.testing.assert_close(drawn, expected)


def test_sheets_have_a_row_for_each_class(tmp_path):
    _, sampler = build()
    with Image.open(class_sheet(sampler, tmp_path / "a" / "sheet.png", columns=4)) as sheet:
        assert sheet.size == (4 * 34 + 2, 3 * 34 + 2)
    with Image.open(random_sheet(sampler, tmp_path / "random.png", 9)) as sheet:
        assert sheet.size == (3 * 34 + 2, 3 * 34 + 2)


def test_a_shared_embedding_interpolates_noise_and_class(tmp_path):
    _, sampler = build(shared_dim=4)
    paths = interpolation_sheets(sampler, tmp_path, number=1, rows=2, between=1)
    assert sorted(path.name for path in paths) == ["interpY1.png", "interpZ1.png", "interpZY1.png"]
    with Image.open(paths[0]) as sheet:
        assert sheet.size == (3 * 34 + 2, 2 * 34 + 2)


def test_separate_embeddings_interpolate_noise_alone(tmp_path):
    _, sampler = build()
    paths = interpolation_sheets(sampler, tmp_path, rows=2, between=1)
    assert [path.name for path in paths] == ["interpZ0.png"]
