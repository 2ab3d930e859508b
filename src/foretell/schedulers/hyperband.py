"""Hyperband: brackets of successive halving that begin at different fidelities (Li et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

from foretell.context import Context
from foretell.errors import StudyError
from foretell.events import Created, Ended, Opened, Started
from foretell.record import FoldEvent, Record
from foretell.schedulers import Action, Grant, Resume, Start
from foretell.schedulers._ladder import Ladder
from foretell.space import Space
from foretell.trial import State

__all__ = ["Hyperband"]


@final
@dataclass
class _Bracket:
    """One bracket: `size` trials begin on the rung `depth` levels under the horizon."""

    depth: int
    size: int
    ladder: Ladder
    trials: set[int] = field(default_factory=set)


@final
@dataclass
class _Brackets:
    """The brackets opened so far; which trial belongs to which."""

    deepest: int | None = None  # s_max, known once a horizon is
    opened: int = 0
    filling: _Bracket | None = None
    unfinished: list[_Bracket] = field(default_factory=list)
    of_trial: dict[int, _Bracket] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Hyperband:
    """Synchronous halving in brackets: a rung is judged when all of it has arrived; meanwhile the next bracket fills.

    A hedge against early losses that mislead: the last bracket of each round trains everything in full. Trials that
    cannot be paused are judged on arrival among those that came before them.

    Args:
        reduction_factor: >= 2; the paper's eta.
        first_rung: epochs of the lowest rung of the most aggressive bracket, >= 1.

    Source: Li et al., Hyperband, JMLR 18 (2018), algorithm 1.
    """

    reduction_factor: int = 3
    first_rung: int = 1

    def __post_init__(self) -> None:
        if self.reduction_factor < 2:
            raise StudyError(f"reduction_factor={self.reduction_factor} promotes everybody: use 2 or more.")
        if self.first_rung < 1:
            raise StudyError(f"first_rung={self.first_rung} judges untrained models: use 1 epoch or more.")

    def init(self, space: Space) -> _Brackets:
        """No bracket open."""
        return _Brackets()

    def update(self, state: _Brackets, event: FoldEvent) -> _Brackets:
        """Give a new trial its bracket, and fold everything else into the bracket's ladder."""
        if isinstance(event, Created):
            bracket = self._filling(state)
            bracket.trials.add(event.trial)
            state.of_trial[event.trial] = bracket
            return state
        bracket_or_none = state.of_trial.get(getattr(event, "trial", -1))
        if bracket_or_none is None:
            return state
        levels = None
        if isinstance(event, Opened) and event.horizon is not None:
            if state.deepest is None:
                state.deepest = self._deepest(event.horizon)
                first = bracket_or_none
                first.depth, first.size = state.deepest, self._size(state.deepest, state.deepest)
            levels = self._levels(event.horizon, bracket_or_none.depth)
        bracket_or_none.ladder.update(event, levels)
        if isinstance(event, Started | Ended) and state.deepest is not None and self._finished(bracket_or_none):
            state.unfinished = [bracket for bracket in state.unfinished if bracket is not bracket_or_none]
        return state

    def next(self, record: Record, context: Context) -> Action:
        """A promoted trial of the oldest bracket that has one, else a new trial for the bracket that is filling."""
        state: _Brackets = record.state(self)
        for bracket in state.unfinished:
            for level, rung in enumerate(bracket.ladder.rungs):
                for member in rung.waiting[: context.workers + 1]:
                    if not self._promoted(bracket, level, member, complete=context.complete):
                        break
                    if record.states[member[1]] is State.PAUSED:
                        epochs = bracket.ladder.epochs[member[1]][level]
                        return Resume(member[1], f"among the best of its bracket at epoch {epochs}")
        return Start()

    def grant(self, trial: int, record: Record, context: Context) -> Grant:
        """The next rung, if the trial was promoted or completes its rung as one of the best; else not now."""
        state: _Brackets = record.state(self)
        bracket = state.of_trial[trial]
        ladder, step = bracket.ladder, record.steps[trial]
        upper, standing = ladder.next_rung(trial, step), ladder.standing(trial)
        if standing is None:
            return Grant(upper)
        rung, member = standing
        level = len(ladder.entered[trial]) - 1
        if not rung.waits(member) or self._promoted(bracket, level, member, complete=context.complete):
            return Grant(upper, f"promoted in its bracket at epoch {step}", value=member[0])
        rank, total = rung.rank(member), len(rung.members)
        if not record.can_pause[trial] and (total < self.reduction_factor or rank < total // self.reduction_factor):
            return Grant(upper, f"{rank + 1} of {total} in its bracket at epoch {step}: goes on", value=member[0])
        return Grant(step, f"{rank + 1} of {total} in its bracket at epoch {step}", value=member[0])

    def _promoted(self, bracket: _Bracket, level: int, member: tuple[float, int], *, complete: bool) -> bool:
        """Whether a member may go on: its whole rung has arrived, and it is among the best of it."""
        size = len(bracket.trials) if complete else bracket.size  # a bracket that can no longer be filled is full
        rung = bracket.ladder.rungs[level]
        arrived = len(rung.members) >= self._expected(bracket, level, size)
        return arrived and math.isfinite(member[0]) and rung.rank(member) < self._places(level, size)

    def _places(self, level: int, size: int) -> int:
        """How many go on from a rung of a bracket of `size` trials."""
        places: int = size // self.reduction_factor ** (level + 1)
        return max(1, places)

    def _expected(self, bracket: _Bracket, level: int, size: int) -> int:
        """How many come to a rung: all, or those of the rung below who may go on and have not ended there."""
        if level == 0:
            return size
        ladder = bracket.ladder
        chosen = ladder.rungs[level - 1].members[: self._places(level - 1, size)]
        ended = (trial in ladder.ended and len(ladder.entered[trial]) == level for _, trial in chosen)
        return sum(math.isfinite(loss) and not gone for (loss, _), gone in zip(chosen, ended, strict=True))

    def _finished(self, bracket: _Bracket) -> bool:
        """Whether the bracket is full and everybody who may go on from one of its rungs has done so."""
        ladder = bracket.ladder
        levels = max((len(epochs) for epochs in ladder.epochs.values()), default=0)
        arrived = len(bracket.trials) >= bracket.size and len(ladder.rungs) >= levels
        return arrived and all(
            len(rung.members) >= self._expected(bracket, level, bracket.size)
            and not (rung.waiting and self._promoted(bracket, level, rung.waiting[0], complete=False))
            for level, rung in enumerate(ladder.rungs)
        )

    def _filling(self, state: _Brackets) -> _Bracket:
        """The bracket that a new trial belongs to; the first takes all comers until a horizon is known."""
        filling = state.filling
        if filling is not None and (state.deepest is None or len(filling.trials) < filling.size):
            return filling
        deepest = state.deepest or 0
        depth = deepest - state.opened % (deepest + 1)
        state.filling = _Bracket(depth, self._size(deepest, depth), Ladder(self.reduction_factor))
        state.unfinished.append(state.filling)
        state.opened += 1
        return state.filling

    def _deepest(self, horizon: int) -> int:
        return max(0, math.floor(math.log(max(1.0, horizon / self.first_rung), self.reduction_factor) + 1e-9))

    def _size(self, deepest: int, depth: int) -> int:
        size: int = -(-(deepest + 1) * self.reduction_factor**depth // (depth + 1))
        return size

    def _levels(self, horizon: int, depth: int) -> tuple[int, ...]:
        levels = (max(1, round(horizon / self.reduction_factor**power)) for power in range(depth, 0, -1))
        return tuple(sorted({epochs for epochs in levels if epochs < horizon}))
