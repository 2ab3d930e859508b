"""RelativeChange: flat curves, near zero and below it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.stopping.relative_change import RelativeChange
from tests.stopping.curves import sentence, stop, verdicts

NUMBERS = st.floats(-100, 100).map(lambda number: round(number, 3))


@given(st.lists(NUMBERS | st.just(math.nan), max_size=25), st.integers(1, 4), st.sampled_from([0.0, 0.01, 0.3]))
def test_it_is_the_formula(values: list[float], window: int, epsilon: float) -> None:
    for index, verdict in enumerate(verdicts(RelativeChange(epsilon, window), values)):
        seen = [value for value in values[: index + 1] if math.isfinite(value)][-2 * window :]
        if len(seen) < 2 * window:
            assert not verdict.stop
            continue
        before, now = np.mean(seen[:window]), np.mean(seen[window:])
        change = (before - now) / max(abs(before), abs(now), 1e-300)
        if abs(change - epsilon) > 1e-9:
            assert verdict.stop == (change < epsilon)


def test_a_slope_of_one_per_cent_a_check() -> None:
    steep = [0.99**i for i in range(40)]
    assert stop(RelativeChange(0.02), steep) is None
    assert stop(RelativeChange(0.06), steep) == 9


@given(st.sampled_from([1e-12, 1e-3, 1.0, 1e6]), st.booleans())
def test_the_unit_of_the_metric_does_not_matter(unit: float, negative: bool) -> None:
    curve = [1 + 1 / (1 + i) for i in range(60)]
    signed = [unit * (-10 + value if negative else value) for value in curve]
    assert stop(RelativeChange(0.01, 4), signed) == stop(RelativeChange(0.01, 4), [value / unit for value in signed])
    assert stop(RelativeChange(0.01, 4), signed) is not None


def test_near_zero_and_through_it() -> None:
    assert stop(RelativeChange(), [0.0] * 12) == 9
    assert stop(RelativeChange(), [1 - i / 10 for i in range(40)]) is None
    assert stop(RelativeChange(0.0, 2), [1e308, -1e308] * 10) == 3


def test_scores_are_losses_in_a_mirror() -> None:
    rising = [1 - 0.5**i for i in range(30)]
    assert stop(RelativeChange(0.01), rising, scores=True) == stop(RelativeChange(0.01), [-v for v in rising])


def test_a_curve_that_gets_worse_is_stopped_and_said_so() -> None:
    assert sentence(RelativeChange(0.01, 2), [1, 1, 2, 2]) == (
        "Stop: m worsened by 0.5 of its size from the 2 checks before to the last 2 checks (1 to 2), less than 0.01, "
        "at epoch 4"
    )
    assert sentence(RelativeChange(0.01, 1), [1, 0.995]) == (
        "Stop: m improved by 0.005 of its size from the check before to the last check (1 to 0.995), less than 0.01, "
        "at epoch 2"
    )


@pytest.mark.parametrize(("epsilon", "window"), [(-1.0, 5), (math.nan, 5), (0.1, 0), (0.1, 2.5)])
def test_settings_that_make_no_sense(epsilon: float, window: int) -> None:
    with pytest.raises(ValueError, match="RelativeChange"):
        RelativeChange(epsilon, window)
