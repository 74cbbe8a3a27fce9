"""Reading weights that others published: what became of every tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Report:
    """What became of every tensor of one file and of one network."""

    name: str
    loaded: dict[str, tuple[int, ...]]  # tensor -> shape
    missing: tuple[str, ...]  # the network has it, the file has not
    unexpected: tuple[str, ...]  # the file has it, the network has not
    mismatched: tuple[str, ...]  # "name: shape in the file, shape in the network"
    filled: tuple[str, ...] = ()  # absent in this kind of file by nature, set to its first value

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        return (
            f"{self.name}: {len(self.loaded)} tensors loaded, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} of another shape"
            + (f", {len(self.filled)} filled in" if self.filled else "")
        )

    def text(self) -> str:
        """The summary and one line per tensor."""
        lines = [self.summary()]
        lines += [f"  loaded      {name} {list(shape)}" for name, shape in self.loaded.items()]
        for word in ("missing", "unexpected", "mismatched", "filled"):
            lines += [f"  {word:<11} {name}" for name in getattr(self, word)]
        return "\n".join(lines)


def load_with_report(
    network: nn.Module, state: State, name: str, *, filled: tuple[str, ...] = ()
) -> Report:
    """Load what fits and say what does not; nothing is loaded silently or left silently.

    Args:
        network: to be loaded into.
        state: tensors under the network's names.
        name: of the network, for the report.
        filled: entries of ``state`` that were not in the file.
    """
    own = network.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    mismatched = tuple(
        f"{key}: {list(value.shape)} in the file, {list(own[key].shape)} in the network"
        for key, value in state.items()
        if key in own and own[key].shape != value.shape
    )
    network.load_state_dict(fitting, strict=False)
    return Report(
        name,
        {key: tuple(value.shape) for key, value in fitting.items() if key not in filled},
        tuple(key for key in own if key not in state),
        tuple(key for key in state if key not in own),
        mismatched,
        filled,
    )


def require_complete(reports: Sequence[Report], source: Path) -> None:
    """Raise ``ValueError`` naming ``source`` and the first tensor that does not fit."""
    for report in reports:
        if not report.complete:
            first = (*report.mismatched, *report.missing, *report.unexpected)[0]
            raise ValueError(f"{source} does not fit: {report.summary()}; the first is {first}")


def write_report(out: Path, reports: Sequence[Report]) -> None:
    """``report.txt`` in the folder ``out``: one line per tensor."""
    (out / "report.txt").write_text("\n".join(report.text() for report in reports) + "\n")
