"""What every scheduler promises, seen from the log of studies that replay random curves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell as ft
from foretell import _family, events
from foretell.budget import Budget
from foretell.context import Context
from foretell.objective import Objective
from foretell.record import Record
from foretell.schedulers import Resume, Scheduler, Start
from foretell.study import Study
from foretell.trial import State
from tests.conformance.replayed import SPACE, Plan, conducted, log_of, plans

MADE: dict[str, list[Any]] = {
    "asha": [ft.ASHA(), ft.ASHA(2, 1), ft.ASHA(3, 2), ft.ASHA(3, 1, spare_twins=False)],
    "full": [ft.Full()],
    "hyperband": [ft.Hyperband(), ft.Hyperband(2)],
}
"""Settings by member; others take their defaults."""

ALL = [
    member for name in _family.names("schedulers") for member in MADE.get(name) or [_family.load("schedulers", name)()]
]
members = pytest.mark.parametrize("member", ALL, ids=repr)
few = settings(max_examples=12)
HORIZONS = (1, 4, 9, 13)


def context_of(plan: Plan, record: Record, *, complete: bool | None = None) -> Context:
    ended = record.started >= len(plan.recordings) if complete is None else complete
    return Context(
        space=SPACE, objective=Objective("m"), budget=Budget.of(plan.budget), decision=record.log_length(),
        workers=plan.workers, complete=ended,
    )  # fmt: skip


def replayed(log: list[events.Event]) -> Record:
    record = Record(SPACE, Objective("m"))
    for event in log:
        record.apply(event, 0.0)
    return record


@members
def test_a_member_is_frozen_settings(member: Any) -> None:
    assert isinstance(member, Scheduler)
    assert replace(member) == member and hash(replace(member)) == hash(member)
    with pytest.raises(AttributeError):
        member.unheard_of = 1


@members
def test_the_first_thing_to_do_is_to_start(member: Any) -> None:
    record = Record(SPACE, Objective("m"))
    assert isinstance(member.next(record, context_of(Plan([ft.Recording([1.0])]), record)), Start)


@members
@few
@given(plan=plans(horizons=HORIZONS))
def test_every_study_ends_with_everything_in_its_bounds(member: Any, plan: Plan) -> None:
    before = repr(member)
    study = conducted(plan, member)
    record, log = study.record, log_of(study, plan)
    assert not record.running and record.started <= len(plan.recordings)
    assert record.epochs_spent <= (plan.epochs or 10**9)
    assert repr(member) == before
    states: dict[int, State] = {}
    steps: dict[int, int] = {}
    limits: dict[int, int | None] = {}
    for event in log:
        match event:
            case events.Created():
                states[event.trial] = State.QUEUED
            case events.Started():
                assert states[event.trial] in (State.QUEUED, State.PAUSED)
                states[event.trial], steps[event.trial] = State.RUNNING, event.step
            case events.Opened():
                limits.setdefault(event.trial, event.horizon)
            case events.Granted():
                horizon = len(plan.recordings[event.trial].values)
                assert event.until is None or steps[event.trial] < event.until <= horizon
                limits[event.trial] = event.until if event.until is not None else horizon
            case events.Reported():
                assert event.step <= (limits[event.trial] or 0)
                steps[event.trial] = event.step
            case events.Ended():
                states[event.trial] = event.state
                assert event.state is not State.STOPPED or not plan.can_pause


@members
@few
@given(plan=plans(horizons=HORIZONS))
def test_who_is_done_was_trained_in_full_and_who_is_stopped_could_not_be_paused(member: Any, plan: Plan) -> None:
    for trial in conducted(plan, member).trials:
        if trial.state is State.DONE:
            assert trial.step == len(plan.recordings[trial.number].values)
        if trial.state is State.STOPPED:
            assert not plan.can_pause and trial.decisions[-1].reason


@members
@few
@given(plan=plans(horizons=HORIZONS))
def test_no_worker_is_idle_while_there_is_work(member: Any, plan: Plan) -> None:
    budget = Budget.of(plan.budget)

    def look(study: Study) -> None:
        record, coordinator = study.record, study._coordinator
        if coordinator.closing.stop or len(record.running) == plan.workers:
            return
        left = budget.epochs is None or budget.epochs - record.epochs_spent - record.epochs_reserved() >= 1
        waiting = [
            number for number in record.ready if record.attempts[number] or record.started < (budget.trials or 0)
        ]
        assert not (left and waiting), "a trial is ready and a worker is free"
        action = member.next(record, context_of(plan, record))
        room = record.started < (budget.trials or 0)
        assert not (left and (isinstance(action, Resume) or (isinstance(action, Start) and room))), action

    study = conducted(plan, member, look)
    if plan.epochs is None and study.verdict.rule != "failures":
        assert study.record.started == len(plan.recordings)
        assert not isinstance(member.next(study.record, context_of(plan, study.record)), Resume)
        assert not study.record.ready


@members
@few
@given(plan=plans(horizons=HORIZONS))
def test_the_same_study_again_is_the_same(member: Any, plan: Plan) -> None:
    logs = []
    for _ in range(2):
        again = replace(plan, store=type(plan.store)())
        logs.append([repr(event) for event in log_of(conducted(again, member), again)][1:])
    assert logs[0] == logs[1]


@members
@few
@given(plan=plans(horizons=HORIZONS), data=st.data())
def test_memory_event_by_event_is_memory_from_scratch(member: Any, plan: Plan, data: st.DataObject) -> None:
    log = log_of(conducted(plan, member), plan)
    often, cuts = replace(member), data.draw(st.sets(st.integers(1, len(log)), max_size=8))
    live = Record(SPACE, Objective("m"))
    for count, event in enumerate(log, 1):
        live.apply(event, 0.0)
        ours = decisions(often, live, event, plan)
        if count in cuts or count == len(log):
            text = [events.from_json(json.loads(json.dumps(events.to_json(past)))) for past in log[:count]]
            assert repr(decisions(replace(member), replayed(text), event, plan)) == repr(ours)


def decisions(member: Any, record: Record, event: events.Event, plan: Plan) -> list[Any]:
    """What the scheduler would do now; grants are asked for where a training opens or has used up its own."""
    context = context_of(plan, record)
    asked = isinstance(event, events.Opened | events.Reached) and record.states[event.trial] is State.RUNNING
    grant = [member.grant(event.trial, record, context)] if asked else []
    return [member.next(record, context), *grant]


@members
@few
@given(plan=plans(horizons=HORIZONS, healthy=True), data=st.data())
def test_a_study_broken_off_goes_on_to_the_same_promise(member: Any, plan: Plan, data: st.DataObject) -> None:
    """Whatever epochs budget cut it short, the next session leaves nothing behind that was promised more."""
    plan = replace(plan, epochs=data.draw(st.integers(1, 60)), can_pause=True)
    conducted(plan, member)
    study = conducted(replace(plan, epochs=None), member)
    record = study.record
    assert record.started == len(plan.recordings) and not record.running and not record.ready
    assert not isinstance(member.next(record, context_of(plan, record)), Resume)
    rungs = {step for _, step in granted(log_of(study, plan), plan)}
    for number in record.paused:  # it waits where a decision fell, not where the budget happened to end
        assert record.steps[number] in rungs and study.trials[number].decisions[-1].rule not in ("budget", "recovery")


def granted(log: list[events.Event], plan: Plan) -> list[tuple[int, int]]:
    """(trial, until) of each grant."""
    horizon = {number: len(recording.values) for number, recording in enumerate(plan.recordings)}
    return [(e.trial, horizon[e.trial] if e.until is None else e.until) for e in log if isinstance(e, events.Granted)]


@members
def test_runs_that_cannot_be_paused_are_stopped_or_finished(member: Any) -> None:
    rng_losses = [[1.0 - number / 20] * 9 for number in range(12)]
    plan = Plan([ft.Recording(losses) for losses in rng_losses], workers=3, can_pause=False)
    study = conducted(plan, member)
    assert {trial.state for trial in study.trials} <= {State.DONE, State.STOPPED}
    assert any(trial.state is State.DONE for trial in study.trials)


@members
def test_all_runs_diverge(member: Any) -> None:
    plan = Plan([ft.Recording([1.0, float("nan"), 1.0])] * 7, workers=3)
    study = conducted(plan, member)
    assert study.record.counts[State.DIVERGED] + study.record.counts[State.PAUSED] == 7
    assert study.record.started == 7


@members
def test_an_exhausted_sampler_ends_the_study_after_its_promises_are_kept(member: Any) -> None:
    for workers in (1, 4):
        study = Study(ft.Space(x=ft.Int(1, 9)), maximize="m", sampler="grid_search", scheduler=member)
        study.run(None, executor=ft.Replay(lambda p: ft.Recording([p["x"]] * 9), workers), progress="none")
        record = study.record
        assert len(record) == 9 and study.verdict.stop and not record.ready
        ended = Context(space=study.space, objective=study.objective, workers=workers, complete=True)
        assert not isinstance(member.next(record, ended), Resume)
