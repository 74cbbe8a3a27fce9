"""The networks' side of a roll-out: what agents see, when they read, and their states."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..agent_config import RolloutConfig
from ..data.features import DeviceFeatures, expand_angles
from ..environments.navigation import NavigationEnvironment, Observation
from ..models.decoder import AttentionDecoder, DecoderState, DecoderStep, Sight
from ..models.encoders import Encoder, Encoding, Words

READ_TOGETHER = 128  # most texts, of several steps, that are encoded at once

Rows = NDArray[np.int64]


class Policy(NamedTuple):
    """The two networks that act."""

    encoder: Encoder
    decoder: AttentionDecoder


def see(features: DeviceFeatures, observation: Observation, noise: Tensor | None = None) -> Sight:
    """Gather what B agents see; ``noise`` (D,) multiplies every image feature."""
    device, size = features.device, features.angle_size
    batch, slots = observation.candidate_view.shape
    whole = np.empty((batch, 3 + slots), dtype=np.int64)  # one transfer for all indices
    whole[:, 0], whole[:, 1], whole[:, 2] = observation.row, observation.view, observation.count
    whole[:, 3:] = observation.candidate_view
    index = torch.from_numpy(whole).to(device, non_blocking=True)
    real = np.concatenate([observation.candidate_angle, observation.pose[:, None]], axis=1)
    angles = torch.from_numpy(real).to(device, features.dtype, non_blocking=True)
    images = features.images(index[:, 0])
    if noise is not None:
        images = images * noise
    return Sight(
        pose=expand_angles(angles[:, -1], size, features.layout),
        images=images,
        angles=features.angles.index_select(0, index[:, 1]),
        candidates=features.candidates(index[:, 0], index[:, 3:], angles[:, :-1], images),
        mask=torch.arange(slots, device=device) <= index[:, 2, None],
    )


class Walker:
    """Runs the networks for those agents of a batch that still walk.

    Args:
        policy: encoder and decoder, in train or eval mode.
        features: of the panoramas.
        words: texts of all agents.
        noise: (D,) or (B, D) environment dropout.
        encoder_sees_noise: whether the encoder's panorama has it too.
        config: switches of the roll-out.
    """

    def __init__(
        self,
        policy: Policy,
        features: DeviceFeatures,
        words: Words,
        noise: Tensor | None,
        encoder_sees_noise: bool,
        config: RolloutConfig,
    ) -> None:
        self.encoder, self.decoder = policy
        self.features, self.words, self.noise = features, words, noise
        self.encoder_sees_noise, self.max_actions = encoder_sees_noise, config.max_actions
        reuse = config.reuse_text or not self.encoder.training
        self.reuse_text = reuse and self.encoder.sees_images
        self.rows: Rows | None = None  # agents that still walk; None before the start
        self.text: Tensor | None = None  # of all agents
        self.encoding: Encoding | None = None  # of the agents that still walk
        self.read = words  # what it was made of
        self.state: DecoderState | None = None
        self.ahead: list[tuple[Encoding, Words]] = []

    def step(self, seen: Observation, rows: Rows, t: int) -> DecoderStep:
        """Step ``t`` of the agents ``rows``, who see ``seen``; advances their state."""
        self._stay(rows, keep_text=not self.encoder.sees_images)
        sight = see(self.features, seen, self._noise(rows))
        if self.ahead:
            self.encoding, self.read = self.ahead[t]
        elif self.encoding is None or self.encoder.sees_images:
            self.encoding, self.read = self._encode(self._panorama(sight, seen), rows)
        if self.state is None:
            self.state = DecoderState(self.encoding.hidden, self.encoding.cell)
        step = self._decode(sight)
        self.state = step.state
        return step

    @torch.no_grad()
    def peek(self, seen: Observation, rows: Rows) -> Tensor:
        """(b, H) hidden state of a further step, on the last text context (as the authors do)."""
        self._stay(rows, keep_text=True)
        if len(rows):
            return self._decode(see(self.features, seen, self._noise(rows))).hidden
        assert self.state is not None
        return self.state.attended

    def read_ahead(self, environment: NavigationEnvironment, seen: Observation) -> None:
        """Encode the steps of agents on the shortest path that start at ``seen``, several at once.

        Their panoramas are known beforehand, and what is read at a step depends on nothing else.
        """
        ended = np.zeros(len(seen.node), dtype=bool)
        together: list[tuple[Rows, Observation]] = []
        for _ in range(self.max_actions):
            rows = np.flatnonzero(~ended)
            if together and sum(len(r) for r, _ in together) + len(rows) > READ_TOGETHER:
                self._read_steps(together)
                together = []
            together.append((rows, seen.pick(rows)))
            ended = ended | (seen.teacher == seen.count)
            if ended.all():
                break
            seen = environment.step(np.where(ended, -1, seen.teacher))
        self._read_steps(together)

    def _read_steps(self, steps: list[tuple[Rows, Observation]]) -> None:
        """Append what is read at ``steps`` to ``ahead``."""
        rows = np.concatenate([r for r, _ in steps])
        panorama = self.features.panorama(
            np.concatenate([seen.row for _, seen in steps]),
            np.concatenate([seen.view for _, seen in steps]),
        )
        noise = self._noise(rows)
        if noise is not None and self.encoder_sees_noise:
            panorama[..., : self.features.image_width] *= noise
        encoding, words = self._encode(panorama, rows)
        sizes = [len(r) for r, _ in steps]
        texts = [size * self.encoder.num_texts for size in sizes]
        parts = (encoding.context.split(texts), *(part.split(sizes) for part in encoding[1:]))
        read = zip(*(part.split(texts) for part in words), strict=True)
        for own, its_words in zip(zip(*parts, strict=True), read, strict=True):
            self.ahead.append((Encoding(*own), Words(*its_words)))

    def _panorama(self, sight: Sight, seen: Observation) -> Tensor | None:
        if not self.encoder.sees_images:
            return None
        if self.noise is not None and not self.encoder_sees_noise:
            return self.features.panorama(seen.row, seen.view)
        return sight.panorama

    def _encode(self, panorama: Tensor | None, rows: Rows) -> tuple[Encoding, Words]:
        """Read the texts of the agents ``rows``, each as often as it occurs there."""
        if self.reuse_text and self.text is None:
            self.text = self.encoder.encode_text(self.words)
        words, text = self.words, self.text
        everyone = len(words.ids) // self.encoder.num_texts
        if not np.array_equal(rows, np.arange(everyone)):
            index = self._texts(rows)
            words = words.pick(index).cut()
            text = None if text is None else text[index, : words.ids.shape[1]]
        return self.encoder.read(words, panorama, text), words

    def _stay(self, rows: Rows, *, keep_text: bool) -> None:
        """Go on with the agents ``rows`` only."""
        before, self.rows = self.rows, rows
        if before is None or len(rows) == len(before):
            return
        kept = np.searchsorted(before, rows)
        index = torch.from_numpy(kept).to(self.features.device, non_blocking=True)
        if self.state is not None:
            self.state = DecoderState(*(part.index_select(0, index) for part in self.state))
        if keep_text and self.encoding is not None:
            texts = self._texts(kept)
            context = self.encoding.context.index_select(0, texts)
            self.encoding = self.encoding._replace(context=context)
            self.read = self.read.pick(texts)

    def _texts(self, rows: Rows) -> Tensor:
        """Places of the texts of the agents ``rows``."""
        several = self.encoder.num_texts
        places = (rows[:, None] * several + np.arange(several)).ravel()
        return torch.from_numpy(places).to(self.features.device, non_blocking=True)

    def _noise(self, rows: Rows) -> Tensor | None:
        if self.noise is None or self.noise.dim() == 1:
            return self.noise
        return self.noise[torch.from_numpy(rows).to(self.noise.device)].unsqueeze(1)

    def _decode(self, sight: Sight) -> DecoderStep:
        assert self.encoding is not None
        assert self.state is not None
        return self.decoder(
            sight,
            self.state,
            self.encoding.context,
            self.read.padding,
            dropped=self.noise is not None,
        )
