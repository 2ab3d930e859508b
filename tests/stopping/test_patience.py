"""Patience: its baseline, and its row of the golden sequences. The rest is in `test_members.py`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.stopping import after
from foretell.stopping.patience import Patience
from tests.stopping.curves import sentence, stop

EIGHTHS = st.integers(-8, 8).map(lambda number: number / 8)


@given(st.lists(EIGHTHS | st.just(math.nan), max_size=20), EIGHTHS, st.integers(1, 4), st.booleans())
def test_a_baseline_is_a_value_reported_before_the_first(
    values: list[float], baseline: float, checks: int, scores: bool
) -> None:
    reported = stop(Patience(checks), [baseline, *values], scores=scores)
    expected = None if reported is None else reported - 1
    assert stop(Patience(checks, baseline=baseline), values, scores=scores) == expected


def test_a_run_that_improves_but_misses_the_baseline_is_stopped() -> None:
    assert stop(Patience(3, baseline=1.0), [9, 8, 7, 6, 5]) == 2
    assert stop(Patience(3, baseline=1.0), [9, 8, 0.5, 6, 5, 4]) == 5


def test_a_warm_up_hides_the_first_epochs() -> None:
    values = [1, 2, 3, 9, 8, 7, 8, 8]
    assert stop(Patience(2), values) == 2
    assert stop(after(3, Patience(2)), values) == 7


def test_sentences() -> None:
    assert sentence(Patience(2, baseline=0.5), [2, 1]) == (
        "Stop: m has not beaten the baseline 0.5 for 2 checks, at epoch 2"
    )
    assert sentence(Patience(2, 0.1, baseline=0.5), [0.2, 0.3, 0.15]) == (
        "Stop: m has not beaten 0.2 by more than 0.1 for 2 checks, at epoch 3"
    )


@pytest.mark.parametrize("baseline", [math.nan, math.inf])
def test_a_baseline_that_makes_no_sense(baseline: float) -> None:
    with pytest.raises(ValueError, match="baseline"):
        Patience(3, baseline=baseline)
