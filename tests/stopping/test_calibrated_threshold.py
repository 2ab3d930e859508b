"""CalibratedThreshold: a limit from data, its interval, and when there is too little of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foretell.stopping.calibrated_threshold import CalibratedThreshold
from tests.stopping.curves import sentence, stop


@given(st.integers(72, 400), st.sampled_from([0.05, 0.5, 0.9, 0.95]), st.sampled_from([0.8, 0.95]), st.integers(0, 99))
def test_limit_and_interval_are_those_of_other_libraries(size: int, quantile: float, level: float, seed: int) -> None:
    losses = np.random.default_rng(seed).lognormal(size=size)
    found = CalibratedThreshold.of_losses(losses, quantile, level)
    oracle = stats.quantile_test(losses, p=quantile).confidence_interval(level)
    assert (found.lower, found.upper) == (oracle.low, oracle.high)
    assert found.limit == np.quantile(losses, quantile, method="inverted_cdf")
    assert (found.sample_size, found.quantile, found.confidence) == (size, quantile, level)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = stats.norm.ppf(0.95)
    made = [CalibratedThreshold.of_losses(rng.normal(size=100)) for _ in range(1000)]
    covered = sum(one.lower <= truth <= one.upper for one in made)
    # At least 95 %; 930 is 3 standard errors below.
    assert 930 <= covered < 1000


@pytest.mark.parametrize(
    ("quantile", "confidence", "needed"), [(0.95, 0.95, 72), (0.5, 0.95, 6), (0.05, 0.95, 72), (0.99, 0.9, 299)]
)
def test_too_few_values_are_refused_and_the_number_needed_is_enough(
    quantile: float, confidence: float, needed: int
) -> None:
    with pytest.raises(ValueError, match=f"{needed - 1} values are too few.*: {needed} are needed"):
        CalibratedThreshold.of_losses(np.arange(needed - 1), quantile, confidence)
    made = CalibratedThreshold.of_losses(np.arange(needed), quantile, confidence)
    assert 0 <= made.lower <= made.limit <= made.upper <= needed - 1


@given(st.lists(st.floats(-5, 5), min_size=72, max_size=90))
def test_scores_are_losses_in_a_mirror(scores: list[float]) -> None:
    made = CalibratedThreshold.of_scores(scores)
    mirror = CalibratedThreshold.of_losses([-score for score in scores])
    assert (made.limit, made.lower, made.upper) == (-mirror.limit, -mirror.upper, -mirror.lower)
    assert np.mean(np.asarray(scores) >= made.limit) >= 0.95


def test_folds_give_the_level_that_half_of_them_reached() -> None:
    made = CalibratedThreshold.of_folds([0.30, 0.34, 0.28, 0.31, 0.29, 0.33, 0.35, 0.32])
    assert made.limit == 0.31 and (made.lower, made.upper) == (0.28, 0.35)
    with pytest.raises(ValueError, match="6 are needed"):
        CalibratedThreshold.of_folds([0.3, 0.2, 0.25, 0.3, 0.27])


def test_it_stops_at_the_limit_and_says_what_it_is() -> None:
    rule = CalibratedThreshold.of_losses(np.arange(1, 101) / 100)
    assert stop(rule, [1.2, 0.96, math.nan, 0.95]) == 3
    assert sentence(rule, [0.5]) == (
        "Stop: m 0.5 reached 0.95, the 95 % quantile of 100 values (95 % interval 0.9 to 1) at epoch 1"
    )
    assert stop(CalibratedThreshold.of_scores(np.arange(1, 101) / 100), [0.01, 0.05, 0.06], scores=True) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: CalibratedThreshold.of_losses([1.0] * 99 + [math.nan]),
        lambda: CalibratedThreshold.of_losses([1.0] * 99, quantile=1.0),
        lambda: CalibratedThreshold.of_losses([1.0] * 99, confidence=95),
        lambda: CalibratedThreshold(math.nan, 0.0, 1.0, 100),
        lambda: CalibratedThreshold(2.0, 0.0, 1.0, 100),
    ],
)
def test_what_makes_no_sense(make: object) -> None:
    with pytest.raises(ValueError, match=r"finite|share"):
        make()  # type: ignore[operator]
