"""Parzen mixtures against SciPy's truncated normal distribution, a twin written in loops, and sums over all values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, qmc, truncnorm

from foretell.numerics.parzen import Array, Axes, Mixture, Points, fitted

OPTIONS = np.array([0.0, 0.2, 0.5, 1.0])  # of shares .2, .3, .5
CELLS = np.linspace(0.0, 1.0, 6)


def middles(edges: Array) -> Array:
    return 0.5 * (edges[1:] + edges[:-1])


# A number; a choice; a number of five values; a number and a choice under the choice's second option.
TREE = Axes(
    places=(None, middles(OPTIONS), middles(CELLS), None, middles(OPTIONS)),
    edges=(None, OPTIONS, CELLS, None, OPTIONS),
    unordered=(False, True, False, False, True),
    needs=((), (), (), ((1, 1),), ((1, 1),)),
)


def points_of(axes: Axes, count: int, seed: int) -> Points:
    return axes.snap(np.random.default_rng(seed).random((count, len(axes))))


def mixture_of(axes: Axes, count: int, seed: int) -> Mixture:
    rng = np.random.default_rng((seed, 1))
    weights = rng.random(count + 1)
    return Mixture(
        axes, points_of(axes, count, seed), weights / weights.sum(), rng.uniform(0.03, 0.6, len(axes)),
        rng.uniform(0.01, 1.0, len(axes)),
    )  # fmt: skip


def normal(centre: float, sd: float) -> Any:
    return truncnorm(-centre / sd, (1 - centre) / sd, centre, sd)


def naive_density(mixture: Mixture, points: Points, index: int) -> float:
    """The definition, one kernel and one dimension at a time."""
    axes, total = mixture.axes, float(mixture.weights[-1])
    for kernel, weight in enumerate(mixture.weights[:-1]):
        factor = float(weight)
        for dimension, edges in enumerate(axes.edges):
            if not (points.active[index, dimension] and mixture.centres.active[kernel, dimension]):
                continue
            centre, place = mixture.centres.rows[kernel, dimension], points.rows[index, dimension]
            if edges is None:
                factor *= normal(centre, mixture.sd[dimension]).pdf(place)
                continue
            code, anew = int(points.codes[index, dimension]), mixture.smoothing[dimension]
            share = edges[code + 1] - edges[code]
            if axes.unordered[dimension]:
                same = code == mixture.centres.codes[kernel, dimension]
                mass = anew * share + (1 - anew) * same
            else:
                below = normal(centre, mixture.sd[dimension]).cdf(edges[code : code + 2])
                mass = below[1] - below[0]
            factor *= mass / share
        total += factor
    return total


@given(kernels=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_the_density_is_its_definition(kernels: int, seed: int) -> None:
    mixture, points = mixture_of(TREE, kernels, seed), points_of(TREE, 3, seed + 1)
    expected = [math.log(naive_density(mixture, points, index)) for index in range(3)]
    np.testing.assert_allclose(mixture.log_density(points), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_density_is_one_on_average_and_draws_follow_it(seed: int) -> None:
    mixture = replace(mixture_of(TREE, 4, seed), sd=np.array([0.1, 1.0, 0.15, 0.2, 1.0]))
    uniform = TREE.snap(qmc.Sobol(5, rng=seed).random(2**15))
    worth = np.exp(mixture.log_density(uniform))
    assert worth.mean() == pytest.approx(1.0, abs=0.01)
    drawn = mixture.sample(20_000, np.random.default_rng(seed))
    for dimension in range(5):
        for threshold in (0.15, 0.35, 0.6, 0.85):
            below = (worth * (uniform.rows[:, dimension] <= threshold)).mean()
            assert (drawn.rows[:, dimension] <= threshold).mean() == pytest.approx(below, abs=0.02)
    np.testing.assert_allclose(drawn.active.mean(axis=0), worth @ uniform.active / len(worth), atol=0.02)


def test_a_number_is_drawn_from_scipys_truncated_normal() -> None:
    axes = Axes((None,), (None,), (False,), ((),))
    mixture = Mixture(axes, axes.snap(np.array([[0.1]])), np.array([1.0, 0.0]), np.array([0.2]), np.ones(1))
    drawn = mixture.sample(4000, np.random.default_rng(0)).rows[:, 0]
    assert kstest(drawn, normal(0.1, 0.2).cdf).pvalue > 0.01


def test_many_values_are_as_good_as_continuous() -> None:
    edges = np.linspace(0, 1, 2001)
    fine = Axes((middles(edges),), (edges,), (False,), ((),))
    smooth = Axes((None,), (None,), (False,), ((),))
    places = np.linspace(0.01, 0.99, 50)[:, None]
    logs = [
        Mixture(axes, axes.snap(np.array([[0.3], [0.7]])), np.full(3, 1 / 3), np.array([0.05]), np.ones(1)).log_density(
            axes.snap(places)
        )
        for axes in (fine, smooth)
    ]
    np.testing.assert_allclose(logs[0], logs[1], atol=0.02)


def test_what_is_not_active_has_no_say() -> None:
    mixture = mixture_of(TREE, 5, 0)
    rows = np.full((2, 5), 0.5)
    rows[:, 1], rows[1, 3] = 0.1, 0.9  # the first option has no branch
    snapped = TREE.snap(rows)
    assert not snapped.active[:, 3:].any()
    assert mixture.log_density(snapped)[0] == mixture.log_density(snapped)[1]


def test_the_uniform_measure_alone_has_density_one() -> None:
    weights = np.array([0.0, 1.0])
    mixture = Mixture(TREE, points_of(TREE, 1, 0), weights, np.full(5, 0.1), np.full(5, 0.1))
    np.testing.assert_allclose(mixture.log_density(points_of(TREE, 20, 1)), 0.0, atol=1e-12)
    drawn = mixture.sample(2000, np.random.default_rng(0))
    assert kstest(drawn.rows[:, 0], "uniform").pvalue > 0.01


def test_far_from_every_kernel_the_logarithm_is_finite() -> None:
    axes = Axes((None,), (None,), (False,), ((),))
    mixture = Mixture(axes, axes.snap(np.array([[0.0]])), np.array([1.0, 0.0]), np.array([1e-3]), np.ones(1))
    assert np.isfinite(mixture.log_density(axes.snap(np.array([[1.0]])))).all()


# --- bandwidths -------------------------------------------------------------------------------------------------------


def test_bandwidths_follow_the_spread_of_the_points() -> None:
    axes = Axes((None, None), (None, None), (False, False), ((), ()))
    rng = np.random.default_rng(0)
    wide = rng.random((40, 2))
    mixture = fitted(axes, axes.snap(wide * [1.0, 0.2] + [0.0, 0.4]))
    assert mixture.sd[0] > 2 * mixture.sd[1]
    assert mixture.weights == pytest.approx(np.full(41, 1 / 41))
    np.testing.assert_allclose(mixture.smoothing, 1 / 41)


def test_bandwidths_by_hand() -> None:
    axes = Axes((None,), (None,), (False,), ((),))
    weights = np.array([1.5, 0.5])
    mixture = fitted(axes, axes.snap(np.array([[0.2], [0.6]])), weights)
    mean = (1.5 * 0.2 + 0.5 * 0.6 + 0.5) / 3
    variance = (1.5 * (0.2 - mean) ** 2 + 0.5 * (0.6 - mean) ** 2 + (0.5 - mean) ** 2 + 1 / 12) / 3
    assert mixture.sd[0] == pytest.approx(0.6 * math.sqrt(variance) * 2 ** (-1 / 5))
    np.testing.assert_allclose(mixture.weights, [0.5, 0.5 / 3, 1 / 3])


def test_bandwidths_have_a_floor() -> None:
    rows = np.tile([0.3, 0.1, 0.5, 0.5, 0.5], (500, 1))
    assert fitted(TREE, TREE.snap(rows)).sd[[0, 2]] == pytest.approx([0.03, 0.1])  # half of one of five values


def test_one_point_that_most_do_not_share_keeps_a_wide_kernel() -> None:
    rows = np.full((30, 5), 0.5)
    rows[:, 1], rows[:, 3] = 0.1, 0.2
    rows[0, 1] = 0.35  # the only one in the branch
    mixture = fitted(TREE, TREE.snap(rows))
    assert mixture.sd[3] > 3 * mixture.sd[0]
    assert mixture.smoothing[4] == 0.5


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_snapping_twice_is_snapping_once(seed: int) -> None:
    once = points_of(TREE, 10, seed)
    again = TREE.snap(once.rows)
    for first, second in zip(once, again, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(once.active[:, 3], once.codes[:, 1] == 1)
