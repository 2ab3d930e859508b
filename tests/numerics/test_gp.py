"""The Gaussian process against scikit-learn, finite differences and a naive twin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from foretell.numerics.gp import Posterior, Prior, condition, fit, log_posterior
from foretell.numerics.kernels import Layout

THETA = np.log([0.3, 0.8, 1.7, 1.3, 0.02])  # three length-scales, variance, noise variance
NUMBERS = Layout.of_numbers(3)


def data(count: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.random((count, 3))
    y = np.sin(5 * points[:, 0]) + points[:, 1] ** 2 + 0.1 * rng.standard_normal(count)
    return points, (y - y.mean()) / y.std(), rng.uniform(0, 0.1, count)


def correlation(a: np.ndarray, b: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The formula as it stands in the books."""
    r = math.sqrt(5) * cdist(a / lengths, b / lengths)
    return (1 + r + r**2 / 3) * np.exp(-r)


def naive(points: np.ndarray, y: np.ndarray, noise: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint posterior with the unknown mean as a constant kernel of overwhelming variance."""
    lengths, variance, learned, wide = np.exp(THETA[:3]), math.exp(THETA[3]), math.exp(THETA[4]), 1e7
    known = wide + variance * correlation(points, points, lengths) + np.diag(noise + learned)
    cross = wide + variance * correlation(at, points, lengths)
    solve = np.linalg.solve
    covariance = wide + variance * correlation(at, at, lengths) - cross @ solve(known, cross.T)
    return cross @ solve(known, y), covariance


def test_prediction_is_the_naive_twin_s() -> None:
    points, y, noise = data()
    at = np.random.default_rng(1).random((11, 3))
    posterior = condition(THETA, points, y, noise, layout=NUMBERS)
    mean, covariance = naive(points, y, noise, at)
    joint_mean, joint = posterior.joint(at)
    single_mean, sd = posterior.predict(at)
    np.testing.assert_allclose(joint_mean, mean, atol=1e-6)
    np.testing.assert_allclose(joint, covariance, atol=1e-6)
    np.testing.assert_allclose(single_mean, joint_mean, rtol=1e-12)
    np.testing.assert_allclose(sd**2, np.diag(joint), rtol=1e-9)


def test_prediction_and_likelihood_are_scikit_learn_s(needs: Callable[[str], Any]) -> None:
    needs("sklearn")
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    points, y, noise = data()
    at = np.random.default_rng(2).random((7, 3))
    posterior = condition(THETA, points, y, noise, layout=NUMBERS)
    variance, learned = math.exp(THETA[3]), math.exp(THETA[4])
    kernel = ConstantKernel(variance) * Matern(np.exp(THETA[:3]), nu=2.5)
    model = GaussianProcessRegressor(kernel, alpha=noise + learned, optimizer=None).fit(points, y - posterior.mean)
    np.testing.assert_allclose(posterior.predict(at)[0], posterior.mean + model.predict(at), rtol=1e-8)

    flat = Prior(scale=(0.0, 1e6), variance=(0.0, 1e6), noise=(0.0, 1e6))
    value, _ = log_posterior(THETA, points, y, noise, layout=NUMBERS, prior=flat)
    assert value == pytest.approx(model.log_marginal_likelihood_value_, rel=1e-9)


@given(seed=st.integers(0, 999))
@settings(max_examples=15)
def test_gradient_by_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = Layout((0, 3, 0), (-1, -1, 0))  # conditional and categorical columns share length-scales
    used = rng.random(15) < 0.6
    active = np.stack((np.ones(15, bool), np.ones(15, bool), used), axis=1)
    points = layout.embed(rng.random((15, 3)), rng.integers(0, (1, 3, 1), (15, 3)), active)
    y, noise, theta = rng.standard_normal(15), rng.uniform(0, 0.2, 15), rng.normal(-1, 0.7, layout.scales + 2)

    def value(at: np.ndarray) -> float:
        return log_posterior(at, points, y, noise, layout=layout, prior=Prior())[0]

    _, gradient = log_posterior(theta, points, y, noise, layout=layout, prior=Prior())
    for index in range(len(theta)):
        step = np.zeros(len(theta))
        step[index] = 1e-5
        numeric = (value(theta + step) - value(theta - step)) / 2e-5
        assert gradient[index] == pytest.approx(numeric, rel=1e-5, abs=1e-5)


def test_the_prior_grows_with_the_root_of_the_dimensions() -> None:
    few, many = Prior(4).moments(4)[0], Prior(16).moments(16)[0]
    assert many[0] - few[0] == pytest.approx(math.log(2))
    # The mode of exp(normal(mean, sd)) is exp(mean - sd^2); the source has mean sqrt(2) + ln(D) / 2 and sd sqrt(3).
    assert few[0] == pytest.approx(math.sqrt(2) + math.log(4) / 2 - 3)


def test_a_fit_climbs_and_finds_what_matters() -> None:
    points, y, noise = data(60)
    theta = fit(points, y, noise, layout=NUMBERS, prior=Prior(3))

    def value(at: np.ndarray) -> float:
        return log_posterior(at, points, y, noise, layout=NUMBERS, prior=Prior(3))[0]

    assert value(theta) > value(Prior(3).moments(3)[0]) + 5
    assert theta[2] > theta[0] + 1  # the third number has no influence
    again = fit(points, y, noise, layout=NUMBERS, prior=Prior(3), start=theta)
    assert value(again) == pytest.approx(value(theta), abs=1e-2)


def test_a_fit_learns_the_noise_that_is_not_known() -> None:
    rng = np.random.default_rng(3)
    points = rng.random((80, 3))
    y = np.sin(4 * points[:, 0]) + 0.5 * rng.standard_normal(80)
    unknown = fit(points, y, np.zeros(80), layout=NUMBERS, prior=Prior(3))
    known = fit(points, y, np.full(80, 0.25), layout=NUMBERS, prior=Prior(3))
    assert 0.05 < math.exp(unknown[-1]) < 0.5
    assert math.exp(known[-1]) < 0.2 * math.exp(unknown[-1])


def test_a_value_with_known_noise_counts_less() -> None:
    points, y = np.array([[0.5, 0.5, 0.5], [0.9, 0.9, 0.9]]), np.array([2.0, 0.0])
    sure = condition(THETA, points, y, np.zeros(2), layout=NUMBERS)
    unsure = condition(THETA, points, y, np.array([4.0, 0.0]), layout=NUMBERS)
    assert unsure.predict(points)[0][0] < sure.predict(points)[0][0] - 0.5
    assert unsure.predict(points)[1][0] > 2 * sure.predict(points)[1][0]


@pytest.mark.parametrize("added", [1, 4])
def test_growing_row_by_row_gives_the_same_posterior(added: int) -> None:
    points, y, noise = data(24)
    whole = condition(THETA, points, y, noise, layout=NUMBERS)
    grown = condition(THETA, points[:12], y[:12], noise[:12], layout=NUMBERS)
    for start in range(12, 24, added):
        part = slice(start, start + added)
        grown = grown.extended(points[part], y[part], noise[part])
    for name in ("scaled", "factor", "white", "alpha", "ones"):
        np.testing.assert_allclose(getattr(grown, name), getattr(whole, name), atol=1e-10, err_msg=name)


def test_believing_the_mean_leaves_the_mean_and_narrows_the_spread() -> None:
    points, y, noise = data(20)
    posterior = condition(THETA, points, y, noise, layout=NUMBERS)
    at = np.random.default_rng(4).random((3, 3))
    believed = posterior.extended(at, posterior.predict(at)[0], np.zeros(3))
    elsewhere = np.random.default_rng(5).random((8, 3))
    np.testing.assert_allclose(believed.predict(elsewhere)[0], posterior.predict(elsewhere)[0], atol=1e-8)
    assert (believed.predict(at)[1] < 0.5 * posterior.predict(at)[1]).all()
    assert (believed.predict(elsewhere)[1] <= posterior.predict(elsewhere)[1] + 1e-9).all()


@pytest.mark.parametrize("values", ["equal", "one", "twins"])
def test_degenerate_data_are_no_obstacle(values: str) -> None:
    points, y, noise = data(10)
    if values == "equal":
        y = np.zeros(10)
    elif values == "one":
        points, y, noise = points[:1], np.zeros(1), noise[:1]
    else:
        points, noise = np.repeat(points[:2], 5, axis=0), np.zeros(10)
    theta = fit(points, y, noise, layout=NUMBERS, prior=Prior(3))
    posterior: Posterior = condition(theta, points, y, noise, layout=NUMBERS)
    mean, sd = posterior.predict(np.random.default_rng(6).random((5, 3)))
    assert np.isfinite(mean).all() and np.isfinite(sd).all() and (sd > 0).all()


def test_twins_without_noise_get_a_jitter() -> None:
    points = np.repeat(data(3)[0], 30, axis=0)
    theta = np.array([0.0, 0.0, 0.0, 3.0, -80.0])
    posterior = condition(theta, points, np.repeat([1.0, -1.0, 0.5], 30), np.zeros(90), layout=NUMBERS)
    np.testing.assert_allclose(posterior.predict(points[::30])[0], [1.0, -1.0, 0.5], atol=1e-3)
