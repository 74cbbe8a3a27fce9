"""The agent that follows instructions: its networks, how it learns and how it acts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..config import check_angle_size, check_dropouts, options_in
from ..data.features import DeviceFeatures
from ..environments.navigation import NavigationEnvironment
from ..models.decoders import AttentionDecoder, Critic
from ..models.encoders import BertEncoder, DicEncoder, Encoder, WordEncoder
from ..models.prevalent import PrevalentModel
from ..objectives import (
    ActorCriticLoss,
    Experience,
    WalkReward,
    actor_critic_loss,
    self_critical_loss,
    walk_rewards,
)
from ..optimizer import Agent, OptimizerConfig
from ..runtime.distributed import reduce_mean
from ..runtime.options import at_least
from ..runtime.precision import Precision, no_grad_beside_grad
from ..runtime.transfer import upload
from .rollout import Batch, Feedback, Policy, Rollout, RolloutConfig, rollout

if TYPE_CHECKING:
    from .ndh import NDHConfig

EncoderKind = Literal["lstm", "dic", "bert", "bert-projected"]


Merge = Literal["mean", "max", "sum", "cat"]


@dataclass(frozen=True)
class FollowerConfig:
    """The agent that follows instructions (EnvDrop's, or PREVALENT's with ``encoder=dic``)."""

    encoder: EncoderKind = "lstm"
    """``lstm``: words, once an episode; ``dic``: the pre-trained encoder, at every step (the
    paper's agent); ``bert``, ``bert-projected``: the same below a decoder-sized LSTM."""
    hidden_size: int = 512
    """H, width of the decoder and of the critic (1024 in the published PREVALENT agent)."""
    word_size: int = 256
    """Width of word embeddings (``lstm``) or of the projection (``bert-projected``)."""
    action_size: int = 64
    """Width of the embedded heading and elevation of the agent."""
    encoder_size: int = 1024
    """``dic``: width of its LSTM in one direction."""
    bidirectional: bool = True
    """Read the text in both directions."""
    reverse_input: bool = True
    """``dic``: reverse the words before the LSTM."""
    top_lstm: bool = True
    """``dic``: an LSTM above the transformer."""
    summary: Literal["tanh", "max"] = "tanh"
    """First decoder state: from the last states (tanh) or the maximum over words."""
    zero_start: bool = False
    """Start the decoder at zeros instead."""
    dropout: float = 0.5
    """Dropout of decoder, critic and LSTM encoders."""
    encoder_dropout: float = 0.4
    """``dic``: dropout of the text context."""
    feature_dropout: float = 0.3
    """Dropout of image features, an element at a time; in back-translation, of whole columns."""
    angle_size: int = 128
    """A, width of angle features."""
    separate_sentences: bool = False
    """Put a [SEP] behind every sentence, as pre-training does; the authors' agents put one behind
    the text."""
    include_vision: bool = True
    """False: transformer encoders read the text alone, once an episode."""
    encoder_sees_noise: bool = True
    """The encoder sees the dropped features of back-translation too."""
    num_texts: int = 1
    """M, instructions of a path that are read side by side; a path with fewer repeats them."""
    merge_texts: Merge = "mean"
    """How a step merges what it recalls of M instructions."""
    update_language: bool = False
    """Train the text layers of the transformer."""
    update_cross: bool = False
    """Train its image fusion; False is the feature-based agent."""

    def __post_init__(self) -> None:
        at_least(
            self, "model", hidden_size=1, word_size=1, action_size=1, encoder_size=1, num_texts=1
        )
        if self.bidirectional and self.encoder != "dic" and self.hidden_size % 2:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be even for an encoder that reads "
                "in both directions"
            )
        check_dropouts(
            dropout=self.dropout,
            encoder_dropout=self.encoder_dropout,
            feature_dropout=self.feature_dropout,
        )
        check_angle_size(self.angle_size)

    @property
    def sees_images(self) -> bool:
        """Whether the text is read at every step, in the light of the panorama."""
        return self.encoder != "lstm" and self.include_vision

    def unused(self) -> dict[str, str]:
        """Options of encoders that this one is not, see `config.unused_options`."""
        encoder = f"--model.encoder {self.encoder}"
        unused = unused_of_dic(self)
        if self.encoder not in ("lstm", "bert-projected"):
            unused["--model.word-size"] = f"{encoder} has no such width; drop it"
        if self.encoder == "dic":
            reason = f"{encoder} starts the decoder in its own way; drop one of them"
            unused |= options_in("model", ("summary", "zero_start"), reason)
        if self.encoder == "lstm":
            reason = f"{encoder} reads words alone; drop it, or give another encoder"
            unused |= options_in("model", ("include_vision", "separate_sentences"), reason)
        if not self.sees_images:
            reason = "the encoder sees no views; drop it, or give an encoder that does"
            unused |= {"--model.encoder-sees-noise": reason}
            unused["--rollout.reuse-text"] = "texts are read once an episode in any case; drop it"
        if self.num_texts == 1:
            unused["--model.merge-texts"] = "--model.num-texts 1 leaves nothing to merge; give more"
        return unused


