"""Walk a batch of dialogs with an agent and record what the loss needs.

One function serves the vision-language agent and the Seq2Seq baseline, training and evaluation;
what differs between the two stands in their `Actor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..objectives import IGNORE, imitation_loss
from .rollout import Batch, Feedback, sample


class Seen(Protocol):
    """What a roll-out reads of an observation."""

    @property
    def teacher(self) -> NDArray[np.int64]: ...


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


class DialogRollout(NamedTuple):
    """What was recorded in T steps of B agents; items keep the order of the batch."""

    losses: Tensor  # (T,) cross entropy against the teacher, summed over taught agents, nats
    taught: NDArray[np.int64]  # (T,) agents that had not ended
    actions: NDArray[np.int64]  # (T, B) chosen, -1 for agents without a teacher
    ended: NDArray[np.bool_]  # (B,) after the last step
    steps: list[Scored]  # only with ``keep_steps``


def walk_dialogs(
    actor: Actor,
    batch: Batch,
    feedback: Feedback | Sequence[Feedback],
    max_actions: int,
    *,
    move_after_stop: bool = False,
    draws: ArrayLike | None = None,
    keep_steps: bool = False,
) -> DialogRollout:
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
        wanted = torch.from_numpy(teacher).to(actor.device, non_blocking=True)
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
    return DialogRollout(torch.stack(losses), np.array(taught), np.stack(actions), ended, steps)


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
