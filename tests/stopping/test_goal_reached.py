"""GoalReached: the last checks are good enough."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.stopping.goal_reached import GoalReached
from tests.stopping.curves import sentence, stop, verdicts

VALUES = st.lists(st.integers(-8, 8).map(lambda number: number / 8), max_size=20)


@given(VALUES, st.integers(1, 5), st.booleans())
def test_it_judges_the_mean_of_full_windows(values: list[float], checks: int, scores: bool) -> None:
    for index, verdict in enumerate(verdicts(GoalReached(0.25, checks), values, scores=scores)):
        window = values[max(0, index + 1 - checks) : index + 1]
        mean = sum(window) / len(window)
        assert verdict.stop == (len(window) == checks and (mean >= 0.25 if scores else mean <= 0.25))
        assert not verdict.stop or verdict.value == pytest.approx(mean)


@given(VALUES.filter(bool), st.sampled_from([0.2, 0.5, 0.7, 1.0]), st.booleans())
def test_a_quantile_is_of_the_users_values(values: list[float], quantile: float, scores: bool) -> None:
    rule = GoalReached(0.25, len(values), quantile)
    share = sum(value <= 0.25 for value in values) / len(values)
    if not scores:
        assert (stop(rule, values) is not None) == (share >= quantile - 1e-9)
    else:
        under = sum(value < 0.25 for value in values) / len(values)
        assert (stop(rule, values, scores=True) is not None) == (under < quantile - 1e-9)


def test_values_that_are_not_finite_are_as_bad_as_can_be() -> None:
    values = [0.0, math.nan, 0.0, 0.0, -math.inf, 0.0, 0.0, 0.0]
    assert stop(GoalReached(0.5, 3), values) == 7
    assert stop(GoalReached(-0.5, 3), values, scores=True) == 7
    assert stop(GoalReached(0.5, 3, quantile=0.5), values) == 2


def test_sentences() -> None:
    assert sentence(GoalReached(0.5, 2), [1, 0.5, 0.25]) == (
        "Stop: m reached the goal 0.5: the mean of the last 2 checks is 0.375 at epoch 3"
    )
    assert sentence(GoalReached(0.9, 3, 0.5), [0.9, 0.95, 0.1, 0.95], scores=True) == (
        "Stop: m reached the goal 0.9: the median of the last 3 checks is 0.9 at epoch 3"
    )


@pytest.mark.parametrize(
    "settings", [(math.nan,), (0.5, 0), (0.5, 1.5), (0.5, 5, 0.0), (0.5, 5, 1.1), (0.5, 5, math.nan)]
)
def test_settings_that_make_no_sense(settings: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="GoalReached"):
        GoalReached(*settings)  # type: ignore[arg-type]
