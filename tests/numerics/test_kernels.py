"""Distances of mixed and conditional configurations, and the Matérn correlation against scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.numerics.kernels import Layout, matern52, matern52_with_slope, squared_distances

# A number, an unordered choice of three, and two dimensions of one branch: a number and a choice of two.
MIXED = Layout((0, 3, 0, 2), (-1, -1, 0, 0))


def row(number: float, code: int, *, inner: float | None = None, inner_code: int = 0) -> np.ndarray:
    """One embedded configuration; without `inner` the branch is inactive."""
    used = inner is not None
    rows = np.array([[number, 0.5, 0.5 if inner is None else inner, 0.5]])
    active = np.array([[True, True, used, used]])
    return MIXED.embed(rows, np.array([[0, code, 0, inner_code]]), active)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(squared_distances(a, b)[0, 0])


def test_numbers_keep_their_distance_and_options_are_one_apart() -> None:
    assert apart(row(0.2, 0), row(0.7, 0)) == pytest.approx(0.25)
    assert apart(row(0.2, 0), row(0.2, 2)) == pytest.approx(1.0)
    assert apart(row(0.2, 1), row(0.7, 2)) == pytest.approx(1.25)


def test_two_inactive_branches_are_alike() -> None:
    assert apart(row(0.3, 1), row(0.3, 1)) == pytest.approx(0.0)


@given(inner=st.floats(0, 1), code=st.integers(0, 1))
@settings(max_examples=20)
def test_an_inactive_dimension_is_equally_far_from_every_active_value(inner: float, code: int) -> None:
    # 1 for the number's arc, 1/2 for the inner choice's corner, 1 for the branch.
    assert apart(row(0.3, 1), row(0.3, 1, inner=inner, inner_code=code)) == pytest.approx(2.5)


@given(a=st.floats(0, 1), b=st.floats(0, 1))
@settings(max_examples=20)
def test_two_active_values_are_nearly_their_difference_apart(a: float, b: float) -> None:
    distance = apart(row(0.3, 1, inner=a), row(0.3, 1, inner=b)) ** 0.5
    assert distance == pytest.approx(2 * np.sin(abs(a - b) / 2), abs=1e-7)
    assert 0.95 * abs(a - b) - 1e-7 <= distance <= abs(a - b) + 1e-7


def test_every_column_knows_its_length_scale() -> None:
    assert MIXED.scales == 5  # four dimensions and one branch
    assert MIXED.scale_of.tolist() == [0, 1, 1, 1, 2, 2, 3, 3, 4]
    assert row(0.1, 0).shape == (1, len(MIXED.scale_of))
    points = np.arange(18.0).reshape(2, 9)
    scaled = MIXED.scale(points, np.log([1.0, 2.0, 4.0, 5.0, 10.0]))
    np.testing.assert_allclose(scaled, points / [1, 2, 2, 2, 4, 4, 5, 5, 10])


def test_a_space_without_dimensions_has_no_columns() -> None:
    layout = Layout.of_numbers(0)
    assert layout.embed(np.zeros((3, 0)), np.zeros((3, 0), np.int64), np.ones((3, 0), bool)).shape == (3, 0)


@given(seed=st.integers(0, 999))
@settings(max_examples=20)
def test_the_covariance_of_mixed_rows_is_positive_definite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    used = rng.random(40) < 0.5
    active = np.stack((np.ones(40, bool), np.ones(40, bool), used, used), axis=1)
    points = MIXED.embed(rng.random((40, 4)), rng.integers(0, (1, 3, 1, 2), (40, 4)), active)
    scaled = MIXED.scale(points, rng.normal(-1, 1, MIXED.scales))
    covariance = matern52(squared_distances(scaled, scaled))
    assert np.linalg.eigvalsh(covariance).min() > -1e-9


def test_matern_is_scikit_learn_s(needs: Callable[[str], Any]) -> None:
    needs("sklearn")
    from sklearn.gaussian_process.kernels import Matern

    rng = np.random.default_rng(0)
    a, b, lengths = rng.random((12, 3)), rng.random((9, 3)), np.array([0.1, 0.5, 3.0])
    ours = matern52(squared_distances(a / lengths, b / lengths))
    np.testing.assert_allclose(ours, Matern(lengths, nu=2.5)(a, b), rtol=1e-10)


def test_the_slope_is_the_derivative() -> None:
    squared = np.array([[1e-4, 0.3, 2.0, 9.0]])
    correlation, slope = matern52_with_slope(squared)
    np.testing.assert_allclose(correlation, matern52(squared), rtol=1e-14)
    h = 1e-6
    numeric = (matern52(squared * (1 + h)) - matern52(squared * (1 - h))) / (2 * h * squared)
    np.testing.assert_allclose(slope, -2 * numeric, rtol=1e-5)
