"""The range test: stable under noise, blind to spikes, and honest when there is nothing to see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell.lr.range_test import RangeTest, analyse

METHODS = ("steepest", "valley", "minimum")
STEEPEST = 1e-2  # of the curve below


def measured(noise: float, seed: int = 0, points: int = 100) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A loss of 2.3 that falls around a rate of 0.01 and blows up above 0.1, over eight decades."""
    lrs = np.geomspace(1e-8, 1.0, points)
    log = np.log10(lrs)
    clean = 2.3 - 1.2 / (1 + np.exp(-4 * (log + 2))) + 0.5 * np.exp(5 * (log + 0.7))
    return lrs, clean + np.random.default_rng(seed).normal(0, noise, points)


def decades(found: RangeTest, method: str) -> float:
    rate = found[method].lr
    assert rate is not None
    return math.log10(rate)


def test_a_clean_curve() -> None:
    found = analyse(*measured(0))
    assert decades(found, "steepest") == pytest.approx(math.log10(STEEPEST), abs=0.1)
    assert decades(found, "minimum") == pytest.approx(math.log10(0.05) - 1, abs=0.1)
    assert decades(found, "steepest") <= decades(found, "valley") < decades(found, "minimum") + 1
    assert found.lr is not None and found.spread is not None and found.spread < 1
    assert "agree" in found.reason and "disagree" not in found.reason


@pytest.mark.parametrize(("noise", "within"), [(0.01, 0.1), (0.05, 0.2), (0.1, 0.4)])
def test_the_suggestions_are_stable_under_noise(noise: float, within: float) -> None:
    clean = analyse(*measured(0))
    for seed in range(20):
        found = analyse(*measured(noise, seed))
        for method in METHODS:
            assert decades(found, method) == pytest.approx(decades(clean, method), abs=within)


def test_the_slope_against_the_rate_itself_would_not_be() -> None:
    # The mistake that this module exists to avoid: the same curves, and noise picks a rate from the flat part.
    picked = [lrs[int(np.argmin(np.gradient(losses, lrs)))] for lrs, losses in (measured(0.01, s) for s in range(20))]
    assert np.median(picked) < 1e-6


def test_spikes_and_divergence_do_not_matter() -> None:
    lrs, losses = measured(0.02, 1)
    clean = analyse(lrs, losses)
    losses[[20, 55, 70]] = 50.0, -50.0, 1e9
    losses[92:] = 1e12
    losses[97] = math.nan
    spoilt = analyse(lrs, losses)
    assert len(spoilt.lrs) == 97
    for method in METHODS:
        assert decades(spoilt, method) == pytest.approx(decades(clean, method), abs=0.15)


def test_the_unit_and_the_sign_of_the_loss_do_not_matter() -> None:
    lrs, losses = measured(0.02, 2)
    plain, moved = analyse(lrs, losses), analyse(lrs, 1e3 * losses - 1e4)
    assert [one.lr for one in plain.suggestions] == pytest.approx([one.lr for one in moved.suggestions])
    faster = analyse(100 * lrs, losses)
    assert faster.lr == pytest.approx(100 * (plain.lr or 0))


def test_noise_alone_is_no_minimum() -> None:
    lrs, rng = np.geomspace(1e-7, 1, 100), np.random.default_rng(0)
    found = [analyse(lrs, 2.3 + rng.normal(0, 0.1, 100)) for _ in range(100)]
    fooled = [one for one in found if one.lr is not None]
    assert len(fooled) <= 2
    silent = next(one for one in found if one.lr is None)
    assert silent.spread is None and {one.lr for one in silent.suggestions} == {None}
    assert silent.reason.startswith("no usable minimum: the loss falls by") and "larger batches" in silent.reason


def test_a_loss_that_only_rises() -> None:
    lrs = np.geomspace(1e-4, 1, 60)
    assert "begin at a smaller one" in analyse(lrs, 1 + lrs).reason
    assert "the same at every rate" in analyse(lrs, np.full(60, 1.5)).reason


def test_a_loss_that_still_falls_at_the_end() -> None:
    lrs = np.geomspace(1e-6, 1e-2, 60)
    found = analyse(lrs, 2.3 - 1.2 / (1 + np.exp(-4 * (np.log10(lrs) + 3))))
    assert found["minimum"].lr is None and "extend the range" in found["minimum"].reason
    assert decades(found, "steepest") == pytest.approx(-3, abs=0.1)
    assert found.lr is not None


@pytest.mark.parametrize("last", [0, 3, 19])
def test_too_few_losses(last: int) -> None:
    lrs, losses = measured(0)
    losses[last:] = math.nan
    assert f"only {last} losses were finite" in analyse(lrs, losses).reason


@pytest.mark.parametrize(
    ("lrs", "losses"), [([1, 2, 3], [1, 2]), ([0, 1], [1, 1]), ([2, 1], [1, 1]), ([1, 1], [1, 1]), ([[1]], [[1]])]
)
def test_what_is_no_range_test(lrs: list[float], losses: list[float]) -> None:
    with pytest.raises(ValueError, match="rates"):
        analyse(lrs, losses)
    with pytest.raises(ValueError, match="bandwidth"):
        analyse([1, 2], [1, 1], bandwidth=0)
