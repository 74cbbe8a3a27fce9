"""Moments are exact, also when merged from batches and ranks."""

import numpy as np
import pytest
import torch

from fqgan.metrics.distances import (
    Moments,
    RunningMoments,
    author_moments_name,
    moments,
    read_moments,
    write_moments,
)


def test_moments_agree_with_numpy():
    features = torch.randn(200, 7) * 2 + 50
    running = RunningMoments(7)
    for part in features.split(33):
        running.add(part)
    for found in (running.result(), moments(features)):
        double = features.double().numpy()
        np.testing.assert_allclose(found.mean, double.mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(double.T), rtol=1e-9, atol=1e-12)
        assert found.num_images == 200


def test_two_ranks_have_the_moments_of_all_images(two_ranks):
    features = torch.randn(50, 6) * 3 + 100

    def run(rank):
        running = RunningMoments(6)
        running.add(features[:17] if rank == 0 else features[17:])
        return running.result()

    expected = moments(features)
    for found in two_ranks(run):
        torch.testing.assert_close(found.mean, expected.mean)
        torch.testing.assert_close(found.covariance, expected.covariance)
        assert found.num_images == 50


def test_moments_survive_a_file_and_the_authors_file_is_read(tmp_path):
    content = moments(torch.randn(20, 4))
    write_moments(tmp_path / "deep" / "own.npz", content)
    found = read_moments(tmp_path / "deep" / "own.npz")
    assert torch.equal(found.covariance, content.covariance)
    assert found.num_images == 20
    np.savez(tmp_path / "author.npz", mu=np.zeros(4, "f4"), sigma=np.eye(4))
    assert read_moments(tmp_path / "author.npz").num_images == 0


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="fqgan prepare moments"):
        read_moments(tmp_path / "none.npz")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    with pytest.raises(ValueError, match="holds no moments"):
        read_moments(tmp_path / "junk.npz")
    write_moments(tmp_path / "odd.npz", Moments(torch.zeros(3), torch.zeros(2, 2), 5))
    with pytest.raises(ValueError, match="holds no moments"):
        read_moments(tmp_path / "odd.npz")


def test_one_image_has_no_covariance():
    running = RunningMoments(3)
    running.add(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        running.result()


def test_only_the_suffix_is_taken_off_a_data_set_name():
    assert author_moments_name("I64_hdf5") == "I64_inception_moments.npz"
    assert author_moments_name("fifth_df") == "fifth_df_inception_moments.npz"
