"""Text in, text out: the sentence VAE with its two tokenizers."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args, overload

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .data.text import Batch, Padding, build_sentences, cut_tokens, evaluation_batches
from .data.tokenizers import Tokenizers, load_tokenizers
from .decoding import Sampling, analogy, check_used, generate, interpolate
from .directions import Direction, Method, learn_direction
from .metrics.latent import sentence_noise
from .models.encoder import Posterior
from .models.pretrained import without_lora
from .models.vae import OptimusModel, importance_scores
from .runs import SENTENCE_VAES, find_weights
from .runtime.distributed import choose_device
from .runtime.options import finite_number, require, whole_number

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
Output = Literal["mean", "logvar", "sample"]


class Scores(NamedTuple):
    """What a model says about N sentences, in nats, each (N,) float64; as `optimus evaluate`."""

    reconstruction: Tensor  # E[-log p(x|z)]
    kl: Tensor  # KL(q(z|x) || p(z)), without free bits
    elbo: Tensor  # the negative bound, reconstruction + kl
    iw_nll: Tensor  # -log p(x) by importance weighting: a tighter bound
    tokens: Tensor  # of the decoder, <BOS> and <EOS> included
    words: Tensor  # separated by white space


class Neighbour(NamedTuple):
    """A sentence near another one."""

    text: str
    distance: float
    number: int  # in the list that was searched


class SentenceVAE:
    """Sentences <-> latent vectors.

    >>> vae = SentenceVAE.from_pretrained("runs/lm/snli-32/model")
    >>> vae.decode(vae.encode(["a man is playing a guitar ."]))

    Latents go in as tensors or numpy arrays on any device, and come out on the CPU. Encoding and
    scoring take sentences of like length together and give results in the order of the input.

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
            above = folder.parent
            cure = f"; give {above}" if (above / "config.json").is_file() else ""
            raise FileNotFoundError(f"{folder} is no model folder: it has no config.json{cure}")
        vocabularies = folder / "tokenizers"
        if not vocabularies.is_dir():
            raise FileNotFoundError(
                f"{folder} has no tokenizers: put bert/vocab.txt, gpt2/vocab.json and "
                f"gpt2/merges.txt of the model's vocabularies into {vocabularies}"
            )
        model: torch.nn.Module = OptimusModel.from_pretrained(folder, local_files_only=True)
        assert isinstance(model, OptimusModel)
        if state is not None:
            inner = {key.removeprefix("vae."): one for key, one in state.items()}
            inner = without_lora(inner, model)
            model.load_state_dict({key: inner[key] for key in model.state_dict()})
        torch.nn.Module.to(model, choose_device(device))
        return cls(model, load_tokenizers(vocabularies))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``tokenizers/`` into ``folder``."""
        self.model.save_pretrained(folder)
        self.tokenizers.save(Path(folder) / "tokenizers")

    @classmethod
    def from_hub(
        cls, name: str, device: str = "cpu", *, revision: str | None = None
    ) -> SentenceVAE:
        """Fetch what ``push_to_hub`` sent to the repository ``name``, ``OWNER/MODEL``.

        No code is fetched: configuration, safetensors and vocabularies alone.

        Raises:
            OSError: the hub cannot be reached or has no such repository.
        """
        from huggingface_hub import snapshot_download

        kinds = ["*.json", "*.safetensors", "*.txt", "*.model"]
        try:
            folder = snapshot_download(name, revision=revision, allow_patterns=kinds)
        except Exception as error:  # the client has errors of several libraries
            raise OSError(f"could not fetch {name} from the hub: {_first_line(error)}") from error
        return cls.from_pretrained(folder, device)

    def push_to_hub(
        self, name: str, *, private: bool = False, message: str = "Upload a sentence VAE"
    ) -> str:
        """Send the model with its vocabularies to the repository ``name``, ``OWNER/MODEL``.

        The repository is made if there is none; log in with `hf auth login` before.

        Returns:
            The address of the commit.

        Raises:
            OSError: the hub cannot be reached or refuses.
        """
        from huggingface_hub import HfApi

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            try:
                hub = HfApi()
                hub.create_repo(name, private=private, exist_ok=True)
                sent = hub.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
            except Exception as error:
                raise OSError(f"could not send {name} to the hub: {_first_line(error)}") from error
        return str(sent.commit_url)

    @property
    def latent_dim(self) -> int:
        """Z, the numbers of a sentence."""
        return self.model.config.latent_dim

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def to(self, device: str | torch.device) -> SentenceVAE:
        """Move the model to ``device``; ``auto`` is CUDA where there is one."""
        torch.nn.Module.to(self.model, choose_device(str(device)))
        return self

    @torch.no_grad()
    def posterior(
        self, texts: str | Sequence[str], batch_size: int = 64, *, progress: bool = False
    ) -> Posterior:
        """q(z|x) of ``texts``: ``mean`` and ``logvar``, (N, Z) each; a string is one sentence.

        Raises:
            ValueError: the model has no latent, or its weights are not finite.
        """
        require(
            self.model.encoder is not None,
            "this model is a plain language model: it has no encoder and no latents",
        )
        texts = _sentences(texts)
        whole_number(batch_size, "batch_size", 1)

        def encode_batch(rows: list[list[int]]) -> list[Tensor]:
            width = max(map(len, rows))
            pad = self.tokenizers.encoder_pad_id
            ids = [row + [pad] * (width - len(row)) for row in rows]
            return list(
                torch.cat(self.model.encode(torch.tensor(ids, device=self.device)), 1).cpu()
            )

        rows = _cut(self.tokenizers.encode_encoder(texts), self._limits[0], "encoder")
        found = _by_length(rows, encode_batch, batch_size, progress)
        both = torch.stack(found) if found else torch.zeros(0, 2 * self.latent_dim)
        require(
            bool(both.isfinite().all()),
            "the model gives latents that are not finite: its weights are damaged or it diverged",
        )
        return Posterior(*both.chunk(2, dim=1))

    @overload
    def encode(
        self,
        texts: str | Sequence[str],
        batch_size: int = ...,
        *,
        output: Output = ...,
        normalize: bool = ...,
        as_numpy: Literal[False] = ...,
        progress: bool = ...,
        generator: torch.Generator | None = ...,
    ) -> Tensor: ...
    @overload
    def encode(
        self,
        texts: str | Sequence[str],
        batch_size: int = ...,
        *,
        output: Output = ...,
        normalize: bool = ...,
        as_numpy: Literal[True],
        progress: bool = ...,
        generator: torch.Generator | None = ...,
    ) -> np.ndarray: ...
    def encode(
        self,
        texts: str | Sequence[str],
        batch_size: int = 64,
        *,
        output: Output = "mean",
        normalize: bool = False,
        as_numpy: bool = False,
        progress: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor | np.ndarray:
        """Latents (N, Z) of ``texts``; a string is one sentence.

        Args:
            texts: N sentences.
            batch_size: sentences encoded side by side.
            output: the posterior's ``mean`` or ``logvar``, or a ``sample`` of it.
            normalize: scale each latent to length 1, for cosine similarities; not for decoding.
            as_numpy: an array in place of a tensor.
            progress: show a bar.
            generator: source of randomness of ``sample``, on the CPU.

        Raises:
            ValueError: an argument is none of these, or the model has no latent.
        """
        require(
            output in get_args(Output), f"output must be mean, logvar or sample, got {output!r}"
        )
        require(
            not (normalize and output == "logvar"), "normalize has no meaning with output='logvar'"
        )
        posterior = self.posterior(texts, batch_size, progress=progress)
        if output == "sample":
            eps = torch.randn(posterior.mean.shape, generator=generator)
            latents = posterior.sample(eps[:, None])[:, 0]
        else:
            latents = getattr(posterior, output)
        if normalize:
            latents = torch.nn.functional.normalize(latents, dim=1)
        return latents.numpy() if as_numpy else latents

    def decode(
        self,
        latents: Tensor | np.ndarray,
        sampling: Sampling | None = None,
        *,
        batch_size: int = 64,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        """One sentence for each row of ``latents`` (N, Z); a vector (Z,) is one row.

        Gaps before punctuation stay unless ``sampling.clean``.

        Raises:
            ValueError: the shape is another, or a number is not finite.
        """
        latents = self._rows(latents)
        sampling = _checked(sampling)
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
        center: Tensor | np.ndarray | None = None,
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
        sampling = _checked(sampling)
        whole_number(count, "count")
        finite_number(scale, "scale")
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
            point = _numbers(center, "center")
            require(
                point.shape == (latent_dim,),
                f"center must be of the shape ({latent_dim},), got {tuple(point.shape)}",
            )
            latents = latents + point.to(device)
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
        whole_number(num_steps, "num_steps", 1)
        require(
            steps in ("dataset", "interactive"),
            f"steps must be dataset or interactive, got {steps!r}",
        )
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
        finite_number(degree, "degree")
        latents = self.encode([source, target, *_sentences(queries)])
        return self.decode(analogy(latents[0], latents[1], latents[2:], degree), sampling)

    def neighbours(
        self,
        queries: str | Sequence[str],
        texts: Sequence[str],
        count: int = 5,
        *,
        latents: Tensor | np.ndarray | None = None,
        measure: Literal["euclidean", "cosine"] = "euclidean",
        batch_size: int = 64,
    ) -> list[list[Neighbour]]:
        """For each of ``queries`` the nearest of ``texts``, the nearest first.

        Args:
            queries: sentences; a string is one.
            texts: N sentences to search.
            count: how many of them are wanted.
            latents: theirs (N, Z), if they were encoded before.
            measure: the distance of the means, or 1 - the cosine of their angle.
            batch_size: sentences encoded side by side.
        """
        texts = _sentences(texts)
        require(len(texts) > 0, "texts are empty: there is nothing to search")
        whole_number(count, "count", 1)
        require(
            measure in ("euclidean", "cosine"),
            f"measure must be euclidean or cosine, got {measure!r}",
        )
        places = self.encode(texts, batch_size) if latents is None else self._rows(latents)
        require(
            len(places) == len(texts),
            f"latents must be one row for each of the {len(texts)} texts, got {len(places)}",
        )
        found = self.encode(queries, batch_size)
        if measure == "cosine":
            found, places = (torch.nn.functional.normalize(rows, dim=1) for rows in (found, places))
            distances = 1 - found @ places.T
        else:
            distances = torch.cdist(found, places, compute_mode="donot_use_mm_for_euclid_dist")
        near = distances.topk(min(count, len(texts)), largest=False)
        return [
            [
                Neighbour(texts[number], distance, number)
                for number, distance in zip(numbers, row, strict=True)
            ]
            for numbers, row in zip(near.indices.tolist(), near.values.tolist(), strict=True)
        ]

    def score(
        self,
        texts: str | Sequence[str],
        num_samples: int = 100,
        *,
        batch_size: int = 32,
        seed: int = 42,
        first: int = 0,
        progress: bool = False,
    ) -> Scores:
        """How likely each of ``texts`` is; sentences beyond the model's positions are cut.

        The noise of a sentence depends on ``seed`` and its number alone, so that the means over a
        corpus are those of `optimus evaluate`. A plain language model has a KL of 0.

        Args:
            texts: N sentences; a string is one.
            num_samples: K of the importance-weighted bound; the paper has 100.
            batch_size: sentences encoded side by side.
            seed: of the noise.
            first: the number of the first sentence, where ``texts`` are a part of a corpus.
            progress: show a bar.
        """
        texts = _sentences(texts)
        least = {"num_samples": 1, "batch_size": 1, "seed": 0, "first": 0}
        for (name, lowest), value in zip(
            least.items(), (num_samples, batch_size, seed, first), strict=True
        ):
            whole_number(value, name, lowest)
        left, right = self._limits
        rows = zip(
            _cut(self.tokenizers.encode_encoder(texts), left, "encoder"),
            _cut(self.tokenizers.encode_decoder(texts), right, "decoder"),
            [len(text.split()) for text in texts],
            range(len(texts)),
            strict=True,
        )
        padding = Padding(self.tokenizers.pad_id, self.tokenizers.encoder_pad_id)
        found = torch.zeros(len(texts), len(Scores._fields), dtype=torch.double)
        with tqdm(total=len(texts), unit="sentence", disable=not progress) as bar:
            for batch in evaluation_batches(build_sentences(list(rows)), batch_size, padding):
                batch = batch.to(self.device)
                numbers = (first + batch.index).tolist()
                columns = self._score_batch(batch, numbers, num_samples, seed)
                columns += [batch.decoder_lengths, batch.words]
                found[batch.index.cpu()] = torch.stack([c.double().cpu() for c in columns], dim=1)
                bar.update(len(numbers))
        return Scores(*found.unbind(dim=1))

    @torch.no_grad()
    def _score_batch(
        self, batch: Batch, numbers: list[int], num_samples: int, seed: int
    ) -> list[Tensor]:
        """Reconstruction, KL, negative bound and importance-weighted likelihood, each (B,)."""
        if self.model.encoder is None:
            nll = self.model.decoder.nll(batch.decoder_ids, None).double()
            return [nll, torch.zeros_like(nll), nll, nll]
        # one draw more, as the evaluation makes for the mutual information
        eps = sentence_noise(numbers, num_samples + 1, self.latent_dim, seed)[:, 1:]
        scores = importance_scores(
            self.model, batch.encoder_ids, batch.decoder_ids, eps=eps.to(self.device)
        )
        reconstruction = -scores.log_likelihood.double().mean(dim=1)
        return [
            reconstruction,
            scores.kl.double(),
            reconstruction + scores.kl.double(),
            -scores.log_marginal(),
        ]

    def direction(
        self,
        having: Sequence[str],
        lacking: Sequence[str],
        method: Method = "difference",
        *,
        name: str = "",
        batch_size: int = 64,
    ) -> Direction:
        """The direction of an attribute that the sentences ``having`` have and ``lacking`` lack.

        See ``directions.learn_direction`` for the methods.
        """
        first, second = (self.encode(texts, batch_size) for texts in (having, lacking))
        return learn_direction(first, second, method, name)

    def move(
        self,
        texts: str | Sequence[str],
        direction: Direction,
        strength: float = 1.0,
        sampling: Sampling | None = None,
        *,
        batch_size: int = 64,
    ) -> list[str]:
        """``texts`` moved ``strength`` units along ``direction``; 0 is their reconstruction."""
        if not isinstance(direction, Direction):
            raise TypeError(f"direction must be a Direction, got {type(direction).__name__}")
        finite_number(strength, "strength")
        require(
            len(direction.vector) == self.latent_dim,
            f"the direction is of {len(direction.vector)} dimensions, the latents have "
            f"{self.latent_dim}: it is of another model",
        )
        latents = self.encode(texts, batch_size)
        return self.decode(direction.move(latents, strength), sampling, batch_size=batch_size)

    @property
    def _limits(self) -> tuple[int, int]:
        """Tokens that encoder and decoder have positions for; z takes one of the decoder's."""
        encoder, decoder = self.model.encoder, self.model.decoder
        left = decoder.max_tokens if encoder is None else encoder.num_positions
        return left, decoder.max_tokens

    def _rows(self, latents: Tensor | np.ndarray) -> Tensor:
        """``latents`` as a tensor (N, Z)."""
        given = _numbers(latents, "latents")
        rows = given[None] if given.ndim == 1 else given
        width = self.latent_dim
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(
                f"latents must be of the shape (N, {width}) or ({width},), got {tuple(given.shape)}"
            )
        wrong = (~rows.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if wrong:
            raise ValueError(
                f"latents must be finite numbers, and row {wrong[0]} of {len(rows)} is not"
            )
        return rows


def _sentences(texts: str | Iterable[str]) -> list[str]:
    """A string is one sentence; other things are named."""
    if isinstance(texts, str):
        return [texts]
    no_list = isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable)
    if no_list or getattr(texts, "ndim", 1) == 0:
        raise TypeError(f"texts must be a string or a list of strings, got {texts!r:.80}")
    sentences = list(texts)
    for number, text in enumerate(sentences):
        if not isinstance(text, str):
            raise ValueError(f"texts must be strings, and number {number} is {text!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(
                f"text number {number} holds half a character (a surrogate), {text!r:.60}; decode "
                "the file that it is from as UTF-8"
            )
    return sentences