def unused_of_dic(config: FollowerConfig | NDHConfig) -> dict[str, str]:
    """Options of the published agent's encoder that ``config`` leaves without a use."""
    if config.encoder != "dic":
        reason = f"--model.encoder {config.encoder} has no such part; drop it, or give dic"
        names = ("encoder_size", "reverse_input", "top_lstm", "encoder_dropout")
        return options_in("model", (*names, "update_language", "update_cross"), reason)
    if not config.include_vision:
        return {"--model.update-cross": "--model.no-include-vision fuses nothing; drop one of them"}
    return {}


class Follower(Agent):
    """Encoder, decoder and critic with their optimizers.

    Gradients of `imitate` and `reinforce` add up until `update`, so that true and back-translated
    instructions can share a step.

    Args:
        config: sizes and switches.
        environment: where it walks.
        features: what it sees; decides the device.
        vocab_size: V of word encoders; ignored by transformer encoders, which have their own.
        bert: the pre-trained model; transformer encoders need one.
        optimizer: of the three modules.
        walk: limits and switches of roll-outs.
        precision: of the forward passes.
    """

    def __init__(
        self,
        config: FollowerConfig,
        environment: NavigationEnvironment,
        features: DeviceFeatures,
        *,
        vocab_size: int | None = None,
        bert: PrevalentModel | None = None,
        optimizer: OptimizerConfig | None = None,
        walk: RolloutConfig | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.config, self.walk = config, walk or RolloutConfig()
        self.environment, self.features = environment, features
        encoder = build_encoder(config, features, vocab_size=vocab_size, bert=bert)
        modules: dict[str, nn.Module] = {
            "encoder": encoder,
            "decoder": build_decoder(config, features, encoder.context_size),
            "critic": Critic(config.hidden_size, config.dropout),
        }
        super().__init__(
            modules,
            optimizer or OptimizerConfig(),
            ("encoder", "decoder"),
            precision,
            features.device,
        )
        self.policy = Policy(self.modules["encoder"], self.modules["decoder"])  # type: ignore[arg-type]
        self.critic: Critic = self.modules["critic"]  # type: ignore[assignment]

    def rollout(self, batch: Batch, feedback: Feedback, **options: Any) -> Rollout:
        """Walk ``batch``; options as in `agents.rollout.rollout`."""
        options.setdefault("encoder_sees_noise", self.config.encoder_sees_noise)
        with self.updater.precision.autocast():
            return rollout(
                self.policy, self.environment, self.features, batch, feedback, self.walk, **options
            )

    def imitate(
        self,
        batch: Batch,
        weight: float = 1.0,
        *,
        noise: Tensor | None = None,
        along: Literal["teacher", "sample"] = "teacher",
    ) -> dict[str, Tensor]:
        """Add the gradients of ``weight`` times the mean loss of an item against the teacher.

        Args:
            batch: episodes and instructions.
            weight: of the loss.
            noise: (D,) environment dropout of a back-translated batch.
            along: whose walk it is that the teacher is asked on; ``sample`` is student forcing.

        Returns:
            Detached scalars: loss (weighted), imitation (nats per episode).
        """
        recorded = self.rollout(batch, along, noise=noise)
        imitation = recorded.imitation / len(batch.tasks)
        loss = weight * imitation
        self.updater.backward(loss)
        return {"loss": loss.detach(), "imitation": imitation.detach()}

    def reinforce(
        self, batch: Batch, *, noise: Tensor | None = None, draws: ArrayLike | None = None
    ) -> dict[str, Tensor]:
        """Sample walks and add the gradients of the actor-critic loss.

        Args:
            batch: episodes and instructions.
            noise: (D,) environment dropout of a back-translated batch.
            draws: (T, B) actions in place of sampled ones.

        Returns:
            Detached scalars: loss, policy, critic, entropy (nats per action), actions (count).
        """
        recorded = self.rollout(batch, "sample", noise=noise, draws=draws, bootstrap=True)
        result = self._value(recorded)
        self.updater.backward(result.loss)
        return _details(result)

    def imitate_and_reinforce(
        self,
        imitated: Batch,
        sampled: Batch,
        weight: float = 1.0,
        *,
        noises: tuple[Tensor | None, Tensor | None] = (None, None),
        draws: ArrayLike | None = None,
    ) -> dict[str, Tensor]:
        """`imitate` one batch and `reinforce` another, with the sum of their gradients and losses.

        Where the texts are read once an episode, both batches walk together: products of a few rows
        with the weights take little longer with twice as many.
        """
        alike = imitated.tokens.shape[1:] == sampled.tokens.shape[1:]
        alike &= (noises[0] is None) == (noises[1] is None)
        if self.policy.encoder.sees_images or self.walk.move_after_stop or not alike:
            losses = self.imitate(imitated, weight, noise=noises[0])
            return add_losses(losses, self.reinforce(sampled, noise=noises[1], draws=draws))
        taught = len(imitated.tasks)
        both = Batch(
            [*imitated.tasks, *sampled.tasks], np.concatenate([imitated.tokens, sampled.tokens])
        )
        noise = None
        if noises[0] is not None and noises[1] is not None:
            parts = zip(noises, (taught, len(sampled.tasks)), strict=True)
            noise = torch.cat([one.expand(count, -1) for one, count in parts])  # type: ignore[union-attr]
        options = {"taught": taught, "noise": noise, "draws": draws, "bootstrap": True}
        recorded = self.rollout(both, "sample", **options)
        imitation = recorded.imitation / taught
        result = self._value(recorded)
        taught_loss = weight * imitation
        self.updater.backward(taught_loss + result.loss)
        losses = {"loss": taught_loss.detach(), "imitation": imitation.detach()}
        return add_losses(losses, _details(result))

    def _value(self, recorded: Rollout) -> ActorCriticLoss:
        """The actor-critic loss of a sampled roll-out."""
        with self.updater.precision.autocast():
            experience = self.judge(recorded)
        return actor_critic_loss(
            experience,
            gamma=self.walk.gamma,
            normalize=self.walk.normalize,
            entropy_weight=self.walk.entropy_weight,
            mean_actions=reduce_mean(experience.masks.sum()),
        )

    def criticize(
        self,
        batch: Batch,
        reward: WalkReward,
        *,
        noise: Tensor | None = None,
        draws: ArrayLike | None = None,
    ) -> dict[str, Tensor]:
        """Sample walks and add the gradients of the self-critical loss.

        The walk to beat is the agent's own greedy one, in eval mode (Rennie et al., CVPR 2017).

        Args:
            batch: episodes and instructions.
            reward: of a whole walk, see `objectives.walk_rewards`.
            noise: (D,) environment dropout of a back-translated batch.
            draws: (T, B) actions in place of sampled ones.

        Returns:
            Detached scalars: loss, reward (mean of the sampled walks), greedy_reward.
        """
        greedy = None
        if reward.endswith("_sc"):
            self.train(False)
            with torch.no_grad():
                self.rollout(batch, "argmax", noise=noise)
            greedy = self.score(reward)
            self.train()
        recorded = self.rollout(batch, "sample", noise=noise, draws=draws)
        rewards = self.score(reward)
        advantage = rewards if greedy is None else rewards - greedy
        loss = self_critical_loss(
            recorded.log_probs, recorded.masks, advantage, last="last" in reward
        )
        self.updater.backward(loss)
        losses = {"loss": loss.detach(), "reward": rewards.mean()}
        return losses if greedy is None else {**losses, "greedy_reward": greedy.mean()}

    def score(self, reward: WalkReward) -> Tensor:
        """Rewards (B,) of the walks that the environment holds."""
        environment = self.environment
        graphs, goal = environment.graphs, environment.goal
        rewards = walk_rewards(
            graphs.distance(environment.node, goal),
            environment.walked(),
            graphs.distance(environment.starts(), goal),
            by_length=reward.startswith("spl"),
        )
        return upload(rewards, self.features.device)

    def judge(self, recorded: Rollout) -> Experience:
        """Values of a sampled roll-out; no gradient reaches the value behind the last step."""
        assert recorded.last_hidden is not None
        with no_grad_beside_grad(self.features.device):
            last = self.critic(recorded.last_hidden)
        live = upload(~recorded.ended, last.device)
        return Experience(
            log_probs=recorded.log_probs,
            entropies=recorded.entropies,
            rewards=recorded.rewards,
            masks=recorded.masks,
            values=self.critic(recorded.hidden),
            last_value=torch.where(live, last, torch.zeros_like(last)),
        )

    def step(
        self, imitated: Batch | None, sampled: Batch | None = None, weight: float = 1.0
    ) -> dict[str, Tensor]:
        """One training iteration: imitation of one batch, reinforcement on another, one update.

        The authors' ``feedback=teacher`` is ``step(batch)`` with weight 1, their ``sample`` is
        ``step(batch, next_batch, ml_weight)``.
        """
        losses: dict[str, Tensor] = {}
        if imitated is not None and weight and sampled is not None:
            losses = self.imitate_and_reinforce(imitated, sampled, weight)
        elif imitated is not None and weight:
            losses = self.imitate(imitated, weight)
        elif sampled is not None:
            losses = self.reinforce(sampled)
        return {**losses, **self.update()}

    @torch.inference_mode()
    def act(self, batches: Iterable[Batch], feedback: Feedback = "argmax") -> list[dict[str, Any]]:
        """Walk ``batches`` in eval mode; one record for a result file for each item."""
        with self.in_eval_mode():
            results = []
            for batch in batches:
                self.rollout(batch, feedback)
                walks = self.environment.trajectories()
                results += [
                    {"instr_id": task.id, "trajectory": walk}
                    for task, walk in zip(batch.tasks, walks, strict=True)
                ]
        return results


def add_losses(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    """Both records, equal names summed."""
    return {**a, **b, **{name: a[name] + b[name] for name in a.keys() & b.keys()}}


def _details(result: ActorCriticLoss) -> dict[str, Tensor]:
    return {
        "loss": result.loss.detach(),
        "policy": result.policy,
        "critic": result.critic,
        "entropy": result.entropy,
        "actions": result.actions,
    }


def build_encoder(
    config: FollowerConfig,
    features: DeviceFeatures,
    *,
    vocab_size: int | None = None,
    bert: PrevalentModel | None = None,
) -> Encoder:
    """The encoder that ``config`` names; raises ``ValueError`` where its source is missing."""
    encoder = _build_encoder(config, features, vocab_size, bert)
    encoder.num_texts = config.num_texts
    return encoder


def _build_encoder(
    config: FollowerConfig,
    features: DeviceFeatures,
    vocab_size: int | None,
    bert: PrevalentModel | None,
) -> Encoder:
    above: dict[str, Any] = {
        "bidirectional": config.bidirectional,
        "dropout": config.dropout,
        "summary": config.summary,
        "zero_start": config.zero_start,
    }
    if config.encoder == "lstm":
        if vocab_size is None:
            raise ValueError("--model.encoder lstm needs a word vocabulary")
        return WordEncoder(vocab_size, config.word_size, config.hidden_size, **above)
    if config.encoder == "dic":
        return build_dic_encoder(config, features, bert)
    word_size = config.word_size if config.encoder == "bert-projected" else None
    above["include_vision"] = config.include_vision
    checked = check_transformer(config, features, bert)
    return BertEncoder(checked, config.hidden_size, word_size, **above)


def build_dic_encoder(
    config: FollowerConfig | NDHConfig, features: DeviceFeatures, bert: PrevalentModel | None
) -> DicEncoder:
    """The paper's encoder, as an agent of R2R or NDH has it."""
    return DicEncoder(
        check_transformer(config, features, bert),
        config.hidden_size,
        config.encoder_size,
        bidirectional=config.bidirectional,
        reverse_input=config.reverse_input,
        top_lstm=config.top_lstm,
        dropout=config.encoder_dropout,
        include_vision=config.include_vision,
    )


def check_transformer(
    config: FollowerConfig | NDHConfig, features: DeviceFeatures, bert: PrevalentModel | None
) -> PrevalentModel:
    """``bert`` with what is trained of it; ``ValueError`` where it cannot see ``features``."""
    if bert is None:
        raise ValueError(f"--model.encoder {config.encoder} needs a pre-trained model")
    if config.include_vision and bert.config.image_dim != features.width:
        raise ValueError(
            f"the pre-trained model sees views of {bert.config.image_dim} numbers, the features "
            f"have {features.image_width} and the angles {features.angle_size}; give the features "
            "it was trained on, another --model.angle-size, or --model.no-include-vision where it "
            "was trained without views"
        )
    bert.config = replace(
        bert.config, update_language=config.update_language, update_cross=config.update_cross
    )
    return bert


def build_decoder(
    config: FollowerConfig, features: DeviceFeatures, context_size: int
) -> AttentionDecoder:
    """The decoder for ``features`` and a text context of ``context_size``."""
    if config.angle_size != features.angle_size:
        raise ValueError(
            f"--model.angle-size {config.angle_size} differs from the {features.angle_size} of the "
            "loaded features"
        )
    return AttentionDecoder(
        config.hidden_size,
        features.image_width,
        config.angle_size,
        context_size,
        action_size=config.action_size,
        dropout=config.dropout,
        feature_dropout=config.feature_dropout,
        num_texts=config.num_texts,
        merge_texts=config.merge_texts,
    )
