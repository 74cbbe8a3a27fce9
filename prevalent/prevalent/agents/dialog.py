"""Agents that follow a dialog: their networks, how they learn and how they act (Sec. 4.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ..agent_config import OptimizerConfig
from ..data.features import DeviceFeatures
from ..dialog_options import DialogConfig, DialogWalk
from ..environments.dialog import STOP, DialogEnvironment
from ..environments.low_level import LowLevelEnvironment
from ..environments.panorama import PanoramicObservation
from ..models.dialog import DialogDecoder, DialogSight, RecurrentState
from ..models.encoders import DicEncoder, Encoder, Encoding, WordEncoder, Words
from ..models.prevalent import PrevalentModel
from ..models.seq2seq import LowLevelDecoder
from ..runtime.distributed import reduce_mean
from ..runtime.precision import Precision
from .dialog_rollout import Actor, DialogRollout, Scored, walk_dialogs
from .rollout import Batch, Feedback
from .seq2seq import LowLevelActor
from .updates import Updater


class PanoramicActor:
    """The vision-language agent's side of a roll-out.

    The encoder reads the text at every step in the light of the panorama; its last states start the
    decoder and are not used again.

    Args:
        encoder: of texts.
        decoder: chooses.
        environment: where it walks.
        features: what it sees; decides the device.
        view_stride: see every n-th view.
        reuse_text: run the text layers once an episode in train mode too.
    """

    stop = STOP
    taught_after_stop = False

    def __init__(
        self,
        encoder: Encoder,
        decoder: DialogDecoder,
        environment: DialogEnvironment,
        features: DeviceFeatures,
        *,
        view_stride: int = 2,
        reuse_text: bool = False,
    ) -> None:
        self.encoder, self.decoder = encoder, decoder
        self.environment, self.features = environment, features
        self.view_stride, self.reuse_text = view_stride, reuse_text
        self.device = features.device

    def begin(self, batch: Batch) -> PanoramicObservation:
        """Place the agents; the texts are read with the first panorama."""
        self._words = Words.of(batch.tokens, self.device)
        self._text: Tensor | None = None
        self._encoding: Encoding | None = None
        self._state: RecurrentState | None = None
        shape = (len(batch.tasks), self.features.width)
        self._previous = torch.zeros(shape, device=self.device, dtype=self.features.dtype)
        return self.environment.reset(batch.tasks)

    def score(self, seen: PanoramicObservation) -> Scored:
        """Scores (B, K) of stop and the neighbors."""
        sight = self._see(seen)
        encoding = self._encode(sight.views)
        if self._state is None:
            self._state = RecurrentState(encoding.hidden, encoding.cell)
        step = self.decoder(
            sight, self._previous, self._state, encoding.context, self._words.padding
        )
        self._state, self._candidates = step.state, sight.candidates
        return Scored(step.logits, step.state.hidden)

    def act(
        self, seen: PanoramicObservation, action: NDArray[np.int64], ended: NDArray[np.bool_]
    ) -> PanoramicObservation:
        """Stop or go to a neighbor; -1 takes the last one, as Python lists do in the original."""
        agents = torch.arange(len(action), device=self.device)
        index = torch.from_numpy(action).to(self.device, non_blocking=True)
        self._previous = self._candidates[agents, index]
        return self.environment.step(np.where(action < 0, seen.count - 1, action), ended)

    def _see(self, seen: PanoramicObservation) -> DialogSight:
        images = self.features.images(seen.row)
        angles = self.features.angles[torch.from_numpy(seen.view).to(self.device)]
        stride = self.view_stride
        return DialogSight(
            torch.cat([images[:, ::stride], angles[:, ::stride]], dim=-1),
            self.features.candidates(seen.row, seen.candidate_view, seen.candidate_angle, images),
            torch.from_numpy(seen.mask).to(self.device),
        )

    def _encode(self, views: Tensor) -> Encoding:
        if self._encoding is not None and not self.encoder.sees_images:
            return self._encoding
        reuse = self.encoder.sees_images and (self.reuse_text or not self.encoder.training)
        if reuse and self._text is None:
            self._text = self.encoder.encode_text(self._words)
        panorama = views if self.encoder.sees_images else None
        self._encoding = self.encoder(self._words, panorama, self._text)
        return self._encoding


class DialogAgent:
    """Encoder and decoder with their optimizers.

    Gradients of `imitate` add up until `update`.

    Args:
        config: sizes and switches.
        environment: where it walks; of the kind that ``config.actions`` names.
        features: what it sees; decides the device.
        vocab_size: V of ``lstm`` encoders.
        bert: the pre-trained model of ``dic`` encoders.
        optimizer: of both modules.
        walk: switches of roll-outs.
        max_actions: of an episode.
        precision: of the forward passes.
    """

    def __init__(
        self,
        config: DialogConfig,
        environment: DialogEnvironment | LowLevelEnvironment,
        features: DeviceFeatures,
        *,
        max_actions: int,
        vocab_size: int | None = None,
        bert: PrevalentModel | None = None,
        optimizer: OptimizerConfig | None = None,
        walk: DialogWalk | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.walk, self.max_actions = config, walk or DialogWalk(), max_actions
        self.environment, self.features = environment, features
        encoder = build_encoder(config, features, vocab_size=vocab_size, bert=bert)
        modules: dict[str, nn.Module] = {
            "encoder": encoder,
            "decoder": build_decoder(config, features, encoder.context_size),
        }
        for module in modules.values():
            module.to(features.device)
        self.updater = Updater(
            modules,
            optimizer or OptimizerConfig("adamax"),
            ("encoder", "decoder"),
            precision,
            features.device,
        )
        self.modules, self.optimizers = self.updater.modules, self.updater.optimizers
        self.actor = self._build_actor()

    def _build_actor(self) -> Actor:
        encoder, decoder = self.modules["encoder"], self.modules["decoder"]
        if isinstance(self.environment, LowLevelEnvironment):
            return LowLevelActor(encoder, decoder, self.environment, self.features)  # type: ignore[arg-type]
        return PanoramicActor(
            encoder,  # type: ignore[arg-type]
            decoder,  # type: ignore[arg-type]
            self.environment,
            self.features,
            view_stride=self.config.view_stride,
            reuse_text=self.walk.reuse_text,
        )

    def train(self, mode: bool = True) -> DialogAgent:
        """Put both modules in train or eval mode."""
        for module in self.modules.values():
            module.train(mode)
        return self

    def parts(self) -> dict[str, Any]:
        """Named parts for a checkpoint."""
        return self.updater.parts()

    def rollout(
        self,
        batch: Batch,
        feedback: Feedback | Sequence[Feedback],
        *,
        draws: ArrayLike | None = None,
        keep_steps: bool = False,
    ) -> DialogRollout:
        """Walk ``batch``; see `walk_dialogs`."""
        with self.updater.precision.autocast():
            return walk_dialogs(
                self.actor,
                batch,
                feedback,
                self.max_actions,
                move_after_stop=self.walk.move_after_stop,
                draws=draws,
                keep_steps=keep_steps,
            )

    def imitate(
        self,
        batch: Batch,
        feedback: Feedback | Sequence[Feedback],
        *,
        draws: ArrayLike | None = None,
    ) -> dict[str, Tensor]:
        """Walk ``batch`` and add the gradients of the loss against the teacher.

        Returns:
            Detached scalars: loss (nats, summed over steps), action_loss (nats per action), actions
            (count).
        """
        recorded = self.rollout(batch, feedback, draws=draws)
        loss = self.loss(recorded)
        self.updater.backward(loss)
        actions = torch.tensor(float(recorded.taught.sum()), device=loss.device)
        return {
            "loss": loss.detach(),
            "action_loss": recorded.losses.detach().sum() / actions,
            "actions": actions,
        }

    def loss(self, recorded: DialogRollout) -> Tensor:
        """Sum over steps of the mean cross entropy of agents that are taught, nats.

        The means divide by the mean number of such agents over processes, so that N processes equal
        one with N times the batch.
        """
        steps = len(recorded.taught)
        taught = torch.zeros(self.max_actions)
        taught[:steps] = torch.from_numpy(recorded.taught)
        mean_taught = reduce_mean(taught.to(recorded.losses.device))[:steps]
        return (recorded.losses / mean_taught.clamp(min=1e-8)).sum()

    def update(self) -> dict[str, Tensor]:
        """Step all optimizers; returns gradient norms of encoder and decoder."""
        return {f"{name}_norm": norm for name, norm in self.updater.step().items()}

    @torch.inference_mode()
    def act(self, batches: Iterable[Batch], feedback: Feedback = "argmax") -> list[dict[str, Any]]:
        """Walk ``batches`` in eval mode; one record for a result file for each item."""
        was_training = self.modules["decoder"].training
        self.train(False)
        results = []
        for batch in batches:
            self.rollout(batch, feedback)
            walks = self.environment.trajectories()
            results += [
                {"inst_idx": int(task.id), "trajectory": walk}
                for task, walk in zip(batch.tasks, walks, strict=True)
            ]
        self.train(was_training)
        return results


def build_encoder(
    config: DialogConfig,
    features: DeviceFeatures,
    *,
    vocab_size: int | None = None,
    bert: PrevalentModel | None = None,
) -> Encoder:
    """The encoder that ``config`` names; raises ``ValueError`` where its source is missing."""
    if config.encoder == "lstm":
        if vocab_size is None:
            raise ValueError("--model.encoder lstm needs a word vocabulary")
        return WordEncoder(
            vocab_size,
            config.word_size,
            config.hidden_size,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
        )
    if bert is None:
        raise ValueError("--model.encoder dic needs a pre-trained model")
    if config.include_vision and bert.config.image_dim != features.width:
        raise ValueError(
            f"the pre-trained model sees views of {bert.config.image_dim} numbers, the features "
            f"have {features.image_width} and the angles {features.angle_size}; give the features "
            "it was trained on or another --model.angle-size"
        )
    bert.config = replace(
        bert.config, update_language=config.update_language, update_cross=config.update_cross
    )
    return DicEncoder(
        bert,
        config.hidden_size,
        config.encoder_size,
        bidirectional=config.bidirectional,
        reverse_input=config.reverse_input,
        top_lstm=config.top_lstm,
        dropout=config.encoder_dropout,
        include_vision=config.include_vision,
    )


def build_decoder(
    config: DialogConfig, features: DeviceFeatures, context_size: int
) -> DialogDecoder | LowLevelDecoder:
    """The decoder for ``features`` and a text context of ``context_size``."""
    if config.actions == "low-level":
        return LowLevelDecoder(
            config.hidden_size,
            features.image_width,
            context_size,
            action_size=config.action_size,
            dropout=config.dropout,
        )
    return DialogDecoder(
        config.hidden_size,
        features.width,
        context_size,
        attention_size=config.attention_size,
        dropout=config.dropout,
        recur_on_text=config.recur_on_text,
    )
