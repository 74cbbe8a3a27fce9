"""Optimus: sentences organised in a latent space by BERT and GPT-2 (Li et al., EMNLP 2020)."""

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import Any

__version__ = "0.1.0"
MODEL = f"{__name__}.models.vae"


def __getattr__(name: str) -> Any:
    """``optimus.SentenceVAE``, imported when it is used: torch takes seconds."""
    if name == "SentenceVAE":
        from .api import SentenceVAE

        return SentenceVAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _AfterTransformers(MetaPathFinder):
    """Has the Auto classes know our model as soon as somebody imports transformers.

    ``models/vae.py`` registers the model when it is imported, and to import it here would make each
    ``import optimus`` wait for torch.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """transformers as it would be found without us, followed by our model."""
        if name != "transformers":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_both(module: Any) -> None:
                execute(module)
                _register()

            spec.loader.exec_module = execute_both  # type: ignore[method-assign]
        return spec


def _register() -> None:
    if f"{__name__}.models" not in sys.modules:  # else it is being imported and does so by itself
        importlib.import_module(MODEL)


if "transformers" in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _AfterTransformers())
