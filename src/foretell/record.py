"""All that is known of a study, in columns that grow with every event, so that no decision rescans history.

The record is a fold of the log: applying the same events gives the same record, whether they come live or from a store.
Members that need more than its columns keep their memory here as folds of their own (`Record.state`).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast, final, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foretell import events
from foretell._columns import Column
from foretell.checkpoint import Checkpoint
from foretell.curve import Curve
from foretell.events import Event
from foretell.objective import Objective
from foretell.space import Space
from foretell.trial import State, Trial, Verdict

ValueMode = Literal["auto", "best", "last"]


@final
@dataclass(frozen=True, slots=True)
class Observed:
    """The objective of a trial at a step, as folds see it: a loss, lower is better."""

    trial: int
    step: int
    loss: float


FoldEvent = Event | Observed


class MetricColumns(NamedTuple):
    """Every report of one metric, in the user's units and in the order they came."""

    trials: array[int]
    steps: array[int]
    values: array[float]


class Progress(NamedTuple):
    """How a study went, by report of its objective.

    Args:
        epochs: (n,) trained so far, over all trials.
        seconds: (n,) of the study's wall-clock so far.
        best: (n,) lowest loss so far; infinity before the first finite one.
    """

    epochs: NDArray[np.int64]
    seconds: NDArray[np.float64]
    best: NDArray[np.float64]


class Saving(NamedTuple):
    """What early termination saved.

    Args:
        trained: epochs trained over all trials.
        in_full: epochs if every trial that was started had been trained to its horizon.
    """

    trained: int
    in_full: int

    @property
    def share(self) -> float:
        """Of the epochs in full that were not trained, in [0, 1]."""
        return max(0.0, 1 - self.trained / self.in_full) if self.in_full else 0.0

    def __str__(self) -> str:
        return f"Early termination saved {self.share:.0%}: {self.trained:,} of {self.in_full:,} epochs were trained."


@runtime_checkable
class Fold(Protocol):
    """A frozen member with a memory: what it knows is a deterministic fold of the study's events."""

    def init(self, space: Space) -> Any:
        """The memory before the first event."""

    def update(self, state: Any, event: FoldEvent) -> Any:
        """The memory after one more event; it may change `state` in place and return it."""


