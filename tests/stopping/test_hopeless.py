"""Hopeless: the last checks are worse than anybody would take."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.stopping import after
from foretell.stopping.goal_reached import GoalReached
from foretell.stopping.hopeless import Hopeless
from tests.stopping.curves import sentence, stop, verdicts

VALUES = st.lists(st.integers(-8, 8).map(lambda number: number / 8) | st.just(math.nan), max_size=20)


@given(VALUES, st.integers(1, 5), st.sampled_from([None, 0.4, 0.5, 1.0]), st.booleans())
def test_with_one_limit_a_full_window_is_either_good_enough_or_hopeless(
    values: list[float], checks: int, quantile: float | None, scores: bool
) -> None:
    good = verdicts(GoalReached(0.25, checks, quantile), values, scores=scores)
    bad = verdicts(Hopeless(0.25, checks, quantile), values, scores=scores)
    for index, (one, other) in enumerate(zip(good, bad, strict=True)):
        assert one.stop + other.stop == (index + 1 >= checks)


def test_a_run_can_be_given_time() -> None:
    values = [9, 9, 9, 1, 1, 1, 9, 9]
    assert stop(Hopeless(2, 2), values) == 1
    assert stop(after(3, Hopeless(2, 2)), values) == 6


def test_sentences() -> None:
    assert sentence(Hopeless(2.5, 3), [3, 2, math.nan]) == (
        "Stop: m is hopeless: the mean of the last 3 checks is inf, over 2.5, at epoch 3"
    )
    assert sentence(Hopeless(0.5, 2, 0.9), [0.125, 0.25], scores=True) == (
        "Stop: m is hopeless: the 0.9 quantile of the last 2 checks is 0.25, under 0.5, at epoch 2"
    )


@pytest.mark.parametrize("settings", [(math.inf,), (0.5, -1), (0.5, 5, 2.0)])
def test_settings_that_make_no_sense(settings: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Hopeless"):
        Hopeless(*settings)  # type: ignore[arg-type]
