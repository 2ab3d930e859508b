"""What transfer saved or cost: each source against training from scratch, at equal epochs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from foretell.objective import Objective
from foretell.transfer import TransferError
from foretell.trial import Trial

if TYPE_CHECKING:
    from foretell.study import Study

__all__ = ["savings", "Savings"]

_ALL = "all sources"


@final
@dataclass(frozen=True, slots=True)
class Arm:
    """One source, its trials one after the other.

    Args:
        source: its name.
        trials: how many tried it.
        epochs: trained in them together.
        best: best value, in the user's units; None if there is none.
        equal_epochs: the epochs that both this source and training from scratch have had.
        value: best value within these.
        scratch: best value from scratch within these.
        reached: epochs until it was as good as training from scratch ever was; None if it never was.
        alone: the same within its best trial, whose settings the search has found.
    """

    source: str
    trials: int
    epochs: int
    best: float | None
    equal_epochs: int
    value: float | None
    scratch: float | None
    reached: int | None
    alone: int | None


@final
@dataclass(frozen=True, slots=True)
class Savings:
    """Transfer against training from scratch.

    Args:
        metric: that was watched.
        scratch: training from scratch; `reached` says when it was at its best.
        arms: each source.
        together: all of them, as if they were one.
    """

    metric: str
    scratch: Arm
    arms: tuple[Arm, ...]
    together: Arm

    @property
    def saved(self) -> int | None:
        """Epochs that the search saved on its way to the best from scratch, below 0 if it cost; None if not reached."""
        if self.together.reached is None or self.scratch.reached is None:
            return None
        return self.scratch.reached - self.together.reached

    def __str__(self) -> str:
        head = [
            "source",
            "trials",
            "epochs",
            "best",
            "at epochs",
            "value",
            "from scratch",
            "as good after",
            "best trial",
        ]
        rows = [
            [arm.source, str(arm.trials), str(arm.epochs), _shown(arm.best), str(arm.equal_epochs), _shown(arm.value),
             _shown(arm.scratch), _epochs(arm.reached), _epochs(arm.alone)]
            for arm in (self.scratch, *self.arms, self.together)
        ]  # fmt: skip
        widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
        return "\n".join([*(line.rstrip() for line in lines), self._sentence()])

    def _sentence(self) -> str:
        if self.scratch.reached is None:
            return "Nothing was trained from scratch, so what transfer saved or cost is not known."
        best, saved = f"the best {self.metric} from scratch ({_shown(self.scratch.best)})", self.saved
        if saved is None:
            return f"Transfer never reached {best} in {self.together.epochs} epochs."
        word = f"saved {saved}" if saved >= 0 else f"cost {-saved}"
        text = (
            f"On the way to {best}, transfer {word} epochs of the search: {self.together.reached} instead of "
            f"{self.scratch.reached}. "
        )
        if self.together.alone is not None:
            text += f"Its best trial alone took {self.together.alone}, the best from scratch {self.scratch.alone}. "
        return text + "This is one study, and its sampler chose what each source got."

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**dataclasses.asdict(self), "arms": [dataclasses.asdict(arm) for arm in self.arms], "saved": self.saved}


def savings(study: Study, parameter: str = "source", *, none: Any = "none") -> Savings:
    """Compare, in a study that has searched over its source, each source with training from scratch at equal epochs.

    The epochs of a source are those of all its trials, one after the other in the order of their numbers.

    Args:
        study: one whose space has the parameter.
        parameter: name of the parameter that says the source.
        none: its value for training from scratch.

    Raises:
        TransferError: no trial has the parameter.
    """
    groups: dict[Any, list[Trial]] = {}
    for trial in study.trials:
        if parameter in trial.params:
            groups.setdefault(trial.params[parameter], []).append(trial)
    if not groups:
        raise TransferError(f"No trial has the parameter {parameter!r}: say which one is the source.")
    scratch = groups.pop(none, [])
    base, objective = _path(scratch), study.objective
    arms = [_arm(str(name), trials, base, objective) for name, trials in groups.items()]
    every = sorted((trial for trials in groups.values() for trial in trials), key=lambda trial: trial.number)
    first = _arm(str(none), scratch, base, objective)
    ranked = sorted(arms, key=lambda arm: math.inf if arm.best is None else objective.loss(arm.best))
    return Savings(objective.metric, first, tuple(ranked), _arm(_ALL, every, base, objective))


_Path = tuple[int, list[tuple[int, float]]]
"""Epochs in all, and where the best loss fell, to what."""


def _path(trials: Iterable[Trial]) -> _Path:
    behind, best, falls = 0, math.inf, []
    for trial in trials:
        for point in trial.curve:
            if point.loss < best:
                best = point.loss
                falls.append((behind + point.step, best))
        behind += max(trial.step, trial.curve.last.step if len(trial.curve) else 0)
    return behind, falls


def _at(path: _Path, epochs: int) -> float:
    return min((loss for at, loss in path[1] if at <= epochs), default=math.inf)


def _arm(name: str, trials: list[Trial], base: _Path, objective: Objective) -> Arm:
    path = _path(trials)
    best_trial = min(trials, key=lambda trial: trial.curve.best, default=None)
    equal = min(path[0], base[0])
    goal = _at(base, base[0])
    reached, alone = _reached(path, goal), _reached(_path([best_trial] if best_trial else []), goal)
    values = [_at(path, path[0]), _at(path, equal), _at(base, equal)]
    best, value, scratch = (objective.value(loss) if math.isfinite(loss) else None for loss in values)
    return Arm(name, len(trials), path[0], best, equal, value, scratch, reached, alone)


def _reached(path: _Path, goal: float) -> int | None:
    return next((at for at, loss in path[1] if loss <= goal < math.inf), None)


def _epochs(count: int | None) -> str:
    return "never" if count is None else f"{count} epochs"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
