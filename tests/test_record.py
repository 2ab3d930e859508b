"""The record is a fold of the log: live, from JSON and recounted by hand it is the same."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import events
from foretell.curve import Curve
from foretell.objective import Objective
from foretell.record import FoldEvent, Observed, Record
from foretell.space import Float, Space
from foretell.trial import State, Verdict

SPACE = Space(x=Float(0, 1))
VALUES = st.floats(-10, 10) | st.sampled_from([math.nan, math.inf])
Log = list[tuple[float, events.Event]]


@dataclass
class Sketch:
    """What the generator has to know of a trial to write a log that could have happened."""

    state: State = State.QUEUED
    attempt: int = 0
    step: int = 0
    horizon: int = 0
    until: int = 0
    last: int = -1  # step of the last report of the objective
    newest: int | None = None


def write(log: Log, clock: list[float], event: events.Event) -> None:
    clock[0] += 0.5
    log.append((clock[0], event))


def start(draw: Any, number: int, trial: Sketch) -> list[events.Event]:
    trial.attempt, trial.state = trial.attempt + 1, State.RUNNING
    trial.step = trial.newest or 0
    trial.last = min(trial.last, trial.step) if trial.newest else -1
    trial.horizon = trial.horizon or draw(st.integers(1, 9))
    trial.until = max(trial.until, draw(st.integers(trial.step, trial.horizon)))
    opened = events.Opened(number, trial.attempt, trial.horizon, draw(st.booleans()), draw(st.booleans()), trial.step)
    granted = events.Granted(number, trial.attempt, trial.until, draw(st.sampled_from(["", "first"])))
    return [events.Started(number, trial.attempt, trial.step), opened, granted]


def train(draw: Any, number: int, trial: Sketch) -> list[events.Event]:
    if trial.step >= trial.horizon:
        return []
    trial.step += 1
    metrics = {name: draw(VALUES) for name in draw(st.sets(st.sampled_from(["loss", "other"])))}
    trial.last = trial.step if "loss" in metrics else trial.last
    seconds = float(trial.step)
    spoken = [events.Reported(number, trial.attempt, trial.step, metrics, seconds)] if metrics else []
    return [*spoken, events.Reached(number, trial.attempt, trial.step)]


def save(draw: Any, number: int, trial: Sketch) -> list[events.Event]:
    trial.newest = trial.step
    folder = f"{number}-{trial.attempt}-{trial.step}-{draw(st.integers(0, 9))}"
    return [events.Saved(number, trial.attempt, trial.step, folder, "d", True, draw(st.booleans()), 0.1)]


def end(draw: Any, number: int, trial: Sketch) -> list[events.Event]:
    paused, queued = [State.PAUSED] * 3, [State.QUEUED] * 2
    finals = [State.DONE, State.STOPPED, State.DIVERGED, State.FAILED, State.CANCELLED]
    trial.state = draw(st.sampled_from([*finals, *paused, *queued]))
    before = save(draw, number, trial) if trial.state is State.PAUSED else []
    cause = draw(st.sampled_from(["error", "oom", "lost"])) if trial.state in (State.FAILED, State.QUEUED) else ""
    verdict = draw(st.sampled_from([Verdict(), Verdict("stop", "patience", "enough", step=trial.step)]))
    seconds = draw(st.floats(0, 9))
    ended = events.Ended(number, trial.attempt, trial.state, trial.step, seconds, verdict, cause, cause)
    return [*before, ended]


@st.composite
def logs(draw: Any) -> Log:
    """Logs that a study could have written: crashes, resumes, retries, several metrics, several sessions."""
    log: Log = []
    clock, trials = [0.0], list[Sketch]()
    write(log, clock, events.SessionStarted(1, "c"))
    for _ in range(draw(st.integers(0, 50))):
        kind = draw(st.sampled_from(["create", "start", "train", "train", "train", "train", "save", "end"]))
        running = [number for number, trial in enumerate(trials) if trial.state is State.RUNNING]
        waiting = [n for n, trial in enumerate(trials) if trial.state in (State.QUEUED, State.PAUSED)]
        if kind == "create" or not trials:
            new = [events.Created(len(trials), {"x": draw(st.floats(0, 1))}, None, draw(st.sampled_from(["a", "b"])))]
            trials.append(Sketch())
        elif kind == "start":
            new = start(draw, number, trials[number]) if (number := _one(draw, waiting)) is not None else []
        else:
            step = {"train": train, "save": save, "end": end}[kind]
            new = step(draw, number, trials[number]) if (number := _one(draw, running)) is not None else []
        for event in new:
            write(log, clock, event)
    if draw(st.booleans()):
        write(log, clock, events.Concluded(Verdict("stop", "budget", "spent")))
    return log


def _one(draw: Any, numbers: list[int]) -> int | None:
    return draw(st.sampled_from(numbers)) if numbers else None


def record_of(log: Log, value: Any = "auto") -> Record:
    record = Record(SPACE, Objective("loss"), value)
    for time, event in log:
        record.apply(event, time)
    return record


def shown(record: Record) -> dict[str, Any]:
    """Everything a record knows that anybody may read, as text, so that NaN equals NaN."""
    names = [name for name in vars(record) if not name.startswith("_") and name not in ("space", "objective", "folder")]
    parts = {name: getattr(record, name) for name in names}
    parts["curves"] = [list(curve) for curve in record.curves]
    for name in ("encoded", "losses"):
        parts[name] = getattr(record, name).array.tolist()
    parts |= {"best": record.best, "seconds": record.seconds(), "reserved": record.epochs_reserved()}
    parts |= {"log": [record.event(position) for position in range(record.log_length())]}
    return {name: repr(part) for name, part in parts.items()}


@given(logs())
def test_live_and_from_json_are_the_same(log: Log) -> None:
    again = [(time, events.from_json(json.loads(json.dumps(events.to_json(event))))) for time, event in log]
    assert shown(record_of(again)) == shown(record_of(log))


@given(logs())
def test_counters_are_what_a_recount_gives(log: Log) -> None:
    record, steps, spent, attempts, started = record_of(log), {}, 0, Counter[int](), 0
    costs, origins, failures = Counter[int](), Counter[str](), Counter[int]()
    states: dict[int, State] = {}
    reports: dict[str, list[tuple[int, int, str]]] = {}
    for _, event in log:
        match event:
            case events.Created():
                states[event.trial], steps[event.trial] = State.QUEUED, 0
                origins[event.origin] += 1
            case events.Started():
                states[event.trial], steps[event.trial] = State.RUNNING, event.step
                started += attempts[event.trial] == 0
                attempts[event.trial] += 1
            case events.Reported() | events.Reached():
                spent += max(0, event.step - steps[event.trial])
                steps[event.trial] = max(event.step, steps[event.trial])
                for name, value in getattr(event, "metrics", {}).items():
                    reports.setdefault(name, []).append((event.trial, event.step, repr(value)))
            case events.Ended():
                states[event.trial] = event.state
                costs[event.trial] += event.seconds
                failures[event.trial] += event.cause in ("error", "oom")
    assert record.epochs_spent == spent
    assert record.steps == [steps[number] for number in range(len(record))]
    assert record.states == [states[number] for number in range(len(record))]
    assert record.counts == {state: list(states.values()).count(state) for state in State}
    assert set(record.running) == {n for n, state in states.items() if state is State.RUNNING}
    assert set(record.paused) == {n for n, state in states.items() if state is State.PAUSED}
    assert record.started == started and record.attempts == [attempts[n] for n in range(len(record))]
    assert record.origins == origins and record.failures == [failures[n] for n in range(len(record))]
    assert record.costs == [costs[n] for n in range(len(record))]
    columns = {name: [*zip(c.trials, c.steps, map(repr, c.values), strict=True)] for name, c in record.metrics.items()}
    assert columns == reports
    assert len(record.trials) == len(record) and [t.number for t in record.trials] == [*range(len(record))]


@given(logs(), st.sampled_from(["auto", "best", "last"]))
def test_the_value_of_a_trial_is_a_point_of_what_it_has_behind_it(log: Log, mode: Any) -> None:
    record = record_of(log, mode)
    for number, trial in enumerate(record.trials):
        curve = Curve()
        for _, event in log:
            if isinstance(event, events.Started) and event.trial == number:
                curve = curve.truncate(event.step)
            if isinstance(event, events.Reported) and event.trial == number and "loss" in event.metrics:
                curve.append(event.step, event.metrics["loss"], event.seconds)
        assert repr(list(trial.curve)) == repr(list(curve))
        best = mode == "best" or (mode == "auto" and record.tracked[number])
        loss = curve.best if best else curve[-1].loss if len(curve) else math.inf
        lost = trial.state in (State.DIVERGED, State.FAILED, State.CANCELLED)
        assert trial.value == (loss if math.isfinite(loss) and not lost else None)


@given(logs())
def test_the_winner_is_one_that_can_be_used(log: Log) -> None:
    record = record_of(log)
    usable = []
    for number, trial in enumerate(record.trials):
        kept = record.checkpoints.get(number, {}).get("best")
        held = kept is not None and kept.step == trial.best_step
        live = trial.state in (State.STOPPED, State.PAUSED, State.RUNNING, State.QUEUED)
        if trial.value is not None and (trial.state is State.DONE or (live and held)):
            usable.append((trial.value, number))
    assert record.best == (min(usable)[1] if usable else None)


@given(logs())
def test_progress_counts_every_epoch_once_it_is_trained(log: Log) -> None:
    record, spent, steps, expected, best = record_of(log), 0, {}, [], math.inf
    for _, event in log:
        if isinstance(event, events.Created | events.Started):
            steps[event.trial] = getattr(event, "step", 0)
        if isinstance(event, events.Reached | events.Reported):
            spent, steps[event.trial] = spent + max(0, event.step - steps[event.trial]), event.step
        if isinstance(event, events.Reported) and "loss" in event.metrics:
            loss = event.metrics["loss"]
            best = min(best, loss) if math.isfinite(loss) else best
            expected.append((spent, best))
    progress = record.progress()
    assert [*zip(progress.epochs.tolist(), progress.best.tolist(), strict=True)] == expected


class Tape:
    """A member whose memory is everything it was shown."""

    def init(self, space: Space) -> list[FoldEvent]:
        return []

    def update(self, state: list[FoldEvent], event: FoldEvent) -> list[FoldEvent]:
        return [*state, event]


@settings(max_examples=20)
@given(logs(), st.data())
def test_a_memory_is_the_fold_of_every_event_whenever_it_is_asked_for(log: Log, data: st.DataObject) -> None:
    expected: list[FoldEvent] = []
    often, seldom = Tape(), Tape()
    record = Record(SPACE, Objective("loss", "maximize"))
    for time, event in log:
        record.apply(event, time)
        if not isinstance(event, events.Reported):
            expected.append(event)
        elif "loss" in event.metrics:
            expected.append(Observed(event.trial, event.step, -event.metrics["loss"]))
        assert repr(record.state(often)) == repr(expected)
        if data.draw(st.booleans()):
            assert repr(record.state(seldom)) == repr(expected)
    assert repr(record.state(Tape())) == repr(expected)
    assert record.log_length() == len(expected)


def running(*reports: float, horizon: int = 9) -> Record:
    """One trial that has reported these values."""
    opened = events.Opened(0, 1, horizon, True, True)
    begun = [events.Created(0, {"x": 0.5}), events.Started(0, 1), opened, events.Granted(0, 1, None)]
    record = record_of([(0.0, event) for event in begun])
    for step, value in enumerate(reports, 1):
        record.apply(events.Reported(0, 1, step, {"loss": value}, float(step)), float(step))
    return record


def test_epochs_trained_again_after_a_crash_are_spent_again() -> None:
    record = running(3.0, 2.0, 1.0)
    record.apply(events.Ended(0, 1, State.QUEUED, 3, cause="error", error="boom"), 4.0)
    record.apply(events.Started(0, 2), 5.0)
    assert len(record.curves[0]) == 0 and record.trial(0).value is None
    record.apply(events.Reported(0, 2, 1, {"loss": 5.0}), 6.0)
    assert record.epochs_spent == 4 and record.trial(0).value == 5.0


def test_a_start_from_scratch_has_nothing_behind_it_not_even_step_0() -> None:
    record = running()
    record.apply(events.Reported(0, 1, 0, {"loss": 1.0}), 0.5)
    record.apply(events.Ended(0, 1, State.QUEUED, 0, cause="error"), 1.0)
    record.apply(events.Started(0, 2), 2.0)
    assert len(record.curves[0]) == 0


def test_a_trial_is_frozen_as_of_the_moment_it_is_asked_for() -> None:
    record = running(3.0)
    trial = record.trial(0)
    record.apply(events.Reported(0, 1, 2, {"loss": 1.0}), 2.0)
    assert (trial.value, trial.step, len(trial.curve), trial.curve.best) == (3.0, 1, 1, 3.0)


def test_a_low_whose_weights_were_not_kept_is_no_result() -> None:
    record = running(0.9)
    record.apply(events.Saved(0, 1, 1, "f", "d", True, True), 1.0)
    assert record.best == 0
    record.apply(events.Reported(0, 1, 2, {"loss": 0.1}), 2.0)  # better, but only in memory
    assert record.best is None


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
def test_only_a_finished_trial_can_win_without_a_checkpoint(state: State) -> None:
    record = running(0.5)
    record.apply(events.Ended(0, 1, state, 1), 1.0)
    assert (record.best == 0) == (state is State.DONE)


def test_wall_clock_is_that_of_the_sessions() -> None:
    record = record_of([(100.0, events.SessionStarted(1)), (130.0, events.Created(0, {"x": 0.5})),
                        (140.0, events.Concluded(Verdict("stop", "budget", "spent")))])  # fmt: skip
    assert record.seconds() == 40.0
    record.apply(events.Created(1, {"x": 0.5}), 9000.0)  # enqueued while nothing runs
    assert record.seconds() == record.seconds(9500.0) == 40.0
    record.apply(events.SessionStarted(2), 5.0)  # the clock of another executor
    assert record.seconds(15.0) == 50.0


def test_epochs_are_reserved_until_they_are_trained() -> None:
    record = record_of([(0.0, events.Created(0, {"x": 0.5})), (0.0, events.Started(0, 1))])
    assert record.epochs_reserved() == 1
    record.apply(events.Opened(0, 1, 9, True, True), 0.0)
    assert record.epochs_reserved() == 9
    record.apply(events.Granted(0, 1, 4), 0.0)
    record.apply(events.Reported(0, 1, 1, {"loss": 1.0}), 1.0)
    assert record.epochs_reserved() == 3
    record.apply(events.Ended(0, 1, State.DONE, 1), 1.0)
    assert record.epochs_reserved() == 0


def test_trials_are_a_sequence() -> None:
    trials = record_of([(0.0, events.Created(number, {"x": 0.5})) for number in range(3)]).trials
    assert trials[-1].number == 2 and [trial.number for trial in trials[1:]] == [1, 2]
    assert repr(trials) == "3 trials (3 queued)"
    with pytest.raises(IndexError, match="3 trials, so there is no trial 3"):
        trials[3]


def test_a_checkpoint_that_was_dropped_is_forgotten() -> None:
    record = running(0.9)
    record.apply(events.Saved(0, 1, 1, "f", "d", True, True), 1.0)
    record.apply(events.Dropped(0, "other"), 1.0)
    assert record.checkpoints[0].keys() == {"newest", "best"}
    record.apply(events.Dropped(0, "f"), 1.0)
    assert 0 not in record.checkpoints and record.trial(0).checkpoint is None
