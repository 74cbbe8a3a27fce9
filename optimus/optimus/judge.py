"""A trained sentence classifier as a judge of generated text, and the n-gram judge in its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertModel

from .data.batches import pad_rows
from .data.sentences import cut_tokens
from .data.tokenizers import Tokenizers, load_tokenizers
from .models.classifier import SentenceClassifier
from .models.storage import without_bars
from .unpickle import load_untrusted


class Judge:
    """Classes of sentences by a ``SentenceClassifier``; a folder of ``optimus train-classifier``.

    Args:
        model: put into evaluation mode here.
        tokenizers: of the same vocabulary as the encoder.
        names: names of the classes.
        max_tokens: longer sentences are cut.
    """

    def __init__(
        self,
        model: SentenceClassifier,
        tokenizers: Tokenizers,
        names: Sequence[str],
        max_tokens: int = 128,
    ) -> None:
        self.model, self.tokenizers = model.eval(), tokenizers
        self.names, self.max_tokens = tuple(names), max_tokens

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """(N, C) in [0, 1]."""
        limit = min(self.max_tokens, self.model.bert.config.max_position_embeddings)
        device = self.model.classifier.weight.device
        rows = [cut_tokens(row, limit) for row in self.tokenizers.encode_encoder(texts)]
        found = []
        for start in range(0, len(rows), batch_size):
            part = [np.array(row) for row in rows[start : start + batch_size]]
            ids, _ = pad_rows(part, self.model.pad_token_id)
            found.append(self.model(ids.to(device)).softmax(dim=1).cpu())
        return torch.cat(found).numpy() if found else np.zeros((0, len(self.names)))

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Classes (N,)."""
        return self.probabilities(texts).argmax(axis=1)

    def save(self, folder: str | Path) -> None:
        """Write the encoder, the head, the vocabularies and the names into ``folder``."""
        folder = Path(folder)
        self.model.bert.save_pretrained(folder / "bert")
        head = {name: value.cpu() for name, value in self.model.classifier.state_dict().items()}
        save_file(head, folder / "head.safetensors")
        self.tokenizers.save(folder / "tokenizers")
        content: dict[str, Any] = {"names": self.names, "max_tokens": self.max_tokens}
        (folder / "classifier.json").write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Judge:
        """Read what ``save`` wrote, or a run that has it in ``model/``.

        Raises:
            FileNotFoundError: there is no classifier.
        """
        folder = Path(folder)
        if (folder / "model" / "classifier.json").is_file():
            folder = folder / "model"
        if not (folder / "classifier.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no classifier; `optimus train-classifier` trains one"
            )
        content = json.loads((folder / "classifier.json").read_text())
        tokenizers = load_tokenizers(folder / "tokenizers")
        with without_bars():
            bert = BertModel.from_pretrained(folder / "bert", local_files_only=True)
        model = SentenceClassifier(
            bert,
            len(content["names"]),
            pad_token_id=tokenizers.encoder_pad_id,
        )
        model.classifier.load_state_dict(load_untrusted(folder / "head.safetensors"))
        return cls(model.to(device), tokenizers, content["names"], content["max_tokens"])
