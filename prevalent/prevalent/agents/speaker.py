"""The agent that describes paths, and back-translation with it (Tan et al., NAACL 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import check_angle_size, check_dropouts
from ..data.features import DeviceFeatures
from ..data.tokenizers import EOS, PAD, UNK, WordPieceTokenizer, WordTokenizer
from ..environments.navigation import NavigationEnvironment, Task
from ..models.decoders import PathFeatures, SpeakerDecoder, SpeakerEncoder
from ..optimizer import Agent, OptimizerConfig
from ..runtime.distributed import reduce_mean
from ..runtime.options import at_least
from ..runtime.precision import Precision
from ..runtime.transfer import upload
from .rollout import Batch, see


@dataclass(frozen=True)
class SpeakerConfig:
    """The agent that describes paths (Fried et al., NeurIPS 2018)."""

    hidden_size: int = 512
    """Width of its LSTMs, both directions together."""
    word_size: int = 256
    """Width of word embeddings."""
    dropout: float = 0.6
    """Dropout of states and words."""
    feature_dropout: float = 0.3
    """Dropout of image features, an element at a time."""
    angle_size: int = 128
    """A, width of angle features."""
    max_decode: int = 120
    """Longest instruction that is generated, in words."""

    def __post_init__(self) -> None:
        if self.hidden_size < 2 or self.hidden_size % 2:
            raise ValueError(f"--speaker.hidden-size must be even, got {self.hidden_size}")
        at_least(self, "speaker", max_decode=1)
        check_dropouts("speaker", dropout=self.dropout, feature_dropout=self.feature_dropout)
        check_angle_size(self.angle_size, "speaker")


STOP_TEST_EVERY = 8  # words between two tests whether all texts have ended


class SpeakerScores(NamedTuple):
    loss: float  # nats per word
    word_accuracy: float  # share of right words under teacher forcing
    sentence_accuracy: float  # share of texts without a wrong word


class Speaker(Agent):
    """Encoder and decoder with their optimizers.

    Args:
        config: sizes and switches.
        environment: where paths are walked.
        features: what is seen on them; decides the device.
        tokenizer: of words.
        optimizer: of both modules.
        precision: of the forward passes.
    """

    def __init__(
        self,
        config: SpeakerConfig,
        environment: NavigationEnvironment,
        features: DeviceFeatures,
        tokenizer: WordTokenizer,
        *,
        optimizer: OptimizerConfig | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.environment, self.features = environment, features
        modules: dict[str, nn.Module] = {
            "encoder": SpeakerEncoder(
                features.width,
                features.angle_size,
                config.hidden_size,
                dropout=config.dropout,
                feature_dropout=config.feature_dropout,
            ),
            "decoder": SpeakerDecoder(
                tokenizer.vocab_size, config.word_size, config.hidden_size, dropout=config.dropout
            ),
        }
        optimizer = optimizer or OptimizerConfig("adam")
        super().__init__(modules, optimizer, tuple(modules), precision, features.device)
        self.encoder: SpeakerEncoder = self.modules["encoder"]  # type: ignore[assignment]
        self.decoder: SpeakerDecoder = self.modules["decoder"]  # type: ignore[assignment]

    def look(self, tasks: Sequence[Task], noise: Tensor | None = None) -> PathFeatures:
        """Walk the shortest paths of ``tasks`` and gather what is seen and chosen on them."""
        return walk_paths(self.environment, self.features, tasks, noise)

    def log_probs(self, path: PathFeatures, tokens: Tensor, *, dropped: bool = False) -> Tensor:
        """Log-probabilities (B, L - 1) in nats of ``tokens`` (B, L) behind BOS; 0 at padding."""
        with self.updater.precision.autocast():
            context = self.encoder(path, dropped=dropped)
            state = self.decoder.start(len(tokens))
            logits, _ = self.decoder(tokens[:, :-1], context, path.padding, state)
        # Not `F.cross_entropy`, whose gradient adds in any order on a GPU for three dimensions.
        words = tokens[:, 1:]
        found = logits.transpose(1, 2).log_softmax(dim=1).gather(1, words.unsqueeze(1)).squeeze(1)
        return found.masked_fill(words == PAD, 0.0)

    def cut(self, tokens: NDArray[np.int64]) -> Tensor:
        """``tokens`` (B, L) on the device, without columns that are padding alone."""
        longest = max(int((tokens != PAD).sum(axis=1).max(initial=0)), 2)
        return upload(tokens[:, :longest].copy(), self.features.device)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One training iteration by teacher forcing; returns loss (nats per word) and norms."""
        path, tokens = self.look(batch.tasks), self.cut(batch.tokens)
        count = (tokens[:, 1:] != PAD).sum().float()
        loss = -self.log_probs(path, tokens).sum() / reduce_mean(count).clamp(min=1.0)
        self.updater.backward(loss)
        norms = {f"{name}_norm": norm for name, norm in self.updater.step().items()}
        return {"loss": loss.detach(), **norms}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> SpeakerScores:
        """Loss and accuracies under teacher forcing, in eval mode."""
        with self.in_eval_mode():
            path, tokens = self.look(batch.tasks), self.cut(batch.tokens)
            with self.updater.precision.autocast():
                state = self.decoder.start(len(tokens))
                logits, _ = self.decoder(tokens[:, :-1], self.encoder(path), path.padding, state)
        wanted = tokens[:, 1:]
        valid = wanted != PAD
        right = (logits.argmax(dim=-1) == wanted) & valid
        loss = F.cross_entropy(logits[valid], wanted[valid])
        words = right.sum() / valid.sum()
        sentences = (right.sum(dim=1) == valid.sum(dim=1)).float().mean()
        return SpeakerScores(float(loss), float(words), float(sentences))

    @torch.no_grad()
    def generate(
        self, tasks: Sequence[Task], noise: Tensor | None = None, *, sample: bool = False
    ) -> NDArray[np.int64]:
        """Instructions (B, L) for the paths of ``tasks``, in eval mode.

        Args:
            tasks: episodes; their texts are not read.
            noise: (D,) environment dropout of what is seen.
            sample: draw the words instead of taking the best.

        Returns:
            Words without BOS, EOS at the end of those that end, 0 behind it; L <= ``max_decode``.
        """
        with self.in_eval_mode():
            path = self.look(tasks, noise)
            device = self.features.device
            with self.updater.precision.autocast():
                context, padding = self.encoder(path, dropped=noise is not None), path.padding
                state = self.decoder.start(len(tasks))
                word = torch.full((len(tasks),), self.tokenizer.bos, device=device)
                ended = torch.zeros(len(tasks), dtype=torch.bool, device=device)
                words = []
                for i in range(self.config.max_decode):
                    logits, state = self.decoder(word.unsqueeze(1), context, padding, state)
                    word = _pick(logits.squeeze(1), sample).masked_fill(ended, PAD)
                    words.append(word)
                    ended = ended | (word == EOS)
                    if i % STOP_TEST_EVERY == STOP_TEST_EVERY - 1 and bool(ended.all()):
                        break
        ids = torch.stack(words, dim=1).cpu().numpy()
        return ids[:, : int((ids != PAD).sum(axis=1).max())]


