"""Optimus: sentences organised in a latent space by BERT and GPT-2 (Li et al., EMNLP 2020)."""

import importlib
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from typing import Any

__version__ = "0.1.0"
MODEL = f"{__name__}.models.vae"
AUTO = "transformers.models.auto.modeling_auto"


def __getattr__(name: str) -> Any:
    """``optimus.SentenceVAE``, imported when it is used: torch takes seconds."""
    if name == "SentenceVAE":
        from .api import SentenceVAE

        return SentenceVAE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _AutoClasses(MetaPathFinder):
    """Has `AutoModel` of transformers know our model as soon as somebody imports it.

    ``models/vae.py`` registers the model when it is imported, and to import it here would make each
    ``import optimus`` wait for torch.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """The module as it would be found without us, followed by ours."""
        if name != AUTO:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_both(module: Any) -> None:
                execute(module)
                if MODEL not in sys.modules:  # else it is being imported and comes to it by itself
                    importlib.import_module(MODEL)

            spec.loader.exec_module = execute_both  # type: ignore[method-assign]
        return spec


if AUTO in sys.modules:
    importlib.import_module(MODEL)
else:
    sys.meta_path.insert(0, _AutoClasses())
