"""What every sampler promises, in spaces with branches and constraints, on histories of every kind."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell as ft
from foretell import _family, events
from foretell.context import Context
from foretell.objective import Objective
from foretell.record import Record
from foretell.samplers import Exhausted, Sampler
from foretell.space import Space
from foretell.stores.memory import MemoryStore
from foretell.trial import State
from tests.conftest import IN_CI

MADE: dict[str, list[Any]] = {
    "grid_search": [ft.GridSearch(3), ft.GridSearch(2)],
    "qmc": [ft.QMC()],
    "random_search": [ft.RandomSearch()],
}
"""Settings by member; others take their defaults."""

NAMES = [name for name in _family.names("samplers") if name != "cmaes" or IN_CI or find_spec("cmaes")]
ALL = [(name, member) for name in NAMES
       for member in MADE.get(name) or [_family.load("samplers", name)()]]  # fmt: skip
members = pytest.mark.parametrize(("name", "member"), ALL, ids=[repr(member) for _, member in ALL])

SPACES = {
    "plain": Space(lr=ft.Float(1e-4, 1e-1, log=True), width=ft.Int(4, 7)),
    "branches": Space(
        lr=ft.Float(1e-4, 1e-1, log=True), optimizer=ft.Choice({"sgd": {"momentum": ft.Float(0, 0.9)}, "adamw": {}}),
        depth=ft.Int(1, 3), fixed=7,
    ),
    "constrained": Space(
        lr=ft.Float(0.01, 1.0), width=ft.Int(1, 8), depth=ft.Int(1, 8), constraints=["width * depth <= 16", "lr > 0.02"]
    ),
    "fixed": Space(one=1, two="b"),
}  # fmt: skip
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
few = settings(max_examples=10)


def context_of(record: Record, seed: int = 0, decision: int | None = None) -> Context:
    number = record.log_length() if decision is None else decision
    return Context(space=record.space, objective=record.objective, seed=seed, decision=number)


def proposal(member: Any, record: Record, seed: int = 0) -> Any:
    """What it suggests, or why it does not."""
    try:
        return member.suggest(record, context_of(record, seed))
    except Exhausted as reason:
        return str(reason)


ENDS = ["done", "diverged", "failed", "pending", "paused", "stopped", "queued"]


def history(name: str, member: Any, space: Space, ends: list[str], seed: int = 0) -> list[events.Event]:
    """The log of a study whose trials the member proposed, ended as told."""
    record, log = Record(space, Objective("m")), list[events.Event]()
    rng = np.random.default_rng(seed)
    for number, end in enumerate(ends):
        params = proposal(member, record, seed)
        if isinstance(params, str):
            break
        for event in trial_events(number, params, name, end, rng):
            record.apply(event, 0.0)
            log.append(event)
    return log


def trial_events(
    number: int, params: dict[str, Any], name: str, end: str, rng: np.random.Generator
) -> list[events.Event]:
    made = [events.Created(number, params, None, name)]
    if end == "queued":
        return [*made]
    losses = (rng.normal() + np.exp(-np.arange(1, 4))).tolist()
    begun = [events.Started(number, 1), events.Opened(number, 1, 3, True, True), events.Granted(number, 1, 3)]
    if end == "diverged":
        losses[1:] = [math.nan]
    reports = [events.Reported(number, 1, step, {"m": loss}, float(step)) for step, loss in enumerate(losses, 1)]
    cut = {"failed": 0, "pending": 1, "paused": 2}.get(end, 3)
    finals = {"done": State.DONE, "diverged": State.DIVERGED, "failed": State.FAILED, "paused": State.PAUSED,
              "stopped": State.STOPPED}  # fmt: skip
    ended = [] if end == "pending" else [events.Ended(number, 1, finals[end], cut, cause="error" if cut == 0 else "")]
    return [*made, *begun, *reports[:cut], *ended]


def replayed(space: Space, log: list[events.Event]) -> Record:
    record = Record(space, Objective("m"))
    for event in log:
        record.apply(event, 0.0)
    return record


@members
def test_a_member_is_frozen_settings(name: str, member: Any) -> None:
    assert isinstance(member, Sampler)
    assert replace(member) == member
    with pytest.raises(AttributeError):
        member.unheard_of = 1


@members
@spaces
@few
@given(ends=st.lists(st.sampled_from(ENDS), max_size=12), seed=st.integers(0, 2**32))
def test_every_proposal_is_valid_and_feasible(name: str, member: Any, space: Space, ends: list[str], seed: int) -> None:
    before = repr(member)
    log = history(name, member, space, ends, seed)
    last = proposal(member, replayed(space, log), seed)
    made = [event.params for event in log if isinstance(event, events.Created)]
    for params in [*made, *([last] if isinstance(last, dict) else [])]:
        assert space.validate(params) == params and list(space.validate(params)) == list(params)
        assert space.feasible(params)
        assert json.loads(json.dumps(params)) == params
    assert len(made) == len(ends) or isinstance(last, str)
    assert repr(member) == before


@members
@spaces
@few
@given(ends=st.lists(st.sampled_from(ENDS), max_size=10), seed=st.integers(0, 99))
def test_the_same_history_and_seed_give_the_same_proposal(
    name: str, member: Any, space: Space, ends: list[str], seed: int
) -> None:
    log = history(name, member, space, ends, seed)
    one, other = replayed(space, log), replayed(space, log)
    assert proposal(member, one, seed) == proposal(replace(member), other, seed)
    assert proposal(member, one, seed) == proposal(member, one, seed)  # asking changes nothing


@members
@spaces
@few
@given(ends=st.lists(st.sampled_from(ENDS), max_size=10), seed=st.integers(0, 99))
def test_memory_event_by_event_is_memory_from_scratch(
    name: str, member: Any, space: Space, ends: list[str], seed: int
) -> None:
    log = history(name, member, space, ends, seed)
    live, often = Record(space, Objective("m")), replace(member)
    for event in log:
        proposal(often, live, seed)  # asked at every event, also when nobody takes the proposal
        live.apply(event, 0.0)
    reopened = replayed(space, [events.from_json(json.loads(json.dumps(events.to_json(event)))) for event in log])
    assert proposal(often, live, seed) == proposal(replace(member), reopened, seed)


@members
@pytest.mark.parametrize("end", ["done", "diverged", "pending"])
def test_after_a_thousand_trials(name: str, member: Any, end: str) -> None:
    space, rng = SPACES["branches"], np.random.default_rng(0)
    record = Record(space, Objective("m"))
    for number in range(1000):
        for event in trial_events(number, space.sample(rng), "enqueued", end, rng):
            record.apply(event, 0.0)
    params = proposal(member, record)
    assert space.feasible(space.validate(params))


@members
@pytest.mark.parametrize("workers", [1, 3])
def test_a_study_reopened_goes_on_as_one_that_never_closed(name: str, member: Any, workers: int) -> None:
    space = SPACES["constrained"]

    def run(budgets: list[str]) -> list[dict[str, Any]]:
        store = MemoryStore()
        for budget in budgets:
            study = ft.Study(space, minimize="m", sampler=replace(member), scheduler="full", store=store, seed=3)
            study.run(None, budget, executor=ft.Replay(lambda p: ft.Recording([p["lr"]]), workers), progress="none")
        return [trial.params for trial in study.trials]

    whole, parts = run(["12 trials"]), run(["5 trials", "6 trials", "12 trials"])
    assert len(parts) == len(whole) and all(space.feasible(params) for params in parts)
    assert len(whole) == 12 or name == "grid_search"
    if name in ("grid_search", "qmc"):  # the others draw by the number of the decision, and sessions are events too
        assert parts == whole


@members
def test_two_seeds_are_two_searches_unless_there_is_no_chance(name: str, member: Any) -> None:
    space = SPACES["plain"]
    logs = [history(name, member, space, ["done"] * 4, seed) for seed in (1, 1, 2)]
    proposals = [[event.params for event in log if isinstance(event, events.Created)] for log in logs]
    assert proposals[0] == proposals[1]
    assert (proposals[0] == proposals[2]) == (name == "grid_search")
