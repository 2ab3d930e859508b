"""The one loop: crashes, closings and fences, with the log as the only truth."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell as ft
from foretell import events
from foretell.executors import Message, Reply
from foretell.executors.replay import Recording, Replay
from foretell.record import Record
from foretell.stores.memory import MemoryStore
from foretell.study import Study
from foretell.trial import State
from tests.conformance.replayed import SPACE, Counting, Plan, conducted, decaying, log_of, plans
from tests.test_record import shown


class Crash(BaseException):
    """The process of the study is gone."""


def flat(epochs: int = 9) -> Callable[[dict[str, Any]], Recording]:
    """Each trial is worse than those before it, so that a promotion always is a resume."""
    return lambda params: Recording([1.0 + params["x"]] * epochs)


def study_of(store: MemoryStore, scheduler: Any = "full", **options: Any) -> Study:
    return Study(SPACE, minimize="m", sampler=Counting(), scheduler=scheduler, store=store, **options)


def crashed(study: Study, budget: str, replay: Replay, when: Callable[[events.Event], bool]) -> None:
    """Run until an event after which nothing more of this process is heard."""
    count = len(list(study._coordinator.journal.store.entries(study.name)))

    def observe(event: events.Event) -> None:
        if when(event):
            raise Crash

    study._watchers.append(observe)
    with pytest.raises(Crash):
        study.run(None, budget, executor=replay, progress="none")
    assert len(list(study._coordinator.journal.store.entries(study.name))) > count


def record_of(store: MemoryStore, like: Record) -> Record:
    record = Record(like.space, like.objective, like.value_mode, like.folder)
    for entry in store.entries("study"):
        record.apply(events.from_json(events.to_json(entry.event)), entry.time)
    return record


@pytest.mark.parametrize("scheduler", ["full", ft.ASHA(2, 1), ft.Hyperband(2)], ids=repr)
@settings(max_examples=15)
@given(plan=plans(horizons=(4, 9)))
def test_the_record_is_the_fold_of_the_log(scheduler: Any, plan: Plan) -> None:
    study = conducted(plan, scheduler)
    assert shown(record_of(plan.store, study.record)) == shown(study.record)


@pytest.mark.parametrize("scheduler", ["full", ft.ASHA(2, 1), ft.Hyperband(2)], ids=repr)
@settings(max_examples=15)
@given(data=st.data())
def test_a_crash_anywhere_loses_nothing_but_time(scheduler: Any, data: st.DataObject) -> None:
    store, plan = MemoryStore(), data.draw(plans(trials=8, healthy=True))

    def recording(params: dict[str, Any]) -> Recording:
        return plan.recordings[params["x"]]

    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.integers(1, 40))
        seen = iter(range(number))
        study = study_of(store, scheduler)
        study._watchers.append(lambda event, seen=seen: crash_at_the_end_of(seen))
        replay = Replay(recording, plan.workers, can_pause=plan.can_pause)
        with contextlib.suppress(Crash):
            study.run(None, plan.budget, executor=replay, progress="none")
        assert shown(record_of(store, study.record)) == shown(study.record)
    study = study_of(store, scheduler)
    study.run(None, f"{len(plan.recordings)} trials", executor=Replay(recording, 3, can_pause=plan.can_pause),
              progress="none")  # fmt: skip
    assert not study.record.running and not study.record.ready
    assert study.record.started == len(plan.recordings)
    for trial in study.trials:
        assert trial.curve.steps.tolist() == [*range(1, trial.step + 1)]
        assert trial.curve.losses.tolist() == list(plan.recordings[trial.number].values)[: trial.step]
        assert trial.state in (State.DONE, State.PAUSED, State.STOPPED)
        assert trial.state is not State.DONE or trial.step == len(plan.recordings[trial.number].values)


def crash_at_the_end_of(seen: Any) -> None:
    if next(seen, None) is None:
        raise Crash


def test_a_resume_that_crashed_on_its_way_is_made_good() -> None:
    store, scheduler = MemoryStore(), ft.ASHA(3, 1)
    replay = Replay(flat(), resume_seconds=1.0)
    crashed(study_of(store, scheduler), "9 trials", replay, lambda e: isinstance(e, events.Started) and e.step > 0)
    study_of(store, scheduler)  # opened once more, to look at
    study = study_of(store, scheduler)
    study.run(None, "9 trials", executor=Replay(flat()), progress="none")
    assert [trial.step for trial in study.trials] == [9, 3, 3, 1, 1, 1, 1, 1, 1]
    assert not study.record.ready


@pytest.mark.parametrize("seconds", [2.5, 4.0, 10.0, 17.5])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("can_pause", [True, False])
def test_wall_clock_ends_the_study_and_what_can_be_kept_is_kept(seconds: float, workers: int, can_pause: bool) -> None:
    store = MemoryStore()
    study = study_of(store)
    study.run(None, f"{seconds} s", executor=Replay(flat(), workers, can_pause=can_pause), progress="none")
    assert seconds <= study.record.seconds() <= seconds + 1.0  # one report more
    states = {trial.state for trial in study.trials}
    assert states <= {State.DONE, State.PAUSED if can_pause else State.STOPPED}
    assert study.verdict.rule == "budget" and "s is spent" in study.verdict.reason
    again = study_of(store)
    again.run(None, f"{seconds + 10} s", executor=Replay(flat(), workers, can_pause=can_pause), progress="none")
    assert seconds + 10 <= again.record.seconds() <= seconds + 12.0
    if can_pause:
        assert all(trial.step in (9, *range(9)) and trial.state is not State.STOPPED for trial in again.trials)
        assert sum(trial.state is State.DONE for trial in again.trials) >= workers


def test_seconds_while_nothing_runs_are_not_the_studys(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    crashed(study_of(store), "3 trials", Replay(flat()), lambda e: isinstance(e, events.Reported) and e.step == 4)
    study = study_of(store)
    before = study.record.seconds()
    monkeypatch.setattr("foretell._desk.time", SimpleNamespace(time=lambda: 1e9))
    study.enqueue({"x": 5})
    assert study.record.seconds() == before == 4.0
    study.run(None, "3 trials", executor=Replay(flat()), progress="none")
    assert study.record.seconds() < 100


def test_an_attempt_that_was_replaced_is_not_heard() -> None:
    store = MemoryStore()
    study = study_of(store)
    replay = Replay(flat())
    crashed(study, "1 trials", replay, lambda e: isinstance(e, events.Reported) and e.step == 4)
    answers: list[Reply] = []

    class Late:
        """An executor through which an old attempt speaks up once more."""

        slots = 1

        def __init__(self) -> None:
            self.inner = Replay(flat())
            self.spoke = False

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def open(self, work: Any, deliver: Any) -> None:
            self.inner.open(work, deliver)
            self.deliver = deliver

        def reply(self, trial: int, reply: Reply) -> None:
            if reply.verdict.rule == "fence":
                answers.append(reply)
            else:
                self.inner.reply(trial, reply)

        def wait(self, timeout: float | None) -> None:
            if not self.spoke:
                self.spoke = True
                self.deliver([Message(0, 1, events.Reported(0, 1, 5, {"m": -100.0}))])
            self.inner.wait(timeout)

    again = study_of(store)
    again.run(None, "1 trials", executor=Late(), progress="none")  # type: ignore[arg-type]
    assert len(answers) == 1 and answers[0].verdict.action == "stop"
    assert again.trials[0].state is State.DONE and -100.0 not in again.trials[0].curve.losses


def test_a_resumed_slice_outweighs_what_resuming_cost() -> None:
    store = MemoryStore()
    study = study_of(store, ft.ASHA(3, 1))
    study.run(None, "9 trials", executor=Replay(flat(27), resume_seconds=5.0), progress="none")
    log = [entry.event for entry in store.entries("study")]
    resumed = {event.trial for event in log if isinstance(event, events.Started) and event.step}
    assert resumed and all(study.trials[number].step == 27 for number in resumed)


def test_no_second_session_while_one_runs_wastes_a_trial_number() -> None:
    store = MemoryStore()
    study = study_of(store)
    for trials in (2, 5):
        study.run(None, f"{trials} trials", executor=Replay(flat()), progress="none")
    numbers = [e.event.trial for e in store.entries("study") if isinstance(e.event, events.Created)]
    assert numbers == [0, 1, 2, 3, 4] and [entry.sequence for entry in store.entries("study")] == [
        *range(len(list(store.entries("study"))))
    ]


def test_each_attempt_has_its_number() -> None:
    plan = Plan([Recording(decaying(np.random.default_rng(seed), 27)) for seed in range(20)], workers=3)
    attempts: dict[int, int] = {}
    for event in log_of(conducted(plan, ft.ASHA(3, 1)), plan):
        if isinstance(event, events.Started):
            attempts[event.trial] = attempts.get(event.trial, 0) + 1
        if hasattr(event, "attempt"):
            assert event.attempt == attempts[event.trial]
    assert max(attempts.values()) > 1
