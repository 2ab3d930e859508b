"""What every terminator promises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell import _family
from foretell.budget import Budget
from foretell.context import Context
from foretell.objective import Objective
from foretell.record import Record
from foretell.termination import Terminator
from foretell.termination.budget import BudgetSpent
from tests.test_record import SPACE, Log, logs, record_of, shown

MEMBERS = _family.names("termination")
BUDGETS = st.builds(Budget, st.none(), st.none() | st.integers(1, 20), st.none() | st.floats(0.5, 40))


def context(budget: Budget, now: float) -> Context:
    return Context(space=SPACE, objective=Objective("loss"), budget=budget, now=now)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_study_without_limits_and_trials_goes_on(name: str) -> None:
    member = _family.make("termination", name)
    assert isinstance(member, Terminator)
    assert not member.check(Record(SPACE, Objective("loss")), context(Budget(), 0.0)).stop


@pytest.mark.parametrize("name", MEMBERS)
@given(log=logs(), budget=BUDGETS)
def test_it_reads_and_says_why(name: str, log: Log, budget: Budget) -> None:
    member, record = _family.make("termination", name), record_of(log)
    before, settings = shown(record), repr(member)
    verdict = member.check(record, context(budget, log[-1][0]))
    again = member.check(record_of(log), context(budget, log[-1][0]))
    assert verdict == again and shown(record) == before and repr(member) == settings
    if verdict.stop:
        assert verdict.action == "stop" and verdict.rule and verdict.reason
        json.dumps(verdict.to_json())


@given(logs(), BUDGETS)
def test_a_budget_is_spent_when_its_first_limit_is(log: Log, budget: Budget) -> None:
    record, now = record_of(log), log[-1][0]
    limits: list[tuple[Any, float]] = [(budget.epochs, record.epochs_spent), (budget.seconds, record.seconds(now))]
    expected = any(limit is not None and used >= limit for limit, used in limits)
    assert BudgetSpent().check(record, context(budget, now)).stop == expected
