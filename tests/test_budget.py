"""Budgets as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.budget import Budget, duration
from foretell.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("200 trials", Budget(trials=200)),
        ("1 trial", Budget(trials=1)),
        ("5000 epochs", Budget(epochs=5000)),
        ("5_000 epochs", Budget(epochs=5000)),
        ("1e3 epochs", Budget(epochs=1000)),
        ("5epochs", Budget(epochs=5)),
        ("30 min", Budget(seconds=1800.0)),
        ("30min", Budget(seconds=1800.0)),
        ("30 Minutes", Budget(seconds=1800.0)),
        ("1.5 h", Budget(seconds=5400.0)),
        ("1h 30m", Budget(seconds=5400.0)),
        ("1h30m", Budget(seconds=5400.0)),
        ("2 d 1 s", Budget(seconds=172801.0)),
        ("30 min, 200 trials", Budget(trials=200, seconds=1800.0)),
        ("30 min and 200 trials", Budget(trials=200, seconds=1800.0)),
        (" 90 s , 7 epochs, 3 trials ", Budget(trials=3, epochs=7, seconds=90.0)),
        (None, Budget()),
        (Budget(trials=3), Budget(trials=3)),
    ],
)
def test_what_can_be_written(text: Any, budget: Budget) -> None:
    assert Budget.of(text) == budget


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (30, "no unit"),
        (30.0, "no unit"),
        ("30", "cannot be read"),
        ("", "empty"),
        ("   ", "empty"),
        ("half an hour", "cannot be read from 'half an hour'"),
        ("-5 trials", "cannot be read"),
        ("30 min, soon", "cannot be read from 'soon'"),
        ("30 trails", "Did you mean 'trials'"),
        ("3 eopchs", "Did you mean 'epochs'"),
        ("1.5 trials", "whole number"),
        ("5 trials, 6 trials", "twice"),
        ("0 trials", "buys nothing"),
        ("0 s", "buys nothing"),
        ("1e400 s", "beyond all counting"),
        ("1e400 trials", "beyond all counting"),
    ],
)
def test_what_cannot_be_read_names_the_cure(text: Any, cause: str) -> None:
    with pytest.raises(BudgetError, match=cause):
        Budget.of(text)


@pytest.mark.parametrize(
    "limits", [{"trials": 0}, {"epochs": -1}, {"seconds": float("nan")}, {"seconds": float("inf")}]
)
def test_a_limit_is_above_zero(limits: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match="above 0"):
        Budget(**limits)


@given(
    st.none() | st.integers(1, 10**6), st.none() | st.integers(1, 10**9), st.none() | st.integers(1, 10**7).map(float)
)
def test_what_is_shown_can_be_read(trials: int | None, epochs: int | None, seconds: float | None) -> None:
    budget = Budget(trials, epochs, seconds)
    assert budget.unlimited == (str(budget) == "no limit")
    assert budget.unlimited or Budget.of(str(budget)) == budget


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.25 s"),
        (45, "45 s"),
        (89.6, "1 min 30 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86461, "1 d 1 min 1 s"),
    ],
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
