"""Agents that follow a dialog (Sec. 4.2): networks, roll-out, how they learn and how they act.

One roll-out serves the vision-language agent and the Seq2Seq baseline (Thomason et al., CoRL 2019),
training and evaluation; what differs between the two stands in their `Actor`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ..config import check_angle_size, check_dropouts, options_in
from ..data.features import DeviceFeatures
from ..environments.low_level import (
    END,
    FORWARD,
    SIMULATOR_ACTIONS,
    LowLevelEnvironment,
    LowLevelObservation,
)
from ..environments.panorama import STOP, NDHEnvironment, PanoramicObservation
from ..models.decoders import (
    IGNORE_INPUT,
    START_INPUT,
    LowLevelDecoder,
    NDHDecoder,
    NDHSight,
    RecurrentState,
)
from ..models.encoders import Encoder, Encoding, WordEncoder, Words
from ..models.prevalent import PrevalentModel
from ..objectives import IGNORE, imitation_loss
from ..optimizer import Agent, OptimizerConfig
from ..runtime.distributed import reduce_mean
from ..runtime.options import at_least
from ..runtime.precision import Precision
from ..runtime.transfer import upload
from .follower import build_dic_encoder, unused_of_dic
from .rollout import Batch, Feedback, sample


@dataclass(frozen=True)
class NDHConfig:
    """The vision-language agent of NDH, or with ``actions=low-level`` the Seq2Seq baseline."""

    encoder: Literal["dic", "lstm"] = "dic"
    """``dic``: the pre-trained encoder, at every step; ``lstm``: words, once an episode."""
    actions: Literal["panoramic", "low-level"] = "panoramic"
    """``panoramic``: neighbors by turning angle; ``low-level``: six actions, one view at a time."""
    hidden_size: int = 1024
    """H, width of the decoder."""
    encoder_size: int = 1024
    """``dic``: width of its LSTM in one direction."""
    word_size: int = 256
    """``lstm``: width of word embeddings."""
    action_size: int = 32
    """``low-level``: width of embedded actions."""
    attention_size: int = 256
    """``panoramic``: width of the visual attention and of the action scores."""
    bidirectional: bool = True
    """Read the text in both directions."""
    reverse_input: bool = True
    """``dic``: reverse the words before the LSTM."""
    top_lstm: bool = True
    """``dic``: an LSTM above the transformer."""
    recur_on_text: bool = True
    """``panoramic``: the text-attended state is the recurrent one."""
    view_stride: int = 2
    """``panoramic``: see every n-th of the 36 views; the authors see 18."""
    dropout: float = 0.4
    """Dropout of the decoder and of LSTM encoders."""
    encoder_dropout: float = 0.4
    """``dic``: dropout of the text context."""
    angle_size: int = 128
    """A, width of angle features."""
    include_vision: bool = True
    """False: ``dic`` reads the text alone, once an episode."""
    update_language: bool = False
    """Train the text layers of the transformer."""
    update_cross: bool = False
    """Train its image fusion."""

    def __post_init__(self) -> None:
        at_least(
            self,
            "model",
            hidden_size=1,
            encoder_size=1,
            word_size=1,
            action_size=1,
            attention_size=1,
        )
        if not 1 <= self.view_stride <= 36:
            raise ValueError(f"--model.view-stride must be 1 to 36, got {self.view_stride}")
        if self.actions == "low-level" and self.encoder != "lstm":
            raise ValueError(
                "--model.actions low-level goes with --model.encoder lstm; the pre-trained encoder "
                "needs whole panoramas"
            )
        if self.encoder == "lstm" and self.bidirectional and self.hidden_size % 2:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be even for an encoder that reads "
                "in both directions"
            )
        check_dropouts(dropout=self.dropout, encoder_dropout=self.encoder_dropout)
        check_angle_size(self.angle_size)

    def unused(self) -> dict[str, str]:
        """Options of encoders and actions that these are not, see `config.unused_options`."""
        unused = unused_of_dic(self)
        encoder, actions = f"--model.encoder {self.encoder}", f"--model.actions {self.actions}"
        if self.encoder == "dic":
            unused["--model.word-size"] = f"{encoder} has no such width; drop it"
        else:
            unused["--model.include-vision"] = f"{encoder} reads words alone; drop it, or give dic"
        if self.encoder != "dic" or not self.include_vision:
            unused["--rollout.reuse-text"] = "texts are read once an episode in any case; drop it"
        if self.actions == "panoramic":
            unused["--model.action-size"] = f"{actions} embeds no actions; drop one of them"
        else:
            reason = f"{actions} looks at one view without angles; drop one of them"
            names = ("attention_size", "recur_on_text", "view_stride", "angle_size")
            unused |= options_in("model", names, reason) | {"--angle-layout": reason}
        return unused


@dataclass(frozen=True)
class NDHRolloutConfig:
    """How an episode is walked."""

    max_actions: int = 0
    """Most actions of an episode; 0: 20 along the oracle's plan, 40 along longer paths (80 with
    low-level actions)."""
    move_after_stop: bool = False
    """True: an agent that has stopped walks on where it draws a move, as in the authors' code."""
    reuse_text: bool = False
    """Train mode: run the text layers once an episode (one dropout mask for all its steps). In eval
    mode they always run once, which changes no number."""

    def __post_init__(self) -> None:
        at_least(self, "rollout", max_actions=0)


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
        decoder: NDHDecoder,
        environment: NDHEnvironment,
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
        index = upload(action, self.device)
        self._previous = self._candidates[agents, index]
        return self.environment.step(np.where(action < 0, seen.count - 1, action), ended)

    def _see(self, seen: PanoramicObservation) -> NDHSight:
        images = self.features.images(seen.row)
        angles = self.features.angles[upload(seen.view, self.device)]
        stride = self.view_stride
        return NDHSight(
            torch.cat([images[:, ::stride], angles[:, ::stride]], dim=-1),
            self.features.candidates(seen.row, seen.candidate_view, seen.candidate_angle, images),
            upload(seen.mask, self.device),
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


class NDHAgent(Agent):
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
        config: NDHConfig,
        environment: NDHEnvironment | LowLevelEnvironment,
        features: DeviceFeatures,
        *,
        max_actions: int,
        vocab_size: int | None = None,
        bert: PrevalentModel | None = None,
        optimizer: OptimizerConfig | None = None,
        walk: NDHRolloutConfig | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.walk, self.max_actions = config, walk or NDHRolloutConfig(), max_actions
        self.environment, self.features = environment, features
        encoder = build_ndh_encoder(config, features, vocab_size=vocab_size, bert=bert)
        modules: dict[str, nn.Module] = {
            "encoder": encoder,
            "decoder": build_ndh_decoder(config, features, encoder.context_size),
        }
        super().__init__(
            modules,
            optimizer or OptimizerConfig("adamax"),
            ("encoder", "decoder"),
            precision,
            features.device,
        )
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

    def rollout(
        self,
        batch: Batch,
        feedback: Feedback | Sequence[Feedback],
        *,
        draws: ArrayLike | None = None,
        keep_steps: bool = False,
    ) -> NDHRollout:
        """Walk ``batch``; see `ndh_rollout`."""
        with self.updater.precision.autocast():
            return ndh_rollout(
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
        actions = torch.full((), float(recorded.taught.sum()), device=loss.device)
        return {
            "loss": loss.detach(),
            "action_loss": recorded.losses.detach().sum() / actions,
            "actions": actions,
        }

    def loss(self, recorded: NDHRollout) -> Tensor:
        """Sum over steps of the mean cross entropy of agents that are taught, nats.

        The means divide by the mean number of such agents over processes, so that N processes equal
        one with N times the batch.
        """
        steps = len(recorded.taught)
        taught = torch.zeros(self.max_actions)
        taught[:steps] = torch.from_numpy(recorded.taught)
        mean_taught = reduce_mean(upload(taught, recorded.losses.device))[:steps]
        return (recorded.losses / mean_taught.clamp(min=1e-8)).sum()

    @torch.inference_mode()
    def act(self, batches: Iterable[Batch], feedback: Feedback = "argmax") -> list[dict[str, Any]]:
        """Walk ``batches`` in eval mode; one record for a result file for each item."""
        with self.in_eval_mode():
            results = []
            for batch in batches:
                self.rollout(batch, feedback)
                walks = self.environment.trajectories()
                results += [
                    {"inst_idx": int(task.id), "trajectory": walk}
                    for task, walk in zip(batch.tasks, walks, strict=True)
                ]
        return results


def build_ndh_encoder(
    config: NDHConfig,
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
    return build_dic_encoder(config, features, bert)


def build_ndh_decoder(
    config: NDHConfig, features: DeviceFeatures, context_size: int
) -> NDHDecoder | LowLevelDecoder:
    """The decoder for ``features`` and a text context of ``context_size``."""
    if config.actions == "low-level":
        return LowLevelDecoder(
            config.hidden_size,
            features.image_width,
            context_size,
            action_size=config.action_size,
            dropout=config.dropout,
        )
    return NDHDecoder(
        config.hidden_size,
        features.width,
        context_size,
        attention_size=config.attention_size,
        dropout=config.dropout,
        recur_on_text=config.recur_on_text,
    )


class Scored(NamedTuple):
    logits: Tensor  # (B, K), minus infinity for what cannot be done
    hidden: Tensor  # (B, H) recurrent state


class Actor(Protocol):
    """The networks' and the environment's side of a roll-out."""

    stop: int
    """The action that ends an episode."""
    taught_after_stop: bool
    """Whether the authors' agent is taught on where it goes on after its end (see
    ``move_after_stop``), until it comes upon the goal."""
    device: torch.device

    def begin(self, batch: Batch) -> Any:
        """Place the agents, read the texts; the first observation."""

    def score(self, seen: Any) -> Scored:
        """Look at an observation; advances the recurrent state."""

    def act(self, seen: Any, action: NDArray[np.int64], ended: NDArray[np.bool_]) -> Any:
        """Carry out ``action`` (B,), remember it as the last one, observe.

        An action of -1 is that of an agent that had no teacher any more. Agents that have ``ended``
        (B,) are not logged.
        """


class NDHRollout(NamedTuple):
    """What was recorded in T steps of B agents; items keep the order of the batch."""

    losses: Tensor  # (T,) cross entropy against the teacher, summed over taught agents, nats
    taught: NDArray[np.int64]  # (T,) agents that had not ended
    actions: NDArray[np.int64]  # (T, B) chosen, -1 for agents without a teacher
    ended: NDArray[np.bool_]  # (B,) after the last step
    steps: list[Scored]  # only with ``keep_steps``


def ndh_rollout(
    actor: Actor,
    batch: Batch,
    feedback: Feedback | Sequence[Feedback],
    max_actions: int,
    *,
    move_after_stop: bool = False,
    draws: ArrayLike | None = None,
    keep_steps: bool = False,
) -> NDHRollout:
    """Walk ``batch`` until all agents have stopped, at most ``max_actions`` actions.

    Args:
        actor: left at the end of the walks; its environment holds the trajectories.
        batch: episodes and texts.
        feedback: who chooses: the shortest path, the best score, or a draw; one for all steps or
            one for each.
        max_actions: of an episode.
        move_after_stop: agents that have stopped go on acting, as in the authors' code; they are
            not logged, and taught only where the actor says so.
        draws: (>= T, B) actions in place of drawn ones.
        keep_steps: return scores and states of every step.
    """
    seen = actor.begin(batch)
    ended = np.zeros(len(batch.tasks), dtype=bool)
    losses: list[Tensor] = []
    taught, actions, steps = [], [], []
    replay = None if draws is None else np.asarray(draws, dtype=np.int64)
    for t in range(max_actions):
        scored = actor.score(seen)
        ignored = ended
        if move_after_stop and actor.taught_after_stop:
            ignored = ended & (seen.teacher == actor.stop)
        teacher = np.where(ignored, IGNORE, seen.teacher)
        wanted = upload(teacher, actor.device)
        losses.append(imitation_loss(scored.logits, wanted))
        taught.append(int((~ignored).sum()))
        how = feedback if isinstance(feedback, str) else feedback[t]
        action = _choose(scored.logits, teacher, how, None if replay is None else replay[t])
        actions.append(action)
        if keep_steps:
            steps.append(scored)
        if not move_after_stop:
            action = np.where(ended, actor.stop, action)
        ended = ended | (action == actor.stop)
        seen = actor.act(seen, action, ended)
        if ended.all():
            break
    return NDHRollout(torch.stack(losses), np.array(taught), np.stack(actions), ended, steps)


def _choose(
    logits: Tensor, teacher: NDArray[np.int64], how: Feedback, draw: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Actions (B,) on the host; -1 where the teacher is asked and has nothing to say."""
    if how == "teacher":
        return np.where(teacher == IGNORE, -1, teacher)
    if how == "argmax":
        return logits.argmax(dim=1).cpu().numpy()
    if draw is not None:
        return draw
    return sample(logits.detach().log_softmax(dim=1)).cpu().numpy()


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
        blocked = upload(~seen.can_move, self.device)
        forward = torch.arange(step.logits.shape[1], device=self.device) == FORWARD
        logits = step.logits.masked_fill(blocked.unsqueeze(1) & forward, -torch.inf)
        return Scored(logits, step.state.hidden)

    def act(
        self, seen: LowLevelObservation, action: NDArray[np.int64], ended: NDArray[np.bool_]
    ) -> LowLevelObservation:
        """Turn, tilt, go or stay."""
        inputs = np.where(action < 0, IGNORE_INPUT, action)
        self._previous = upload(inputs, self.device)
        steps = SIMULATOR_ACTIONS[np.where(action < 0, END, action)]
        return self.environment.step_raw(steps, ended=ended)
