"""Text in, text out: the sentence VAE with its two tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from .data.tokenizers import Tokenizers, load_tokenizers
from .decoding import Sampling, analogy, check_used, generate, interpolate
from .models.pretrained import without_lora
from .models.vae import OptimusModel
from .runs import SENTENCE_VAES, find_weights
from .runtime.distributed import choose_device
from .runtime.options import require

Result = TypeVar("Result")


class SentenceVAE:
    """Sentences <-> latent vectors.

    >>> vae = SentenceVAE.from_pretrained("runs/lm/snli-32/model")
    >>> vae.decode(vae.encode(["a man is playing a guitar ."]))

    Args:
        model: put into evaluation mode here.
        tokenizers: of the same vocabularies as ``model``.
    """

    def __init__(self, model: OptimusModel, tokenizers: Tokenizers) -> None:
        config, rows = model.config, 0 if model.encoder is None else model.config.encoder_vocab_size
        misfit = tokenizers.misfit(rows, config.decoder_vocab_size)
        if misfit is not None:
            raise ValueError(f"{misfit}: they are not of one model")
        self.model, self.tokenizers = model.eval(), tokenizers

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str = "cpu",
        *,
        step: int | None = None,
        kinds: Sequence[str] = SENTENCE_VAES,
    ) -> SentenceVAE:
        """Read a run, or a folder of weights that ``save_pretrained`` or ``convert`` has written.

        Args:
            folder: of the run or the weights.
            device: where the model computes; ``auto`` is CUDA where there is one.
            step: of a run, the checkpoint to take; None is the newest.
            kinds: what kinds of run will do.
        """
        folder, state = find_weights(folder, *kinds, step=step)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is no model folder: it has no config.json")
        vocabularies = folder / "tokenizers"
        if not vocabularies.is_dir():
            raise FileNotFoundError(
                f"{folder} has no tokenizers: put bert/vocab.txt, gpt2/vocab.json and "
                f"gpt2/merges.txt of the model's vocabularies into {vocabularies}"
            )
        model: torch.nn.Module = OptimusModel.from_pretrained(folder, local_files_only=True)
        assert isinstance(model, OptimusModel)
        if state is not None:
            inner = {key.removeprefix("vae."): one for key, one in without_lora(state).items()}
            model.load_state_dict({key: inner[key] for key in model.state_dict()})
        torch.nn.Module.to(model, choose_device(device))
        return cls(model, load_tokenizers(vocabularies))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``tokenizers/`` into ``folder``."""
        self.model.save_pretrained(folder)
        self.tokenizers.save(Path(folder) / "tokenizers")

    @torch.no_grad()
    def encode(self, texts: str | Sequence[str], batch_size: int = 64) -> Tensor:
        """The posterior means (N, Z) of ``texts``, on the CPU; a string is one sentence."""
        texts = [texts] if isinstance(texts, str) else texts

        def encode_batch(rows: list[list[int]]) -> list[Tensor]:
            width = max(map(len, rows))
            pad = self.model.config.encoder_pad_token_id
            ids = [row + [pad] * (width - len(row)) for row in rows]
            return list(self.model.encode(torch.tensor(ids, device=self.model.device)).mean.cpu())

        rows = self._cut(self.tokenizers.encode_encoder(texts))
        means = _by_length(rows, encode_batch, batch_size)
        return torch.stack(means) if means else torch.zeros(0, self.model.config.latent_dim)

    def decode(
        self,
        latents: Tensor,
        sampling: Sampling | None = None,
        *,
        batch_size: int = 64,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        """One sentence for each row of ``latents`` (N, Z); a vector (Z,) is one row.

        Gaps before punctuation stay unless ``sampling.clean``.
        """
        latents = torch.as_tensor(latents, dtype=torch.float32)
        latents = latents[None] if latents.ndim == 1 else latents
        width = self.model.config.latent_dim
        if latents.ndim != 2 or latents.shape[1] != width or not latents.isfinite().all():
            raise ValueError(
                f"latents must be finite numbers of the shape (N, {width}), got the shape "
                f"{tuple(latents.shape)} or a number that is not finite"
            )
        sampling = sampling or Sampling()
        check_used(sampling)
        ids = generate(self.model, latents, sampling, batch_size=batch_size, generator=generator)
        return self.tokenizers.decode_batch(ids, sampling.clean)

    def reconstruct(
        self, texts: str | Sequence[str], sampling: Sampling | None = None, *, batch_size: int = 64
    ) -> list[str]:
        """``texts`` through the latent and back."""
        return self.decode(self.encode(texts, batch_size), sampling, batch_size=batch_size)

    def sample(
        self,
        count: int,
        sampling: Sampling | None = None,
        *,
        scale: float = 1.0,
        center: Tensor | None = None,
        batch_size: int = 64,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        """Sentences of ``count`` draws from N(center, scale^2 I); by default from the prior.

        A plain language model has no latent; its sentences differ only if ``sampling`` draws.

        Args:
            count: N, the sentences.
            sampling: how tokens are chosen.
            scale: standard deviation of the draws.
            center: (Z,) what to sample around; None is the origin.
            batch_size: sentences decoded side by side.
            generator: source of randomness, on the model's device.
        """
        sampling = sampling or Sampling()
        check_used(sampling)
        require(count >= 0, f"count must not be negative, got {count}")
        if self.model.encoder is None:
            ids = generate(
                self.model,
                None,
                sampling,
                num_sequences=count,
                batch_size=batch_size,
                generator=generator,
            )
            return self.tokenizers.decode_batch(ids, sampling.clean)
        latent_dim, device = self.model.config.latent_dim, self.model.device
        latents = scale * torch.randn(count, latent_dim, generator=generator, device=device)
        if center is not None:
            center = torch.as_tensor(center, dtype=torch.float32, device=device)
            require(
                center.shape == (latent_dim,),
                f"center must be of the shape ({latent_dim},), got {tuple(center.shape)}",
            )
            latents = latents + center
        return self.decode(latents, sampling, batch_size=batch_size, generator=generator)

    def interpolate(
        self,
        source: str,
        target: str,
        num_steps: int = 10,
        sampling: Sampling | None = None,
        *,
        steps: Literal["dataset", "interactive"] = "dataset",
    ) -> list[str]:
        """Sentences on the way from ``source`` to ``target``; see ``decoding.interpolate``."""
        first, last = self.encode([source, target])
        return self.decode(interpolate(first, last, num_steps, steps), sampling)

    def analogy(
        self,
        source: str,
        target: str,
        queries: str | Sequence[str],
        degree: float = 1.0,
        sampling: Sampling | None = None,
    ) -> list[str]:
        """What is to each of ``queries`` as ``target`` is to ``source``."""
        queries = [queries] if isinstance(queries, str) else queries
        first, last, *rest = self.encode([source, target, *queries])
        return self.decode(analogy(first, last, torch.stack(rest), degree), sampling)

    def _cut(self, rows: list[list[int]]) -> list[list[int]]:
        """Shorten what the encoder has no positions for, keeping the closing [SEP]."""
        assert self.model.encoder is not None
        limit = self.model.encoder.num_positions
        return [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]


def _by_length(
    rows: list[list[int]], function: Callable[[list[list[int]]], list[Result]], batch_size: int
) -> list[Result]:
    """``function`` on batches of rows of like length; the results in the order of ``rows``."""
    require(batch_size >= 1, f"batch_size must be at least 1, got {batch_size}")
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    results: dict[int, Result] = {}
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        results |= dict(zip(batch, function([rows[i] for i in batch]), strict=True))
    return [results[i] for i in range(len(rows))]
