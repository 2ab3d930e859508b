"""Acquisition functions against quadrature, arbitrary precision and their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from foretell.numerics.acquisition import (
    confidence_bound,
    expected_improvement,
    log_constrained_expected_improvement,
    log_expected_improvement,
    log_probability_of_improvement,
    probability_of_improvement,
)

CASES = [(0.0, 1.0, 0.0), (1.5, 0.3, 1.0), (-2.0, 2.0, -1.0), (0.2, 0.05, 0.1)]


def scalar(function: Callable[..., Any], mean: float, sd: float, *rest: Any) -> float:
    return float(function(np.array([mean]), np.array([sd]), *rest)[0])


@pytest.mark.parametrize(("mean", "sd", "best"), CASES)
def test_improvements_by_quadrature(mean: float, sd: float, best: float) -> None:
    gain, _ = quad(lambda y: (best - y) * norm.pdf(y, mean, sd), mean - 12 * sd, best, epsabs=1e-14)
    assert scalar(expected_improvement, mean, sd, best) == pytest.approx(gain, rel=1e-8)
    assert scalar(log_expected_improvement, mean, sd, best) == pytest.approx(math.log(gain), abs=1e-8)
    chance, _ = quad(lambda y: norm.pdf(y, mean, sd), mean - 12 * sd, best, epsabs=1e-14)
    assert scalar(probability_of_improvement, mean, sd, best) == pytest.approx(chance, rel=1e-8)
    assert scalar(log_probability_of_improvement, mean, sd, best) == pytest.approx(math.log(chance), abs=1e-8)


@pytest.mark.parametrize(
    "z", [5.0, 0.0, -0.999999, -1.0, -1.000001, -3.0, -30.0, -300.0, -1e5, -1e7, -7e7, -1e9, -1e12]
)
def test_log_improvement_to_many_digits(z: float, needs: Callable[[str], Any]) -> None:
    mp = needs("mpmath")
    with mp.workdps(80):
        exact = mp.log(mp.npdf(mp.mpf(z)) + mp.mpf(z) * mp.ncdf(mp.mpf(z)))
        assert scalar(log_expected_improvement, -z, 1.0, 0.0) == pytest.approx(float(exact), rel=1e-10, abs=1e-12)


@given(st.lists(st.floats(-1e4, 10), min_size=2, max_size=30, unique=True))
@settings(max_examples=50)
def test_log_improvement_is_finite_and_falls_with_the_mean(means: list[float]) -> None:
    ordered = np.sort(np.array(means))
    worth = log_expected_improvement(ordered, np.ones(len(ordered)), 0.0)
    assert np.isfinite(worth).all()
    assert (np.diff(worth) <= 1e-12 * np.abs(worth[1:])).all()


def test_a_far_improvement_underflows_only_without_the_logarithm() -> None:
    assert scalar(expected_improvement, 50.0, 1.0, 0.0) == 0.0
    assert -1270 < scalar(log_expected_improvement, 50.0, 1.0, 0.0) < -1250


def test_units_scale_the_improvement() -> None:
    assert scalar(log_expected_improvement, 3.0, 0.2, 2.5) == pytest.approx(
        scalar(log_expected_improvement, 30.0, 2.0, 25.0) - math.log(10)
    )


def test_the_confidence_bound_prefers_low_and_uncertain() -> None:
    worth = confidence_bound(np.array([1.0, 0.5, 1.0]), np.array([0.1, 0.1, 0.4]), 2.0)
    np.testing.assert_allclose(worth, [-0.8, -0.3, -0.2])


def test_constraints_multiply_by_the_chance_to_meet_them() -> None:
    mean, sd = np.array([0.1, -0.2]), np.array([0.3, 0.2])
    first = (np.array([1.0, 0.5]), np.array([0.5, 0.5]), 1.0)
    second = (np.array([-3.0, 4.0]), np.array([1.0, 1.0]), 0.0)
    worth = log_constrained_expected_improvement(mean, sd, 0.0, [first, second])
    feasible = norm.cdf([0.0, 1.0]) * norm.cdf([3.0, -4.0])
    np.testing.assert_allclose(np.exp(worth), expected_improvement(mean, sd, 0.0) * feasible, rtol=1e-9)
    np.testing.assert_allclose(
        log_constrained_expected_improvement(mean, sd, 0.0, []), log_expected_improvement(mean, sd, 0.0)
    )
