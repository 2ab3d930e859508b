"""The rungs of successive halving and who stands on them: the memory that asha and hyperband fold from the log."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import final

from foretell.events import Ended, Granted, Opened, Reached, Started
from foretell.record import FoldEvent, Observed
from foretell.trial import State

Member = tuple[float, int]  # loss, trial: sorted by loss, then by age


def rungs(horizon: int, first_rung: int, reduction_factor: int) -> tuple[int, ...]:
    """Epochs at which a training of `horizon` epochs is judged: first_rung * reduction_factor^k below the horizon."""
    levels, rung = [], max(1, first_rung)
    while rung < horizon:
        levels.append(rung)
        rung = max(rung + 1, rung * reduction_factor)
    return tuple(levels)


@final
class Rung:
    """Those who reached one level: all of them, and those still waiting for promotion, both sorted by loss."""

    __slots__ = ("members", "waiting")

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.waiting: list[Member] = []

    def enter(self, member: Member) -> None:
        """A trial has reached this level."""
        insort(self.members, member)
        insort(self.waiting, member)

    def leave(self, member: Member) -> None:
        """A trial goes on from here, or will never go on: it no longer waits, but still counts."""
        index = bisect_left(self.waiting, member)
        if index < len(self.waiting) and self.waiting[index] == member:
            del self.waiting[index]

    def forget(self, member: Member) -> None:
        """A trial was thrown back before this level: it has to reach it again."""
        self.leave(member)
        index = bisect_left(self.members, member)
        if index < len(self.members) and self.members[index] == member:
            del self.members[index]

    def finite(self) -> int:
        """How many members have a finite loss, and so may be promoted at all."""
        return bisect_left(self.members, (math.inf, -1))

    def waits(self, member: Member) -> bool:
        """Whether a member has been neither promoted nor ended."""
        index = bisect_left(self.waiting, member)
        return index < len(self.waiting) and self.waiting[index] == member

    def rank(self, member: Member) -> int:
        """How many members are better."""
        return bisect_left(self.members, member)


@final
class Ladder:
    """All rungs of one bracket. O(log n) and one memory move for each trial that reaches a rung.

    Args:
        reduction_factor: of successive halving, an integer >= 2.
        spare_twins: whether a twin, whose losses up to a rung are exactly those of an older trial, is kept from it: it
            has nothing new to tell, so it waits for no promotion and takes no place in the comparison.
    """

    def __init__(self, reduction_factor: int, *, spare_twins: bool = False) -> None:
        self.reduction_factor, self.spare_twins = reduction_factor, spare_twins
        self.rungs: list[Rung] = []
        self.epochs: dict[int, tuple[int, ...]] = {}  # trial -> epochs of its rungs
        self.entered: dict[int, list[Member]] = {}  # trial -> what it stands as on each rung it has reached
        self.losses: dict[int, float] = {}  # trial -> last loss
        self.passed: dict[int, list[float]] = {}  # trial -> its loss as it passed each of its rungs
        self.ended: set[int] = set()  # trials that came to an end of their own, and go no further up
        self.traces: dict[int, int] = {}  # trial -> what tells its losses so far from others
        self.eldest: list[dict[int, int]] = []  # on each rung: losses -> the trial that had them first

    def update(self, event: FoldEvent, levels: tuple[int, ...] | None = None) -> None:
        """Fold one event; `levels` are the rungs of the trial that opens."""
        match event:
            case Observed(trial=trial, step=step, loss=loss):
                self._observe(trial, step, loss if math.isfinite(loss) else math.inf)
            case Opened(trial=trial) if levels is not None:
                self.epochs.setdefault(trial, levels)
                self.entered.setdefault(trial, [])
            case Reached(trial=trial, step=step):
                self._enter(trial, step)
            case Granted(trial=trial):
                self._leave_waiting(trial)
            case Started(trial=trial, step=step) if trial in self.entered:
                self._fall_back(trial, step)
            case Ended(trial=trial, state=state) if state.ended:
                if state is State.DONE:
                    self.ended.add(trial)
                    self._complete(trial, self.losses.get(trial, math.inf))
                elif state is not State.STOPPED:
                    self._complete(trial, math.inf)
                self._leave_waiting(trial)

    def next_rung(self, trial: int, step: int) -> int | None:
        """The epochs of the first rung above `step`, or None if the horizon comes next."""
        return next((epochs for epochs in self.epochs.get(trial, ()) if epochs > step), None)

    def standing(self, trial: int) -> tuple[Rung, Member] | None:
        """The highest rung a trial has reached, and as what."""
        entered = self.entered.get(trial)
        return (self.rungs[len(entered) - 1], entered[-1]) if entered else None

    def promotable(self, rung: Rung, member: Member) -> bool:
        """Whether a member is in the top 1/reduction_factor of its rung."""
        return math.isfinite(member[0]) and rung.rank(member) < len(rung.members) // self.reduction_factor

    def _observe(self, trial: int, step: int, loss: float) -> None:
        """Remember the loss; a rung that lies behind takes the last loss at or before it."""
        passed, epochs = self.passed.setdefault(trial, []), self.epochs.get(trial, ())
        while len(passed) < len(epochs) and epochs[len(passed)] <= step:
            exact = epochs[len(passed)] == step or trial not in self.losses
            passed.append(loss if exact else self.losses[trial])
        self.losses[trial] = loss
        self.traces[trial] = hash((self.traces.get(trial), step, loss))

    def _enter(self, trial: int, step: int) -> None:
        entered, passed = self.entered.setdefault(trial, []), self.passed.get(trial, [])
        for level, epochs in enumerate(self.epochs.get(trial, ())):
            if epochs > step:
                break
            if level >= len(entered):
                self._leave_waiting(trial)
                loss = passed[level] if level < len(passed) else self.losses.get(trial, math.inf)
                self._enter_next(trial, entered, loss)

    def _enter_next(self, trial: int, entered: list[Member], loss: float) -> None:
        if len(self.rungs) == len(entered):
            self.rungs.append(Rung())
            self.eldest.append({})
        entered.append((loss, trial))
        level = len(entered) - 1
        if not self.spare_twins or self.eldest[level].setdefault(self.traces.get(trial, 0), trial) == trial:
            self.rungs[level].enter(entered[-1])

    def twin(self, trial: int) -> int | None:
        """The older trial that had exactly the same losses up to the highest rung of this one, or None."""
        level = len(self.entered.get(trial, ())) - 1
        eldest = self.eldest[level].get(self.traces.get(trial, 0), trial) if level >= 0 else trial
        return eldest if eldest != trial else None

    def _complete(self, trial: int, loss: float) -> None:
        """A run that has ended counts on the rung it was heading for, so that nobody waits for it."""
        entered = self.entered.setdefault(trial, [])
        if len(entered) < len(self.epochs.get(trial, (1,))):
            self._leave_waiting(trial)
            self._enter_next(trial, entered, loss)

    def _leave_waiting(self, trial: int) -> None:
        standing = self.standing(trial)
        if standing is not None:
            standing[0].leave(standing[1])

    def _fall_back(self, trial: int, step: int) -> None:
        entered, epochs = self.entered[trial], self.epochs[trial]
        while entered and epochs[len(entered) - 1] > step:
            self.rungs[len(entered) - 1].forget(entered.pop())
        passed = self.passed.get(trial, [])
        del passed[sum(level <= step for level in epochs) :]
        self._leave_waiting(trial)
