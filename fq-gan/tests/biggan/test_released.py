"""Sets of files as the authors save them."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, real_batch, tiny_config

from fqgan.biggan import (
    DiscriminatorConfig,
    GanStep,
    QuantizerConfig,
    build_discriminator,
    build_generator,
)
from fqgan.released.biggan import (
    build_released,
    load_adam,
    read_released_set,
    restore,
    with_fresh_quantizers,
)
from fqgan.released.loading import load_with_report

SAMPLE_TOLERANCE = 1e-4  # absolute, images are in [-1, 1]


def suffixes(folder):
    """The copies that a folder has, by its discriminators: '', copy0, best0, ..."""
    return [path.stem.removeprefix("D").removeprefix("_") for path in folder.glob("D*.pth")
            if "optim" not in path.stem]  # fmt: skip


@pytest.mark.golden
@pytest.mark.cases("biggan/train/*_ckpt/exp*")
def test_recorded_sets_load_completely_and_sample_the_same_images(case):
    sample = case.parent / "ema_sample.npz"
    assert suffixes(case)
    for suffix in suffixes(case):
        released = read_released_set(case, suffix)
        networks, reports = build_released(released)
        for report in reports:
            assert report.complete, report.text()
            assert not report.filled
        assert set(networks) == {"generator", "average", "discriminator"}
        recorded = Recorded(sample)
        with torch.no_grad():
            images = networks["average"].eval()(recorded["z"], recorded["y"])
        assert (images - recorded["out_eval"]).abs().max() < SAMPLE_TOLERANCE


@pytest.mark.golden
@pytest.mark.cases("biggan/train/*_ckpt/exp*")
def test_training_continues_from_a_recorded_set(case):
    for suffix in suffixes(case):
        released = read_released_set(case, suffix)
        if released.discriminator_optimizer is None:
            pytest.skip("the recorded set has no optimizers")
        step = GanStep(
            build_generator(released.config),
            build_discriminator(released.config),
            released.step_config,
        )
        assert all(report.complete for report in restore(released, step))
        optimizer = step.discriminator_optimizer
        first = next(iter(optimizer.state.values()))
        assert float(first["step"]) > 0
        assert optimizer.param_groups[0]["fused"]
        batch = real_batch(released.config, released.step_config.images_per_step)
        losses = step(*batch, released.progress["itr"] + 1)
        assert all(torch.isfinite(value) for value in losses)
        assert float(first["step"]) > released.step_config.num_d_steps


def test_moments_saved_under_the_keys_of_old_versions_are_put_in_order():
    network = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    moments = {
        140: {"step": 4, "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)},
        139: {"step": 4, "exp_avg": torch.ones(3, 2), "exp_avg_sq": torch.ones(3, 2)},
    }
    load_adam(optimizer, {"state": moments, "param_groups": [{"params": [139, 140]}]}, "G_optim")
    assert float(optimizer.state[network.weight]["step"]) == 4
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="do not belong together"):
        load_adam(optimizer, {"state": {}, "param_groups": [{"params": [1]}]}, "G_optim")


def test_a_plain_discriminator_fits_one_with_quantizers_after_a_shift():
    wide = DiscriminatorConfig(channels=8, attention=(16,))
    plain = build_discriminator(
        tiny_config(discriminator=wide, quantizer=QuantizerConfig(layers=()))
    )
    quantized = build_discriminator(tiny_config(discriminator=wide))
    state = with_fresh_quantizers(plain.state_dict(), quantized)
    assert load_with_report(quantized, state, "D").complete
    images, labels = real_batch(tiny_config(), 2)
    ours, theirs = quantized.eval()(images, labels), plain.eval()(images, labels)
    torch.testing.assert_close(ours.logits, theirs.logits)


def test_a_set_saved_through_dataparallel_is_read(tmp_path):
    config = tiny_config(quantizer=QuantizerConfig(layers=()))
    network = torch.nn.DataParallel(build_generator(config))
    torch.save(network.state_dict(), tmp_path / "G.pth")
    flags = {"resolution": 32, "n_classes": 3, "G_ch": 4, "dim_z": 8, "G_attn": "0", "D_attn": "0"}
    _, reports = build_released(read_released_set(tmp_path, flags=flags))
    assert [report.complete for report in reports] == [True]


def test_an_empty_folder_and_missing_settings_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"G\.pth"):
        read_released_set(tmp_path)
    torch.save({}, tmp_path / "G.pth")
    with pytest.raises(ValueError, match=r"state_dict\.pth"):
        read_released_set(tmp_path)
