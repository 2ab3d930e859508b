"""SuccessiveIncreases: Prechelt's UP."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.stopping.successive_increases import SuccessiveIncreases
from tests.stopping.curves import sentence, stop


def up(losses: list[float], increases: int, strip: int, at: int) -> bool:
    """UP of the source, word by word: UP_s stops at t iff UP_{s-1} stops at t - k and E(t) > E(t - k); `at` from 1."""
    if at <= strip:
        return False
    rose = losses[at - 1] > losses[at - strip - 1]
    return rose and (increases == 1 or up(losses, increases - 1, strip, at - strip))


@given(st.lists(st.integers(0, 3).map(float), max_size=30), st.integers(1, 3), st.integers(1, 4))
def test_it_is_the_source_s_recursion(losses: list[float], increases: int, strip: int) -> None:
    ends = range(strip, len(losses) + 1, strip)
    expected = next((at - 1 for at in ends if up(losses, increases, strip, at)), None)
    assert stop(SuccessiveIncreases(increases, strip), losses) == expected


def test_a_check_that_is_not_finite_is_a_rise_above_the_last_that_was() -> None:
    assert stop(SuccessiveIncreases(2, 1), [3, math.nan, 4]) == 2
    assert stop(SuccessiveIncreases(2, 1), [3, math.nan, 2, 3, 4]) == 4
    assert stop(SuccessiveIncreases(2, 1), [math.nan, math.nan]) == 1


def test_scores() -> None:
    assert stop(SuccessiveIncreases(2, 1), [0.5, 0.6, 0.5, 0.4], scores=True) == 3


def test_sentences() -> None:
    assert sentence(SuccessiveIncreases(1, 2), [1, 1, 9, 2]) == (
        "Stop: m has got worse over 1 strip of 2 checks in a row, to 2, at epoch 4"
    )
    assert sentence(SuccessiveIncreases(2, 1), [1, 2, 3]) == (
        "Stop: m has got worse over 2 checks in a row, to 3, at epoch 3"
    )


@pytest.mark.parametrize(("increases", "strip"), [(0, 5), (2, 0), (1.5, 5)])
def test_settings_that_make_no_sense(increases: int, strip: int) -> None:
    with pytest.raises(ValueError, match="SuccessiveIncreases"):
        SuccessiveIncreases(increases, strip)
