"""Optimus: sentences organised in a latent space by BERT and GPT-2 (Li et al., EMNLP 2020)."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``optimus.SentenceVAE``, imported when it is used: torch takes seconds."""
    if name == "SentenceVAE":
        from .api import SentenceVAE

        return SentenceVAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
