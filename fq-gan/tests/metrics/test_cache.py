"""The cache folder can be moved."""

from pathlib import Path

from fqgan.metrics.networks import cached_file, default_cache_dir


def test_the_environment_moves_the_cache(monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", "/somewhere")
    assert default_cache_dir() == Path("/somewhere")
    assert cached_file("https://host/folder/vgg.pth") == Path("/somewhere/lpips/vgg.pth")
    monkeypatch.delenv("FQGAN_CACHE")
    assert default_cache_dir() == Path.home() / ".cache" / "fqgan"