def _pick(logits: Tensor, sample: bool) -> Tensor:
    """Words (B,) from logits (B, V); never UNK."""
    logits = logits.index_fill(1, torch.tensor([UNK], device=logits.device), -torch.inf)
    if sample:
        return logits.softmax(dim=1).multinomial(1).squeeze(1)
    return logits.argmax(dim=1)


def walk_paths(
    environment: NavigationEnvironment,
    features: DeviceFeatures,
    tasks: Sequence[Task],
    noise: Tensor | None = None,
) -> PathFeatures:
    """Follow the shortest paths of ``tasks`` and gather features of views and chosen candidates."""
    observation = environment.reset(tasks)
    ended = np.zeros(len(tasks), dtype=bool)
    lengths = np.zeros(len(tasks), dtype=np.int64)
    candidates, panoramas = [], []
    agents = torch.arange(len(tasks), device=features.device)
    while not ended.all():
        sight = see(features, observation, noise)
        live = upload(~ended, features.device)
        choice = upload(observation.teacher, features.device)
        candidates.append(sight.candidates[agents, choice] * live.unsqueeze(1))
        panoramas.append(sight.panorama)
        lengths += ~ended
        ended = ended | (observation.teacher == observation.count)
        observation = environment.step(np.where(ended, -1, observation.teacher))
    return PathFeatures(
        torch.stack(candidates, dim=1),
        torch.stack(panoramas, dim=1),
        upload(lengths, features.device),
    )


def feature_noise(width: int, probability: float, device: torch.device | str = "cpu") -> Tensor:
    """Environment dropout: one mask (D,) of 0 or 1 / (1 - p) for all views, places and steps."""
    return F.dropout(torch.ones(width, device=device), probability, training=True)


def back_translate(
    speaker: Speaker,
    tasks: Sequence[Task],
    tokenizer: WordTokenizer | WordPieceTokenizer,
    noise: Tensor | None = None,
) -> Batch:
    """Generate the instructions of ``tasks`` and encode them for the agent that shall follow them.

    Args:
        speaker: describes the paths.
        tasks: episodes, usually of augmented paths.
        tokenizer: of the follower: words are passed on as numbers (EOS forced at the end), for word
            pieces they are written out and split again.
        noise: (D,), the same that the follower will see through.
    """
    words = speaker.generate(tasks, noise)
    if isinstance(tokenizer, WordPieceTokenizer):
        texts = [speaker.tokenizer.decode(row).removesuffix("<EOS>").strip() for row in words]
        return Batch(tasks, np.stack([tokenizer.encode(text) for text in texts]))
    bos = np.full((len(words), 1), tokenizer.bos, dtype=np.int64)
    tokens = np.concatenate([bos, words], axis=1)
    tokens[tokens[:, -1] != PAD, -1] = EOS
    return Batch(tasks, tokens)


def describe_again(
    speaker: Speaker,
    batch: Batch,
    tokenizer: WordTokenizer | WordPieceTokenizer,
    dropout: float,
    num_texts: int = 1,
) -> tuple[Batch, Tensor]:
    """``batch`` with the speaker's words, and the environment dropout (D,) they were found under.

    Args:
        speaker: describes the paths.
        batch: episodes, usually of augmented paths.
        tokenizer: of the follower.
        dropout: probability with which a feature is dropped.
        num_texts: texts that the follower reads at once; it gets the speaker's as often.
    """
    features = speaker.features
    noise = feature_noise(features.image_width, dropout, features.device)
    described = back_translate(speaker, batch.tasks, tokenizer, noise)
    if num_texts > 1:
        tokens = described.tokens[:, None].repeat(num_texts, axis=1)
        described = described._replace(tokens=tokens)
    return described, noise
