"""What is special to one rule: each against a few lines by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell as ft
from foretell.curve import Curve, Point
from tests.conformance.test_stopping import curves, stops, verdicts


@given(curves(st.floats(-1, 1)), st.integers(1, 5), st.floats(0, 0.5), st.booleans())
def test_patience_by_hand(points: list[Point], checks: int, min_delta: float, relative: bool) -> None:
    expected, reference, waited = [], None, 0
    for point in points:
        margin = min_delta * abs(reference) if relative and reference is not None else min_delta
        if reference is None or reference - point.loss > margin or point.loss < reference - margin:
            reference, waited = point.loss, 0
        else:
            waited += 1
        expected.append(waited >= checks)
    assert stops(ft.Patience(checks, min_delta, relative), points) == expected


@given(curves(st.floats(-1, 1) | st.just(math.nan)), st.integers(1, 5))
def test_patience_without_a_margin_counts_what_the_curve_counts(points: list[Point], checks: int) -> None:
    curve, expected = Curve(), []
    for point in points:
        curve.append(*point)
        expected.append(curve.checks_since_improvement >= checks)
    assert stops(ft.Patience(checks), points) == expected


def test_small_gains_add_up_to_one() -> None:
    points = [Point(step, 1 - 0.04 * step, 0.0) for step in range(1, 20)]
    assert not any(stops(ft.Patience(3, min_delta=0.1), points))
    assert any(stops(ft.Patience(2, min_delta=0.1), points))


def test_a_tie_is_no_improvement() -> None:
    assert stops(ft.Patience(2), [Point(step, 0.5, 0.0) for step in (1, 2, 3)]) == [False, False, True]


@given(curves(), st.floats(0, 1))
def test_threshold_and_divergence_look_at_the_newest_point(points: list[Point], limit: float) -> None:
    assert stops(ft.Threshold(limit), points) == [point.loss <= limit for point in points]
    assert stops(ft.Divergence(limit), points) == [point.loss > limit for point in points]


@given(curves(), st.integers(1, 60), st.floats(0.01, 60))
def test_limits_of_epochs_and_time(points: list[Point], epochs: int, seconds: float) -> None:
    assert stops(ft.EpochLimit(epochs), points) == [point.step >= epochs for point in points]
    assert stops(ft.TimeLimit(seconds), points) == [point.seconds >= seconds for point in points]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (ft.Threshold(-0.5), "Stop: m 0.75 reached the threshold -0.5 at epoch 3"),
        (ft.Divergence(0.9), "Stop: m 0.75 is under the limit 0.9 at epoch 3"),
        (ft.EpochLimit(3), "Stop: epoch 3 reached the limit of 3 epochs"),
        (ft.TimeLimit(60), "Stop: trained for 1 min 30 s, the limit is 1 min, at epoch 3"),
        (ft.Patience(1), "Stop: m has not beaten 0.9 for 1 checks, at epoch 3"),
        (
            ft.Patience(1, 0.1, relative=True),
            "Stop: m has not beaten 0.9 by more than 0.1 of it for 1 checks, at epoch 3",
        ),
    ],
)
def test_reasons_are_in_the_users_units(rule: ft.Patience, text: str) -> None:
    points = [Point(1, -0.9, 10.0), Point(3, -0.75, 90.0)]
    assert str(verdicts(rule, points, "maximize")[-1]) == text
