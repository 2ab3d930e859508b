"""What is special to the adaptation of a covariance matrix: what it learns from, and what it leaves to others."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from foretell import _family, events
from foretell.context import Context
from foretell.errors import MissingExtra, SpaceError, StudyError
from foretell.objective import Objective
from foretell.record import Record
from foretell.samplers import Belief
from foretell.space import Choice, Float, Int, Space
from foretell.trial import State
from tests.conftest import needs

needs("cmaes")
CMAES = _family.load("samplers", "cmaes")

VALLEY = Space({f"x{i}": Float(-2, 3) for i in range(4)})
MIXED = Space(
    x=Float(0, 1),
    n=Int(1, 64),
    kind=Choice({"a": {"inner": Float(0, 1)}, "b": {}}),
    size=Choice([1, 2, 4], ordered=True),
)

Outcome = float | State


def propose(member: Any, record: Record, seed: int = 0) -> dict[str, Any]:
    context = Context(space=record.space, objective=record.objective, seed=seed, decision=record.log_length())
    return dict(member.suggest(record, context))


def begin(record: Record, params: dict[str, Any], tracked: bool = False) -> int:
    number = len(record)
    record.apply(events.Created(number, params), 0.0)
    record.apply(events.Started(number, 1), 0.0)
    record.apply(events.Opened(number, 1, 3, True, tracked), 0.0)
    return number


def finish(record: Record, number: int, outcome: Outcome | list[float], state: State = State.DONE) -> None:
    losses = [] if isinstance(outcome, State) else outcome if isinstance(outcome, list) else [outcome]
    for step, loss in enumerate(losses, 1):
        record.apply(events.Reported(number, 1, step, {"m": loss}), 0.0)
    record.apply(events.Ended(number, 1, outcome if isinstance(outcome, State) else state, len(losses)), 0.0)


def searched(
    member: Any,
    space: Space,
    loss: Callable[[dict[str, Any]], Outcome],
    trials: int,
    *,
    seed: int = 0,
    workers: int = 1,
) -> Record:
    record, rng = Record(space, Objective("m")), np.random.default_rng(seed)
    running: list[int] = []
    while len(record) < trials:
        running.append(begin(record, propose(member, record, seed)))
        if len(running) == workers:
            number = running.pop(int(rng.integers(workers)))
            finish(record, number, loss(record.params[number]))
    return record


def rosenbrock(params: dict[str, Any]) -> float:
    x = np.array(list(params.values()))
    return float((10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def best(record: Record) -> float:
    return float(record.losses.array.min())


@pytest.mark.parametrize(("workers", "reached"), [(1, 0.02), (8, 0.2)])  # random search reaches 3
def test_a_bent_valley_is_followed(workers: int, reached: float) -> None:
    found = [best(searched(CMAES(), VALLEY, rosenbrock, 400, seed=seed, workers=workers)) for seed in range(3)]
    assert np.median(found) < reached


def test_numbers_choices_and_branches_together() -> None:
    def loss(params: dict[str, Any]) -> float:
        inner = abs(params["inner"] - 0.8) if params["kind"] == "a" else 1.0
        return float(abs(params["x"] - 0.3) + abs(params["n"] - 40) / 64 + inner + (params["size"] != 2))

    record = searched(CMAES(), MIXED, loss, 250)
    assert best(record) < 0.05
    late = record.params[150:]
    assert np.mean([params["kind"] == "a" for params in late]) > 0.8


def test_a_space_without_numbers_is_searched_by_its_best_trials() -> None:
    space = Space({f"c{i}": Choice(["a", "b", "c", "d"]) for i in range(4)})
    record = searched(CMAES(), space, lambda params: sum(value != "b" for value in params.values()), 80)
    assert best(record) == 0


def test_constraints_hold() -> None:
    space = Space(x=Float(0, 1), y=Float(0, 1), constraints="x + y <= 0.6")
    record = searched(CMAES(), space, lambda params: -params["x"] - 0.5 * params["y"], 120)
    assert all(space.feasible(params) for params in record.params)
    assert best(record) < -0.55


@pytest.mark.parametrize("outcome", [1.0, State.FAILED, State.DIVERGED, State.CANCELLED, math.inf, math.nan, -1e300])
def test_trials_that_all_end_alike_are_no_obstacle(outcome: Outcome) -> None:
    assert VALLEY.validate(propose(CMAES(), searched(CMAES(), VALLEY, lambda _: outcome, 60)))


def test_failed_trials_are_fled() -> None:
    record = searched(CMAES(), VALLEY, lambda params: State.FAILED if params["x0"] > 0.5 else rosenbrock(params), 150)
    assert sum(params["x0"] > 0.5 for params in record.params[75:]) < 30


def test_steps_of_a_population_whoever_proposed_it() -> None:
    member, record = CMAES(population=6), Record(VALLEY, Objective("m"))
    means = []
    for _ in range(14):
        finish(record, begin(record, VALLEY.decode([0.9] * 4)), 1.0)
        propose(member, record)
        means.append(record.state(member).evolution.normal.mean[0])
    assert means[:5] == [0.5] * 5 and means[5:11] == [pytest.approx(0.9)] * 6
    assert record.state(member).evolution.normal.generation == 2


def test_asking_changes_nothing() -> None:
    member, record = CMAES(), searched(CMAES(), VALLEY, rosenbrock, 60)
    often = [propose(member, record, seed) for seed in (1, 2, 1)]
    assert often[0] == often[2] != often[1]


@pytest.mark.parametrize(
    ("mode", "tracked", "told"), [("auto", True, 1.0), ("auto", False, 3.0), ("last", True, 3.0), ("best", False, 1.0)]
)
def test_a_trial_counts_once_by_its_value_at_its_first_end(mode: Any, tracked: bool, told: float) -> None:
    member, record = CMAES(), Record(VALLEY, Objective("m"), value=mode)
    number = begin(record, VALLEY.decode([0.5] * 4), tracked)
    finish(record, number, [2.0, 1.0, 3.0], State.PAUSED)
    record.apply(events.Started(number, 2, 3), 0.0)
    record.apply(events.Reported(number, 2, 4, {"m": 0.1}), 0.0)
    record.apply(events.Ended(number, 2, State.DONE, 4), 0.0)
    propose(member, record)
    assert [loss for _, loss in record.state(member).evolution.pool] == [told]


def test_where_there_is_no_step_left_to_take_it_begins_anew_with_twice_the_population() -> None:
    space = Space(n=Int(1, 10_000), m=Int(1, 10_000))
    member, record = CMAES(population=4), Record(space, Objective("m"))
    for _ in range(4 * 90):
        finish(record, begin(record, {"n": 10, "m": 10}), 1.0)
    propose(member, record)
    evolution = record.state(member).evolution
    assert evolution.restarts >= 1 and evolution.normal.population_size >= 8
    assert evolution.normal.mean[0] != 0.5


def test_a_belief_is_where_it_begins() -> None:
    beliefs = {name: Belief(1.0, "high") for name in VALLEY.names}
    few = [
        [best(searched(CMAES(sd=0.1, beliefs=held), VALLEY, rosenbrock, 15, seed=seed)) for seed in range(5)]
        for held in ({}, beliefs)
    ]
    assert np.median(few[1]) < np.median(few[0])
    wrong = {name: Belief(-1.9, "high") for name in VALLEY.names}
    assert best(searched(CMAES(beliefs=wrong), VALLEY, rosenbrock, 400)) < 1.0
    with pytest.raises(SpaceError, match="about no parameter"):
        propose(CMAES(beliefs={"y": Belief(1.0)}), Record(VALLEY, Objective("m")))


@pytest.mark.parametrize("options", [{"n_start": 1}, {"sd": 0.0}, {"sd": 2.0}, {"population": 3}])
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="use"):
        CMAES(**options)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    monkeypatch.delitem(sys.modules, "foretell.samplers.cmaes")
    with pytest.raises(MissingExtra, match="pip install cmaes"):
        _family.load("samplers", "cmaes")
    monkeypatch.undo()
    importlib.import_module("foretell.samplers.cmaes")
