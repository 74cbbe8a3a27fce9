import pytest
import torch
from factories import tiny_config

from fqgan.biggan import GeneratorConfig, build_discriminator, build_generator
from fqgan.biggan.sampling import load_discriminator, load_weights, start_from
from fqgan.runs import save_weights, weights_of_run


@pytest.fixture
def saved(tmp_path):
    config = tiny_config()
    average, raw, discriminator = (
        build_generator(config),
        build_generator(config),
        build_discriminator(config),
    )
    save_weights(
        tmp_path / "model",
        config,
        average,
        raw=raw,
        discriminator=discriminator,
        class_names=["a", "b", "c"],
        step=7,
    )
    return tmp_path / "model", average, raw, discriminator


def same(one, two):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )


def test_weights_come_back_as_they_were_saved(saved):
    folder, average, raw, _ = saved
    weights = load_weights(folder)
    assert same(weights.generator, average)
    assert not weights.generator.training
    assert weights.config == tiny_config()
    assert (weights.class_names, weights.step) == (["a", "b", "c"], 7)
    assert same(load_weights(folder, use_average=False).generator, raw)


def test_saving_again_replaces_the_folder_whole(saved):
    folder, average, *_ = saved
    save_weights(folder, tiny_config(), average, step=8)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert load_weights(folder).step == 8


def test_fine_tuning_starts_from_both_networks(saved):
    folder, _, raw, discriminator = saved
    config = tiny_config()
    generator, judge = build_generator(config), build_discriminator(config)
    start_from(folder, generator, judge)
    assert same(generator, raw)
    assert same(judge, discriminator)


def test_fine_tuning_on_other_classes_starts_what_depends_on_them_anew(saved):
    folder, _, raw, discriminator = saved
    config = tiny_config(num_classes=5)
    generator, judge = build_generator(config), build_discriminator(config)
    fresh = judge.embed.weight.clone()
    start_from(folder, generator, judge)
    assert torch.equal(generator.linear.weight, raw.linear.weight)
    assert torch.equal(judge.linear.weight, discriminator.linear.weight)
    assert torch.equal(judge.embed.weight, fresh)


def test_fine_tuning_of_another_network_is_refused(saved):
    folder, *_ = saved
    config = tiny_config(generator=GeneratorConfig(channels=6, latent_dim=8))
    with pytest.raises(ValueError, match="belongs to another network"):
        start_from(folder, build_generator(config), build_discriminator(config))


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights were found.*model.safetensors"):
        load_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="--initial-weights"):
        start_from(tmp_path, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))


def test_damaged_weights_are_named(saved):
    folder, *_ = saved
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
        load_weights(folder)


def test_weights_beside_the_wrong_description_are_named(saved):
    folder, *_ = saved
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"latent_dim": 8', '"latent_dim": 9'))
    with pytest.raises(ValueError, match=r"does not fit the network its config.json describes"):
        load_weights(folder)


def test_a_run_without_a_save_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train it until its first save"):
        weights_of_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="--best"):
        weights_of_run(tmp_path, best=True)


def test_the_newest_of_the_best_weights_is_taken(tmp_path):
    generator = build_generator(tiny_config())
    for number, step in enumerate((30, 40, 20)):
        save_weights(tmp_path / f"best{number}", tiny_config(), generator, step=step)
    assert weights_of_run(tmp_path, best=True).name == "best1"


def test_the_discriminator_comes_back_with_its_dictionaries(saved, tmp_path):
    folder, average, _, discriminator = saved
    found = load_discriminator(folder)
    assert same(found, discriminator)
    assert not found.training
    save_weights(tmp_path / "bare", tiny_config(), average)
    with pytest.raises(FileNotFoundError, match="holds no discriminator"):
        load_discriminator(tmp_path / "bare")