@final
class Record:
    """The columns of a study. Everything is indexed by trial number.

    Args:
        space: turns configurations into rows of `encoded`.
        objective: which metric counts, and its sign.
        value: which point of a curve is a trial's value: "best", "last", or "auto", the best if weights are tracked.
        folder: where relative checkpoint folders lie.
    """

    def __init__(
        self, space: Space, objective: Objective, value: ValueMode = "auto", folder: Path | None = None
    ) -> None:
        self.space, self.objective, self.value_mode, self.folder = space, objective, value, folder or Path()
        self.clear()

    def clear(self) -> None:
        """Forget all events: the columns are empty again."""
        self.params: list[dict[str, Any]] = []
        self.states: list[State] = []
        self.curves: list[Curve] = []
        self.decisions: list[list[Verdict]] = []
        self.latest: list[dict[str, float]] = []
        self.parents: list[int | None] = []
        self.horizons: list[int | None] = []
        self.untils: list[int | None] = []
        self.can_pause: list[bool] = []
        self.tracked: list[bool] = []
        self.failures: list[int] = []
        self.errors: dict[int, str] = {}
        self.checkpoints: dict[int, dict[str, events.Saved]] = {}
        self.encoded = Column(np.float64, max(1, len(self.space)))
        self.steps: list[int] = []
        self.attempts: list[int] = []
        self.costs: list[float] = []
        self.losses = Column(np.float64)  # the loss that is the trial's value; infinity before the first
        self.metrics: dict[str, MetricColumns] = {}
        self.running: dict[int, None] = {}  # ordered sets
        self.paused: dict[int, None] = {}
        self.ready: dict[int, None] = {}  # queued, or paused by anybody but the scheduler: the next to go on
        self.counts = dict.fromkeys(State, 0)
        self.keepers: set[int] = set()  # ended trials whose best weights are on disk
        self.origins: dict[str, int] = {}
        self.epochs_spent = 0
        self.verified: events.Verified | None = None
        self.concluded: Verdict | None = None
        self.code = ""
        self.started = 0  # trials that a worker was ever given
        self._seconds_before, self._session_start, self._last_time = 0.0, math.nan, 0.0
        # One line an event: step -1 marks one that is no report, and its trial is then its place among those.
        self._log_trial, self._log_step = array("i"), array("i")
        self._log_loss, self._log_seconds, self._log_epochs = array("d"), array("d"), array("l")
        self._log_other: list[Event] = []
        self._folds: dict[Hashable, list[Any]] = {}

    # ------------------------------------------------------------------ reading

    def __len__(self) -> int:
        return len(self.params)

    def trial(self, number: int) -> Trial:
        """The trial as it stands now, frozen."""
        loss, saved = self.losses[number], self.checkpoints.get(number, {}).get("best")
        return Trial(
            number=number,
            params=dict(self.params[number]),
            state=self.states[number],
            value=self.objective.value(loss) if math.isfinite(loss) else None,
            values=dict(self.latest[number]),
            best_step=self.curves[number].best_step,
            curve=self.curves[number].snapshot(),
            step=self.steps[number],
            horizon=self.horizons[number],
            parent=self.parents[number],
            checkpoint=self.checkpoint(saved) if saved else None,
            cost=self.costs[number],
            attempts=self.attempts[number],
            decisions=tuple(self.decisions[number]),
            error=self.errors.get(number),
        )

    @property
    def trials(self) -> Trials:
        """All trials as a sequence that builds each one when it is asked for."""
        return Trials(self)

    def checkpoint(self, saved: events.Saved) -> Checkpoint:
        """The checkpoint that an event announced, with its place on this machine."""
        return Checkpoint(folder=self.folder / saved.folder, digest=saved.digest, step=saved.step)

    @property
    def best(self) -> int | None:
        """The winner: lowest loss among finished trials and those whose best weights lie on disk, or None.

        A run that was paused or stopped at a lucky low without its weights kept is no winner: nobody could use it.
        """
        losses = self.losses.array
        for number in np.argsort(losses, kind="stable").tolist():
            if not math.isfinite(losses[number]):
                return None
            if self._eligible(number):
                return int(number)
        return None

    def _eligible(self, number: int) -> bool:
        state, saved = self.states[number], self.checkpoints.get(number, {}).get("best")
        if state is State.DONE:
            return True
        kept = saved is not None and saved.step == self.curves[number].best_step
        return kept and (state is State.STOPPED or not state.ended)

    @property
    def incumbent(self) -> float:
        """The lowest loss that any trial has reached so far, or infinity."""
        return float(self.losses.array.min()) if len(self) else math.inf

    @property
    def saving(self) -> Saving:
        """What early termination saved; trials that failed before they said how long they are count as trained."""
        horizons = (horizon for horizon, attempts in zip(self.horizons, self.attempts, strict=True) if attempts)
        return Saving(self.epochs_spent, max(self.epochs_spent, sum(horizon or 0 for horizon in horizons)))

    def epochs_reserved(self) -> int:
        """Epochs that running trials may still train under their grants; one for each that has not opened yet."""
        reserved = 0
        for number in self.running:
            limit = self.limit(number)
            reserved += max(0, limit - self.steps[number]) if limit is not None else 1
        return reserved

    @property
    def in_session(self) -> bool:
        """Whether wall-clock is counted: a session began and was not concluded, be it that its process is gone."""
        return not math.isnan(self._session_start)

    @property
    def last_time(self) -> float:
        """Of the last event, on the executor's clock."""
        return self._last_time

    def seconds(self, now: float | None = None) -> float:
        """Wall-clock of the study over all its sessions, up to `now` (or to the last event)."""
        running = (self._last_time if now is None else now) - self._session_start
        return self._seconds_before + (0.0 if math.isnan(running) else max(0.0, running))

    def limit(self, number: int) -> int | None:
        """Epochs up to which the trial may train: those it was granted, or all; None if it has not said how many."""
        until = self.untils[number]
        return until if until is not None else self.horizons[number]

    def progress(self) -> Progress:
        """What every report of the objective, in the order they came, had cost and reached."""
        reports = np.array(self._log_step) >= 0
        losses = np.array(self._log_loss)[reports]
        best = np.minimum.accumulate(np.where(np.isfinite(losses), losses, np.inf)) if len(losses) else losses
        return Progress(np.array(self._log_epochs)[reports], np.array(self._log_seconds)[reports], best)

    # ------------------------------------------------------------------ folds

    def log_length(self) -> int:
        """How many events have been applied."""
        return len(self._log_trial)

    def event(self, position: int) -> FoldEvent:
        """The event at a position of the log; reports come as `Observed`."""
        step = self._log_step[position]
        if step < 0:
            return self._log_other[self._log_trial[position]]
        return Observed(self._log_trial[position], step, self._log_loss[position])

    def state(self, member: Fold) -> Any:
        """A member's memory, brought up to date with the events since it was last used; equal members share theirs."""
        key = _key(member)
        entry = self._folds.get(key)
        if entry is None:
            entry = self._folds[key] = [member, member.init(self.space), 0]
        end = self.log_length()
        while entry[2] < end:
            entry[1] = member.update(entry[1], self.event(entry[2]))
            entry[2] += 1
        return entry[1]

    # ------------------------------------------------------------------ growing

    def apply(self, event: Event, time: float) -> None:
        """Fold one event into the columns.

        Args:
            event: what happened; the log must be in order.
            time: of the executor's clock, in seconds.
        """
        if type(event) is events.SessionStarted:
            self._seconds_before, self._session_start, self._last_time = self.seconds(), time, time
        self._last_time = max(self._last_time, time)
        _APPLY[type(event)](self, event)
        if type(event) is not events.Reported:
            self._append(len(self._log_other), -1, math.nan)
            self._log_other.append(event)

    def _session_started(self, event: events.SessionStarted) -> None:
        self.code = event.code or self.code
        self.concluded = None

    def _created(self, event: events.Created) -> None:
        assert event.trial == len(self.params), "trials are numbered in the order they are made"
        self.params.append(event.params)
        self.encoded.append(self.space.encode(event.params) if len(self.space) else 0.0)
        self.states.append(State.QUEUED)
        self.counts[State.QUEUED] += 1
        self.ready[event.trial] = None
        self.curves.append(Curve())
        self.decisions.append([])
        self.latest.append({})
        self.parents.append(event.parent)
        self.horizons.append(None)
        self.untils.append(None)
        self.can_pause.append(False)
        self.tracked.append(False)
        self.failures.append(0)
        self.steps.append(0)
        self.attempts.append(0)
        self.losses.append(math.inf)
        self.costs.append(0.0)
        self.origins[event.origin] = self.origins.get(event.origin, 0) + 1

    def _started(self, event: events.Started) -> None:
        number = event.trial
        self.started += event.attempt == 1
        self.attempts[number] = event.attempt
        if event.step == 0 or event.step < self.steps[number]:  # what came after it is trained again
            self.curves[number] = self.curves[number].truncate(event.step) if event.step else Curve()
            self._revalue(number)
        self.steps[number] = event.step
        self._move(number, State.RUNNING)

    def _opened(self, event: events.Opened) -> None:
        self.horizons[event.trial] = event.horizon
        self.can_pause[event.trial] = event.can_pause
        self.tracked[event.trial] = event.tracked

    def _granted(self, event: events.Granted) -> None:
        self.untils[event.trial] = event.until
        if event.reason:
            verdict = Verdict("continue", rule="scheduler", reason=event.reason, step=self.steps[event.trial])
            self.decisions[event.trial].append(verdict)

    def _reached(self, event: events.Reached) -> None:
        self._advance(event.trial, event.step)

    def _reported(self, event: events.Reported) -> None:
        number, latest = event.trial, self.latest[event.trial]
        for name, value in event.metrics.items():
            latest[name] = value
            columns = self.metrics.get(name)
            if columns is None:
                columns = self.metrics[name] = MetricColumns(array("i"), array("i"), array("d"))
            columns.trials.append(number)
            columns.steps.append(event.step)
            columns.values.append(value)
        self._advance(number, event.step)
        objective = event.metrics.get(self.objective.metric)
        if objective is not None:
            loss = self.objective.loss(objective)
            self.curves[number].append(event.step, loss, event.seconds)
            self._append(number, event.step, loss)
            self._revalue(number)

    def _saved(self, event: events.Saved) -> None:
        kept = self.checkpoints.setdefault(event.trial, {})
        if event.newest:
            kept["newest"] = event
        if event.best:
            kept["best"] = event

    def _dropped(self, event: events.Dropped) -> None:
        kept = self.checkpoints.get(event.trial, {})
        for kind in [kind for kind, saved in kept.items() if saved.folder == event.folder]:
            del kept[kind]
        if not kept:
            self.checkpoints.pop(event.trial, None)
        if "best" not in kept:
            self.keepers.discard(event.trial)

    def _ended(self, event: events.Ended) -> None:
        number = event.trial
        self._advance(number, event.step)
        self.costs[number] += event.seconds
        if event.verdict.rule:
            self.decisions[number].append(event.verdict)
        if event.cause in ("error", "oom", "signal", "exit", "timeout"):
            self.failures[number] += 1
            self.errors[number] = event.error
        self._move(number, event.state, ready=event.state is State.PAUSED and not event.waits)
        if event.state.ended and "best" in self.checkpoints.get(number, {}):
            self.keepers.add(number)
        self._revalue(number)
        if event.state.ended and event.state not in (State.DONE, State.STOPPED):
            self.losses[number] = math.inf

    def _verified(self, event: events.Verified) -> None:
        self.verified = event

    def _concluded(self, event: events.Concluded) -> None:
        self.concluded = event.verdict
        self._seconds_before, self._session_start = self.seconds(), math.nan

    def _append(self, trial: int, step: int, loss: float) -> None:
        self._log_trial.append(trial)
        self._log_step.append(step)
        self._log_loss.append(loss)
        self._log_seconds.append(self.seconds())
        self._log_epochs.append(self.epochs_spent)

    def _advance(self, number: int, step: int) -> None:
        trained = step - self.steps[number]
        if trained > 0:
            self.epochs_spent += trained
            self.steps[number] = step

    def _revalue(self, number: int) -> None:
        curve = self.curves[number]
        loss = curve.best if self._by_best(number) or not len(curve) else curve.last.loss
        self.losses[number] = loss if math.isfinite(loss) else math.inf

    def _by_best(self, number: int) -> bool:
        """Whether the trial's value is the best of its curve, not the last."""
        return self.value_mode == "best" or (self.value_mode == "auto" and self.tracked[number])

    def _move(self, number: int, state: State, *, ready: bool = False) -> None:
        self.counts[self.states[number]] -= 1
        self.counts[state] += 1
        self.states[number] = state
        for group in (self.running, self.paused, self.ready):
            group.pop(number, None)
        if state is State.RUNNING:
            self.running[number] = None
        elif state is State.PAUSED:
            self.paused[number] = None
        if state is State.QUEUED or ready:
            self.ready[number] = None


def _key(member: Fold) -> Hashable:
    """Frozen settings that are equal are the same member; what cannot be hashed is the same only as one object."""
    try:
        hash(member)
    except TypeError:
        return id(member)
    return cast(Hashable, member)


@final
class Trials(Sequence[Trial]):
    """The trials of a record, each built when it is asked for."""

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def __len__(self) -> int:
        return len(self._record)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self._record.trial(number) for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"The study has {len(self)} trials, so there is no trial {index}.")
        return self._record.trial(index % len(self))

    def __iter__(self) -> Iterator[Trial]:
        return (self._record.trial(number) for number in range(len(self)))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in self._record.counts.items() if count)
        return f"{len(self)} trials ({counts})" if len(self) else "no trials"


_APPLY: dict[type, Callable[[Record, Any], None]] = {
    events.SessionStarted: Record._session_started,
    events.Created: Record._created,
    events.Started: Record._started,
    events.Opened: Record._opened,
    events.Granted: Record._granted,
    events.Reached: Record._reached,
    events.Reported: Record._reported,
    events.Saved: Record._saved,
    events.Dropped: Record._dropped,
    events.Ended: Record._ended,
    events.Verified: Record._verified,
    events.Concluded: Record._concluded,
}
