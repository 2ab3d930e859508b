"""The grid of curve shapes against Bayesian regression by the textbook's matrices, and what it must foresee."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from foretell.numerics.curve_basis import NAMES, fit, shapes


def drawn(seed: int, points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0.02, 0.9, points))
    return times, rng.normal(size=points), rng.uniform(0.2, 1.0, points)


@given(st.integers(0, 1000), st.integers(1, 8))
def test_a_fit_is_the_regression_of_the_textbook(seed: int, points: int) -> None:
    times, losses, weights = drawn(seed, points)
    found = fit(times[None], losses[None], weights[None])
    for k in range(len(NAMES)):
        h = shapes(times)[:, k] - shapes(times[-1:])[0, k]
        reach = max(abs(h).max(), 1e-9)
        design = np.column_stack((np.ones(points), h / reach))
        ahead = np.array([1.0, (shapes(np.ones(1))[0, k] - shapes(times[-1:])[0, k]) / reach])
        precision = design.T @ (weights[:, None] * design) + np.eye(2) / 100
        mean = np.linalg.solve(precision, design.T @ (weights * losses))
        shape = 1.0 + weights.sum() / 2
        scale = 0.01 + 0.5 * (losses @ (weights * losses) - mean @ precision @ mean)
        np.testing.assert_allclose(found.mean[0, k], ahead @ mean, rtol=1e-6, atol=1e-6)
        spread = np.sqrt(scale / shape * (1 + ahead @ np.linalg.solve(precision, ahead)))
        np.testing.assert_allclose(found.sd[0, k], spread, rtol=1e-6)


@given(st.integers(0, 1000), st.integers(1, 6))
def test_the_evidence_is_the_density_of_what_was_seen(seed: int, points: int) -> None:
    times, losses, _ = drawn(seed, points)
    found = fit(times[None], losses[None], np.ones((1, points)))
    for k in range(len(NAMES)):
        h = shapes(times)[:, k] - shapes(times[-1:])[0, k]
        design = np.column_stack((np.ones(points), h / max(abs(h).max(), 1e-9)))
        covariance = 0.01 * (np.eye(points) + 100 * design @ design.T)
        expected = stats.multivariate_t.logpdf(losses, np.zeros(points), covariance, df=2)
        np.testing.assert_allclose(found.evidence[0, k], expected, rtol=1e-6, atol=1e-6)


def test_points_of_no_weight_do_not_count() -> None:
    times, losses, weights = drawn(3, 6)
    weights[1] = weights[2] = 0.0
    kept = [0, 3, 4, 5]
    one, other = (
        fit(times[None], losses[None], weights[None]),
        fit(times[None, kept], losses[None, kept], weights[None, kept]),
    )
    for field, same in zip(one, other, strict=True):
        np.testing.assert_allclose(field, same, rtol=1e-9)


@pytest.mark.parametrize("power", [0.15, 0.8, 2.0])
def test_the_true_shape_is_found_and_foretold(power: float) -> None:
    times = np.arange(1, 26) / 50
    rng = np.random.default_rng(0)
    losses = times**-power - times[-1] ** -power
    scale = abs(losses).max()
    losses = losses / scale + 1e-3 * rng.normal(size=25)
    found = fit(times[None], losses[None], np.ones((1, 25)))
    best = int(found.evidence[0].argmax())
    truth = (1.0 - times[-1] ** -power) / scale
    assert NAMES[best] == f"t^-{power}"
    assert abs(found.mean[0, best] - truth) < 4 * found.sd[0, best] + 1e-3


def test_many_curves_are_fitted_as_each_alone() -> None:
    curves = [drawn(seed, 5) for seed in range(4)]
    together = fit(*(np.stack(part) for part in zip(*curves, strict=True)))
    for row, (times, losses, weights) in enumerate(curves):
        alone = fit(times[None], losses[None], weights[None])
        for field, same in zip(together, alone, strict=True):
            np.testing.assert_array_equal(field[row], same[0])
