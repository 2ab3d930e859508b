"""What is special to one adaptive rate: sequences by hand, invariances, and a problem that it must solve."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.lr import AdaptiveRate
from foretell.lr.gradient_norm import GradientNorm
from foretell.lr.greedy import Greedy
from foretell.lr.plateau import Plateau

LOSSES = st.lists(st.floats(0.01, 10), max_size=30)
SQUARES = st.lists(st.floats(0, 1e4), min_size=1, max_size=20)


def rates(rule: AdaptiveRate, signals: Iterable[float]) -> list[float]:
    state, found = rule.init(), []
    for signal in signals:
        state = rule.update(state, signal)
        found.append(rule.rate(state))
    return found


# ---------------------------------------------------------------------- plateau


@pytest.mark.parametrize(("dialect", "fall"), [("torch", 4), ("optax", 3), ("keras", 3)])
def test_when_the_rate_falls(dialect: str, fall: int) -> None:
    # The first loss is the best; with a patience of 3 the next three are borne, or the third of them is not.
    found = rates(Plateau(1.0, 0.5, patience=3, dialect=dialect), [1.0] * 6)
    assert found.index(0.5) == fall


@pytest.mark.parametrize(("dialect", "second"), [("torch", 5), ("optax", 5), ("keras", 4)])
def test_what_a_cooldown_hides(dialect: str, second: int) -> None:
    patience = 0 if dialect == "torch" else 1
    found = rates(Plateau(1.0, 0.5, patience=patience, cooldown=3, dialect=dialect), [1.0] * 12)
    assert found.index(0.5) == 1
    assert found.index(0.25) == second


def test_negative_losses_are_judged_like_positive_ones() -> None:
    # It gets worse at every check: where the threshold is a share of the value itself, that counts as improvement.
    worse = [-10 + i / 5 for i in range(8)]
    assert rates(Plateau(1.0, 0.5, patience=2, threshold=0.1), worse)[-1] == 0.25
    better = [-10 * 1.2**i for i in range(8)]
    assert rates(Plateau(1.0, 0.5, patience=2, threshold=0.1), better)[-1] == 1.0


@given(LOSSES, st.floats(-20, 20), st.integers(0, 3))
def test_an_absolute_threshold_ignores_the_level(losses: list[float], shift: float, patience: int) -> None:
    exact = [round(loss * 64) / 64 for loss in losses]
    rule = Plateau(1.0, 0.5, patience=patience, threshold=0.25, relative=False)
    assert rates(rule, exact) == rates(rule, [loss + round(shift * 64) / 64 for loss in exact])


@given(LOSSES, st.sampled_from([0.25, 2.0, 1024.0]), st.booleans())
def test_a_relative_threshold_ignores_the_scale(losses: list[float], scale: float, negative: bool) -> None:
    rule = Plateau(1.0, 0.5, patience=1, threshold=0.25)
    signed = [-loss for loss in losses] if negative else losses
    assert rates(rule, signed) == rates(rule, [loss * scale for loss in signed])


def test_nan_is_never_the_best() -> None:
    assert rates(Plateau(1.0, 0.5, patience=3), [math.nan, 5, 4, 3, 2, 1, 0.5, 0.25]) == [1.0] * 8
    assert rates(Plateau(1.0, 0.5, patience=1), [math.nan] * 4) == [1.0, 0.5, 0.5, 0.25]


def test_the_floor_holds_and_never_lifts() -> None:
    assert rates(Plateau(1.0, 0.1, patience=0, min_lr=0.05), [1.0] * 5) == [1.0, 0.1, 0.05, 0.05, 0.05]
    assert rates(Plateau(0.01, 0.1, patience=0, min_lr=0.05), [1.0] * 3) == [0.01, 0.01, 0.01]


# ---------------------------------------------------------------------- greedy


def test_greedy_goes_both_ways() -> None:
    losses = [5, 4, 3, 2, 1, 1, 1, 1]
    assert rates(Greedy(1.0, 8.0, factor=0.5, patience=1), losses) == [1, 2, 2, 4, 4, 4, 2, 2]


def test_greedy_keeps_its_limits() -> None:
    falling = rates(Greedy(1.0, 3.0, factor=0.5, patience=0), [1 / k for k in range(1, 9)])
    flat = rates(Greedy(1.0, 3.0, min_lr=0.3, factor=0.5, patience=0), [1.0] * 8)
    assert max(falling) == falling[-1] == 3.0 and min(flat) == flat[-1] == 0.3


def test_greedy_starts_anew_at_the_floor() -> None:
    found = rates(Greedy(1.0, 1.0, min_lr=0.5, factor=0.5, patience=0, reset=2), [1.0, 2.0, 2.0, 2.0, 1.5])
    assert found == [1.0, 0.5, 1.0, 1.0, 1.0]


# ---------------------------------------------------------------------- gradient norm


@given(st.floats(0.01, 10), st.floats(0, 10), SQUARES)
def test_the_formula(beta: float, gamma: float, squares: list[float]) -> None:
    batch = rates(GradientNorm(beta, gamma), squares)
    assert batch == pytest.approx([beta / (1 + gamma * s / beta**2) for s in squares])
    sums = [math.fsum(squares[: k + 1]) for k in range(len(squares))]
    accumulated = rates(GradientNorm(beta, gamma, reading="accumulated"), squares)
    assert accumulated == pytest.approx([beta / (1 + gamma * s / beta**2) for s in sums])
    assert accumulated == sorted(accumulated, reverse=True)


@given(st.floats(0.01, 10), st.floats(0.01, 10), SQUARES)
def test_power_one_half_is_adagrad_norm(beta: float, gamma: float, squares: list[float]) -> None:
    eta, b0 = beta**2 / math.sqrt(gamma), beta / math.sqrt(gamma)
    found = rates(GradientNorm(beta, gamma, reading="accumulated", power=0.5), squares)
    sums = [math.fsum(squares[: k + 1]) for k in range(len(squares))]
    assert found == pytest.approx([eta / math.sqrt(b0**2 + s) for s in sums])


@pytest.mark.parametrize("reading", ["batch", "accumulated"])
@given(st.floats(0.01, 10), st.floats(0, 10), st.floats(0.1, 100), st.floats(0.3, 1), SQUARES)
def test_invariances(reading: str, beta: float, gamma: float, scale: float, power: float, squares: list[float]) -> None:
    plain = rates(GradientNorm(beta, gamma, reading=reading, power=power), squares)
    scaled = GradientNorm(beta * scale, gamma, reading=reading, power=power)
    assert rates(scaled, [s * scale**2 for s in squares]) == pytest.approx([rate * scale for rate in plain])
    constant = GradientNorm(beta, 0.0, reading=reading, power=power)
    assert rates(constant, squares) == [beta] * len(squares)


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0, 1e6))
def test_a_step_of_the_batch_reading_is_bounded(beta: float, gamma: float, norm: float) -> None:
    (rate,) = rates(GradientNorm(beta, gamma), [norm**2])
    assert rate * norm <= beta**2 / (2 * math.sqrt(gamma)) * (1 + 1e-12)


def test_an_overflow_changes_nothing() -> None:
    found = rates(GradientNorm(0.5, reading="accumulated"), [1.0, math.inf, math.nan, 1.0])
    assert found[0] == found[1] == found[2] > found[3]


CURVATURE = np.array([40.0, 5.0, 0.5])


def descended(rule: AdaptiveRate, steps: int, noise: float = 0.0) -> float:
    """The norm of the gradient where gradient descent on a quadratic ends, in the mean of its last tenth."""
    rng, x, state, tail = np.random.default_rng(0), np.array([3.0, -2.0, 1.0]), rule.init(), []
    for step in range(steps):
        gradient = CURVATURE * x + noise * rng.standard_normal(3)
        state = rule.update(state, float(gradient @ gradient))
        x = x - rule.rate(state) * gradient
        if step >= 0.9 * steps:
            tail.append(float(np.linalg.norm(CURVATURE * x)))
    return float(np.mean(tail))


def test_adagrad_norm_needs_no_knowledge_of_the_curvature() -> None:
    for beta in (1.0, 10.0, 100.0):
        assert descended(GradientNorm(beta, beta**2, reading="accumulated", power=0.5), 4000) < 1e-4
    with np.errstate(all="ignore"):
        assert not descended(GradientNorm(1.0, 0.0), 4000) < 1e6, "the same rate, held constant, diverges"


def test_the_batch_reading_converges_without_noise() -> None:
    # In the end the rate is beta, which must be under 2 / 40.
    assert descended(GradientNorm(0.04, 1e-4), 4000) < 1e-6


def test_with_noise_only_the_accumulated_reading_settles() -> None:
    batch = descended(GradientNorm(0.04, 1e-6), 4000, noise=1.0)
    accumulated = descended(GradientNorm(1.0, 1.0, reading="accumulated", power=0.5), 4000, noise=1.0)
    assert accumulated < batch / 3
