"""A trained classifier as the judge of generated sentences: whether they have the wanted label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

from ..data.text import cut_tokens, pad_rows
from ..data.tokenizers import Tokenizers, load_tokenizers
from ..models.classifier import SentenceClassifier
from ..models.pretrained import encoder_positions, pooler_options
from ..models.vae import without_bars
from ..runs import find_weights
from ..runtime.files import write_json
from ..runtime.weight_files import read_weight_file
from .pretrained import load_network

KIND = "classifier"  # of a run of `optimus train-classifier`


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
        limit = min(self.max_tokens, encoder_positions(self.model.bert))
        device = self.model.classifier.weight.device
        rows = [cut_tokens(row, limit) for row in self.tokenizers.encode_encoder(texts)]
        found = []
        for first in range(0, len(rows), batch_size):
            part = [np.array(row) for row in rows[first : first + batch_size]]
            ids, _ = pad_rows(part, self.model.pad_token_id)
            found.append(self.model(ids.to(device)).softmax(dim=1).cpu())
        return torch.cat(found).numpy() if found else np.zeros((0, len(self.names)))

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Classes (N,)."""
        return self.probabilities(texts).argmax(axis=1)

    def save(self, folder: str | Path) -> None:
        """Write the encoder, the head, the vocabularies and the names into ``folder``."""
        save_classifier(self.model, self.tokenizers, self.names, self.max_tokens, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Judge:
        """Read what ``save`` wrote, or a run of `optimus train-classifier`.

        Raises:
            FileNotFoundError: there is no classifier.
            ValueError: it is a run of another kind, or a tensor is missing or left over.
        """
        folder, _ = find_weights(folder, KIND)
        if not (folder / "classifier.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no classifier; `optimus train-classifier` trains one"
            )
        content = json.loads((folder / "classifier.json").read_text())
        tokenizers = load_tokenizers(folder / "tokenizers")
        pooling = content.get("pooling", "pooler")
        config = AutoConfig.from_pretrained(folder / "bert", local_files_only=True)
        options = pooler_options(config, pooling)
        bert = load_network(AutoModel, folder / "bert", config, option="", **options)
        model = SentenceClassifier(
            bert,
            len(content["names"]),
            pad_token_id=tokenizers.encoder_pad_id,
            pooling=pooling,
        )
        model.classifier.load_state_dict(read_weight_file(folder / "head.safetensors"))
        return cls(model.to(device), tokenizers, content["names"], content["max_tokens"])


def save_classifier(
    model: SentenceClassifier,
    tokenizers: Tokenizers,
    names: Sequence[str],
    max_tokens: int,
    folder: Path,
) -> None:
    """Write what ``Judge.load`` reads."""
    with without_bars():
        model.bert.save_pretrained(folder / "bert")
    head = {name: value.cpu() for name, value in model.classifier.state_dict().items()}
    save_file(head, folder / "head.safetensors")
    tokenizers.save(folder / "tokenizers")
    content: dict[str, Any] = {"names": names, "max_tokens": max_tokens}
    if model.pooling != "pooler":
        content["pooling"] = model.pooling
    write_json(folder / "classifier.json", content)