def _numbers(values: Tensor | np.ndarray, name: str) -> Tensor:
    """The argument ``name`` as a float32 tensor; booleans, strings and complex are no numbers."""
    try:
        found = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{name} must be a tensor or an array of numbers, got {type(values).__name__} "
            f"{values!r:.60}"
        ) from None
    require(
        found.dtype != torch.bool and not found.is_complex(),
        f"{name} must be real numbers, got {found.dtype}",
    )
    return found.float()


def _checked(sampling: Sampling | None) -> Sampling:
    """How to decode, if its options go together."""
    if sampling is None:
        return Sampling()
    if not isinstance(sampling, Sampling):
        raise TypeError(f"sampling must be a Sampling, got {sampling!r}")
    check_used(sampling)
    return sampling


def _cut(rows: list[list[int]], limit: int, side: str) -> list[list[int]]:
    """``rows`` of at most ``limit`` ids, the closing one kept; how many are cut is told."""
    number = sum(len(row) > limit for row in rows)
    if number:
        logger.warning("%d sentences have more than the %s's %d tokens: cut", number, side, limit)
    return [cut_tokens(row, limit) for row in rows]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _by_length(
    rows: list[list[int]],
    function: Callable[[list[list[int]]], list[Result]],
    batch_size: int,
    progress: bool = False,
) -> list[Result]:
    """``function`` on batches of rows of like length; the results in the order of ``rows``."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    results: dict[int, Result] = {}
    with tqdm(total=len(rows), unit="sentence", disable=not progress) as bar:
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            results |= dict(zip(batch, function([rows[i] for i in batch]), strict=True))
            bar.update(len(batch))
    return [results[i] for i in range(len(rows))]
