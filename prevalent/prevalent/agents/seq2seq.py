"""The Seq2Seq baseline's side of a roll-out: six actions, one view (Thomason et al., CoRL 2019)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.features import DeviceFeatures
from ..environments.low_level import (
    END,
    FORWARD,
    SIMULATOR_ACTIONS,
    LowLevelEnvironment,
    LowLevelObservation,
)
from ..models.dialog import RecurrentState
from ..models.encoders import Encoder, Words
from ..models.seq2seq import IGNORE_INPUT, START_INPUT, LowLevelDecoder
from .dialog_rollout import Scored
from .rollout import Batch


class LowLevelActor:
    """Text encoder, decoder and the environment of six actions.

    Args:
        encoder: of words; run once an episode.
        decoder: chooses.
        environment: where it walks.
        features: what it sees; decides the device.
    """

    stop = END
    taught_after_stop = True

    def __init__(
        self,
        encoder: Encoder,
        decoder: LowLevelDecoder,
        environment: LowLevelEnvironment,
        features: DeviceFeatures,
    ) -> None:
        self.encoder, self.decoder = encoder, decoder
        self.environment, self.features = environment, features
        self.device = features.device

    def begin(self, batch: Batch) -> LowLevelObservation:
        """Place the agents and read the texts."""
        self._words = Words.of(batch.tokens, self.device)
        self._encoding = self.encoder(self._words)
        self._state = RecurrentState(self._encoding.hidden, self._encoding.cell)
        self._previous = torch.full((len(batch.tasks),), START_INPUT, device=self.device)
        return self.environment.reset(batch.tasks)

    def score(self, seen: LowLevelObservation) -> Scored:
        """Scores (B, 6); forward is impossible where nothing is ahead."""
        view = self.features.single(seen.row, seen.view)
        step = self.decoder(
            view, self._previous, self._state, self._encoding.context, self._words.padding
        )
        self._state = step.state
        blocked = torch.from_numpy(~seen.can_move).to(self.device)
        forward = torch.arange(step.logits.shape[1], device=self.device) == FORWARD
        logits = step.logits.masked_fill(blocked.unsqueeze(1) & forward, -torch.inf)
        return Scored(logits, step.state.hidden)

    def act(
        self, seen: LowLevelObservation, action: NDArray[np.int64], ended: NDArray[np.bool_]
    ) -> LowLevelObservation:
        """Turn, tilt, go or stay."""
        inputs = np.where(action < 0, IGNORE_INPUT, action)
        self._previous = torch.from_numpy(inputs).to(self.device, non_blocking=True)
        steps = SIMULATOR_ACTIONS[np.where(action < 0, END, action)]
        return self.environment.step_raw(steps, ended=ended)
