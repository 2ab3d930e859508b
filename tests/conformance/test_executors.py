"""What every executor promises to the coordinator: the same training, the same messages."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell import _family, events
from foretell.executors import Executor, Lost, Message, Reply, Task, Work
from foretell.executors.replay import Recording, Replay
from foretell.objective import Objective
from foretell.run import Run
from foretell.trial import CONTINUE, State, Verdict

VALUES = [3.0, 2.0, 2.5, 1.0]
GO = Reply(None)
PAUSE = Reply(None, Verdict("pause", "asha", "later"))
STOP = Reply(None, Verdict("stop", "asha", "enough"))


def train(run: Run) -> None:
    """Four epochs of a model that counts them."""
    model = {"w": np.zeros(2)}
    run.track(model=model)
    for epoch in run.epochs(4):
        model["w"] += 1
        if run.params.get("fails_at") == epoch + 1:
            raise RuntimeError("recorded crash")
        run.report(m=run.params.get("values", VALUES)[epoch], w=model["w"][0])


def recording(params: dict[str, Any]) -> Recording:
    values = params.get("values", VALUES)
    return Recording(values, 0.5, {"w": [1.0, 2.0, 3.0, 4.0]}, fails_at=params.get("fails_at"))


MAKE: dict[str, Callable[[], Any]] = {
    "inline": _family.load("executors", "inline"),
    "processes": functools.partial(_family.load("executors", "processes"), 1),
    "replay": lambda: Replay(recording),
}
"""How each member is made with one worker; a new one is a line here."""
OURS = [name for name in _family.names("executors") if name in MAKE]
executors = pytest.mark.parametrize("name", OURS)
live = pytest.mark.parametrize("name", [name for name in OURS if name != "replay"])  # those that call the function


class Stand:
    """Stands in for the coordinator: writes down what is said, and answers as told."""

    def __init__(self, executor: Any, answer: Callable[[Any], Reply] = lambda event: GO) -> None:
        self.executor, self.answer = executor, answer
        self.said: list[Any] = []
        self.numbers: list[tuple[int, int]] = []

    def deliver(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.said.append(message.event)
            self.numbers.append((message.trial, message.attempt))
            if not isinstance(message.event, Lost):
                self.executor.reply(message.trial, self.answer(message.event))

    def attempt(self, task: Task) -> list[Any]:
        """One attempt, to its end."""
        begin = len(self.said)
        self.executor.submit(task)
        for _ in range(2000):
            if len(self.said) > begin and isinstance(self.said[-1], events.Ended | Lost):
                return self.said[begin:]
            self.executor.wait(0.5)
        raise AssertionError(f"the attempt does not end: {self.said[begin:]}")


@pytest.fixture
def stand(name: str) -> Iterator[Callable[..., Stand]]:
    opened: list[Any] = []

    def make(answer: Callable[[Any], Reply] = lambda event: GO, function: Any = train, stopping: Any = None) -> Stand:
        executor = MAKE[name]()
        opened.append(executor)
        found = Stand(executor, answer)
        executor.open(Work(function, Objective("m"), stopping), found.deliver)
        return found

    yield make
    for executor in opened:
        executor.close()


def task(folder: Path, trial: int = 3, attempt: int = 2, **changes: Any) -> Task:
    return Task(**{"trial": trial, "attempt": attempt, "params": {}, "seed": 1, "folder": str(folder), **changes})


def kinds(said: list[Any]) -> list[str]:
    """What was said, without the checkpoints that nobody asked for."""
    return [type(event).__name__ for event in said if not isinstance(event, events.Saved)]


def by_slice(length: int) -> Callable[[Any], Reply]:
    """Grants one slice more each time it is asked."""

    def answer(event: Any) -> Reply:
        asks = isinstance(event, events.Opened | events.Reached)
        return Reply(-(-(event.step + asks) // length) * length) if hasattr(event, "step") else GO

    return answer


def test_every_member_is_tested() -> None:
    assert set(_family.names("executors")) <= set(MAKE), "say in MAKE how it is made with one worker"


@executors
def test_it_is_an_executor_with_slots_and_a_clock(name: str, stand: Callable[..., Stand]) -> None:
    executor = stand().executor
    assert isinstance(executor, Executor) and executor.slots == 1
    before = executor.now()
    executor.wait(0.0)
    assert executor.now() >= before


@executors
def test_a_training_says_what_happens_in_order(name: str, stand: Callable[..., Stand], tmp_path: Path) -> None:
    told = stand()
    said = told.attempt(task(tmp_path))
    assert kinds(said) == ["Opened", *["Reported"] * 4, "Ended"]
    assert set(told.numbers) == {(3, 2)}
    opened, ended = said[0], said[-1]
    assert (opened.horizon, opened.can_pause, opened.tracked, opened.step) == (4, True, True, 0)
    reports = [event for event in said if isinstance(event, events.Reported)]
    assert [event.step for event in reports] == [1, 2, 3, 4]
    assert [event.metrics for event in reports] == [{"m": v, "w": float(k)} for k, v in enumerate(VALUES, 1)]
    assert sorted(event.seconds for event in reports) == [event.seconds for event in reports]
    assert (ended.state, ended.step, ended.verdict, ended.cause) == (State.DONE, 4, CONTINUE, "")


@executors
def test_a_slice_that_is_used_up_is_asked_about(name: str, stand: Callable[..., Stand], tmp_path: Path) -> None:
    said = stand(by_slice(2)).attempt(task(tmp_path))
    assert kinds(said) == ["Opened", "Reported", "Reported", "Reached", "Reported", "Reported", "Ended"]
    assert next(event for event in said if isinstance(event, events.Reached)).step == 2


@executors
def test_a_pause_saves_everything_and_another_attempt_goes_on(
    name: str, stand: Callable[..., Stand], tmp_path: Path
) -> None:
    told = stand(lambda event: PAUSE if isinstance(event, events.Reached) else Reply(2))
    said = told.attempt(task(tmp_path))
    assert [*map(type, said[-3:])] == [events.Reached, events.Saved, events.Ended]
    saved, ended = said[-2:]
    assert saved.newest and saved.step == 2 and (ended.state, ended.step) == (State.PAUSED, 2)
    assert ended.verdict.action == "pause" and ended.verdict.rule == "asha"
    told.answer = lambda event: GO
    place = (str(tmp_path / "checkpoints" / saved.folder), saved.digest, saved.step)
    resumed = task(tmp_path, attempt=3, restore={"newest": place, "best": place}, curve=[(1, 3.0, 0.5), (2, 2.0, 1.0)])
    said = told.attempt(resumed)
    assert kinds(said) == ["Opened", "Reported", "Reported", "Ended"]
    assert said[0].step == 2 and [event.metrics["w"] for event in said if isinstance(event, events.Reported)] == [
        3.0,
        4.0,
    ]
    assert said[-1].state is State.DONE and said[-1].step == 4


@executors
@pytest.mark.parametrize("answer", [PAUSE, STOP], ids=["pause", "stop"])
def test_what_is_answered_to_a_report_ends_the_run_after_its_epoch(
    name: str, stand: Callable[..., Stand], tmp_path: Path, answer: Reply
) -> None:
    said = stand(lambda event: answer if isinstance(event, events.Reported) and event.step == 2 else GO).attempt(
        task(tmp_path)
    )
    assert kinds(said) == ["Opened", "Reported", "Reported", "Ended"]
    assert said[-1].state is (State.PAUSED if answer is PAUSE else State.STOPPED) and said[-1].step == 2


@executors
@pytest.mark.parametrize("answer", [PAUSE, STOP], ids=["pause", "stop"])
def test_a_training_that_is_complete_cannot_be_cut_short(
    name: str, stand: Callable[..., Stand], tmp_path: Path, answer: Reply
) -> None:
    said = stand(lambda event: answer if isinstance(event, events.Reported) and event.step == 4 else GO).attempt(
        task(tmp_path)
    )
    assert (said[-1].state, said[-1].step) == (State.DONE, 4)


@executors
@pytest.mark.parametrize("answer", [GO, PAUSE], ids=["go", "pause"])
def test_a_value_that_is_not_finite_is_an_outcome(
    name: str, stand: Callable[..., Stand], tmp_path: Path, answer: Reply
) -> None:
    told = stand(lambda event: answer if isinstance(event, events.Reported) and event.step == 2 else GO)
    said = told.attempt(task(tmp_path, params={"values": [1.0, float("nan"), 1.0, 1.0]}))
    assert kinds(said) == ["Opened", "Reported", "Reported", "Ended"]
    assert said[-1].state is State.DIVERGED and said[-1].verdict.rule == "diverged" and said[-1].cause == ""


@executors
def test_a_crash_is_an_outcome_with_its_cause(name: str, stand: Callable[..., Stand], tmp_path: Path) -> None:
    told = stand()
    last = told.attempt(task(tmp_path, params={"fails_at": 3}))[-1]
    assert last.cause == "error"
    assert "recorded crash" in (last.detail if isinstance(last, Lost) else last.error)
    assert kinds(told.attempt(task(tmp_path / "other", trial=4)))[-1] == "Ended"  # the executor lives on


@executors
def test_a_rule_of_the_run_ends_it_by_itself(name: str, stand: Callable[..., Stand], tmp_path: Path) -> None:
    said = stand(stopping=ft.Threshold(2.0)).attempt(task(tmp_path))
    assert kinds(said) == ["Opened", "Reported", "Reported", "Ended"]
    assert said[-1].state is State.DONE and said[-1].verdict.rule == "threshold" and said[-1].step == 2


@executors
def test_trainings_follow_one_another(name: str, stand: Callable[..., Stand], tmp_path: Path) -> None:
    told = stand()
    for trial in range(3):
        said = told.attempt(task(tmp_path / str(trial), trial=trial, attempt=1))
        assert said[-1].state is State.DONE and said[-1].trial == trial


# ---------------------------------------------------------------------- those that call the user's function


def exits(run: Run) -> None:
    sys.exit(3)


def silent(run: Run) -> None:
    run.report(mm=1.0)


def returns(run: Run) -> float:
    return 0.25


def random_numbers(run: Run) -> float:
    run.report(own=run.rng.random(), numpy=np.random.random(), seed=run.seed % 1000)
    return 0.5


@live
@pytest.mark.parametrize(
    ("function", "cause", "text"),
    [
        (exits, "exit", "sys.exit(3)"),
        (silent, "error", "Did you mean 'mm'?"),
        (functools.partial(exits), "exit", "exit"),
    ],
    ids=["exit", "silent", "partial"],
)
def test_other_ways_to_fail(
    name: str, stand: Callable[..., Stand], tmp_path: Path, function: Any, cause: str, text: str
) -> None:
    last = stand(function=function).attempt(task(tmp_path))[-1]
    assert isinstance(last, events.Ended) and last.state is State.FAILED and last.cause == cause and text in last.error


@live
def test_a_returned_number_is_a_curve_of_one_point(name: str, stand: Callable[..., Stand], tmp_path: Path) -> None:
    said = stand(function=returns).attempt(task(tmp_path))
    assert kinds(said) == ["Opened", "Reported", "Ended"]
    assert said[0].horizon is None and said[1].metrics == {"m": 0.25} and said[1].step == 1


@live
def test_a_retry_has_the_random_numbers_of_the_first(name: str, stand: Callable[..., Stand], tmp_path: Path) -> None:
    told = stand(function=random_numbers)
    first, second, other = (
        told.attempt(task(tmp_path, attempt=number, seed=seed)) for number, seed in ((1, 7), (2, 7), (3, 8))
    )
    assert first[1].metrics == second[1].metrics != other[1].metrics
