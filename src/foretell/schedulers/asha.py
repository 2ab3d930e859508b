"""Asynchronous successive halving: many short trainings, few long ones, and no worker waits (Li et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import final

from foretell.context import Context
from foretell.errors import StudyError
from foretell.events import Opened
from foretell.record import FoldEvent, Record
from foretell.schedulers import Action, Grant, Resume, Start
from foretell.schedulers._ladder import Ladder, rungs
from foretell.space import Space
from foretell.trial import State

__all__ = ["ASHA"]


@final
@dataclass(frozen=True)
class ASHA:
    """Trials that can be paused wait on their rung until they are among its best 1/reduction_factor, then go on.

    Trials that cannot be paused are judged once, on arrival, and stopped for good if they are not among the best; a
    rung with fewer than `reduction_factor` arrivals lets everybody pass.

    Args:
        reduction_factor: how many trials compete for one promotion, >= 2.
        first_rung: epochs before the first judgement; None takes 6 % of the horizon, at least 1.
        spare_twins: whether trials whose losses are exactly those of an older one go no further: parameters that are
            rounded or unused make such twins, and a search that has found a good place makes many.

    Source: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2.
    """

    reduction_factor: int = 3
    first_rung: int | None = None
    spare_twins: bool = True

    def __post_init__(self) -> None:
        if self.reduction_factor < 2:
            raise StudyError(f"reduction_factor={self.reduction_factor} promotes everybody: use 2 or more.")
        if self.first_rung is not None and self.first_rung < 1:
            raise StudyError(f"first_rung={self.first_rung} judges untrained models: use 1 epoch or more.")

    def init(self, space: Space) -> Ladder:
        """An empty ladder."""
        return Ladder(self.reduction_factor, spare_twins=self.spare_twins)

    def update(self, state: Ladder, event: FoldEvent) -> Ladder:
        """Fold one event into the ladder."""
        levels = None
        if isinstance(event, Opened) and event.horizon is not None:
            first = self.first_rung or max(1, round(0.06 * event.horizon))
            levels = rungs(event.horizon, first, self.reduction_factor)
        state.update(event, levels)
        return state

    def next(self, record: Record, context: Context) -> Action:
        """The best paused trial of the highest rung that has earned its promotion, else a new trial."""
        ladder: Ladder = record.state(self)
        for level in range(len(ladder.rungs) - 1, -1, -1):
            rung = ladder.rungs[level]
            # Those at the front may still be on their way into the pause, at most one for each worker.
            for member in islice(rung.waiting, context.workers + 1):
                if not ladder.promotable(rung, member):
                    break
                if record.states[member[1]] is State.PAUSED:
                    rank, total, epochs = rung.rank(member) + 1, len(rung.members), ladder.epochs[member[1]][level]
                    return Resume(member[1], f"{_ordinal(rank)} of {total} runs at epoch {epochs}")
        return Start()

    def grant(self, trial: int, record: Record, context: Context) -> Grant:
        """The next rung if the trial was promoted or is promotable, else not now."""
        ladder: Ladder = record.state(self)
        step = record.steps[trial]
        upper = ladder.next_rung(trial, step)
        standing = ladder.standing(trial)
        if standing is None:
            return Grant(upper)
        rung, member = standing
        twin = ladder.twin(trial) if self.spare_twins else None
        if twin is not None:
            return Grant(step, f"has had exactly the losses of trial {twin} so far", value=member[0])
        rank, total = rung.rank(member), len(rung.members)
        place = f"{_ordinal(rank + 1)} of {total} run{'s' if total > 1 else ''} at epoch {step}"
        if not rung.waits(member) or ladder.promotable(rung, member):
            return Grant(upper, f"{place}: goes on", value=member[0])
        places = total // self.reduction_factor
        if not record.can_pause[trial] and (total < self.reduction_factor or rank < places):
            return Grant(upper, f"{place}: goes on", value=member[0])
        if not places:
            return Grant(step, f"{place}: waits for {self.reduction_factor} to compare", value=member[0])
        limit, going = rung.members[places - 1][0], "best one goes" if places == 1 else f"best {places} go"
        return Grant(step, f"{place}: the {going} on", value=member[0], limit=limit)


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
