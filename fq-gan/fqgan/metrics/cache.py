"""Where downloaded weights, statistics and lists of files are kept."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """``$FQGAN_CACHE``, or ``~/.cache/fqgan``."""
    return Path(os.environ.get("FQGAN_CACHE") or Path.home() / ".cache" / "fqgan")


def cached_file(url: str) -> Path:
    """Where ``fqgan prepare lpips`` puts the file of ``url``."""
    return default_cache_dir() / "lpips" / url.rsplit("/", 1)[-1]
