"""Curve against lists and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.curve import Curve, Point

LOSSES = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, -1.0]), st.sampled_from([math.nan, math.inf, -math.inf])
)
POINTS = st.lists(st.tuples(st.integers(1, 5), LOSSES, st.floats(0, 1e6)), max_size=40)


def points_of(gaps: list[tuple[int, float, float]]) -> list[Point]:
    """Points whose steps increase by the gaps drawn."""
    steps = np.cumsum([gap for gap, _, _ in gaps]).tolist()
    return [Point(step, loss, seconds) for step, (_, loss, seconds) in zip(steps, gaps, strict=True)]


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


@given(POINTS)
def test_a_curve_says_what_a_list_of_points_says(gaps: list[tuple[int, float, float]]) -> None:
    points = points_of(gaps)
    curve = Curve()
    for count, point in enumerate(points, 1):
        curve.append(*point)
        finite = [p.loss for p in points[:count] if math.isfinite(p.loss)]
        assert len(curve) == count
        assert curve.best == min(finite, default=math.inf)
        best_step = next((p.step for p in points[:count] if p.loss == curve.best and finite), None)
        assert curve.best_step == best_step
        after = [p for p in points[:count] if best_step is None or p.step > best_step]
        assert curve.checks_since_improvement == len(after)
        assert repr(curve.last) == repr(point)
    assert repr(list(curve)) == repr(points)
    assert repr([curve[index] for index in range(-len(points), 0)]) == repr(points)
    assert curve.steps.tolist() == [p.step for p in points] and curve.steps.dtype == np.int64
    np.testing.assert_array_equal(curve.losses, [p.loss for p in points])
    np.testing.assert_array_equal(curve.seconds, [p.seconds for p in points])
    lowest, expected = math.inf, []
    for p in points:
        lowest = p.loss if math.isfinite(p.loss) and p.loss < lowest else lowest
        expected.append(lowest)
    np.testing.assert_array_equal(curve.best_so_far, expected)


@given(POINTS, st.integers(-1, 220))
def test_what_lies_at_a_step_and_before_it(gaps: list[tuple[int, float, float]], step: int) -> None:
    points = points_of(gaps)
    curve, before = Curve(points), [p for p in points if p.step <= step]
    assert same(curve.at(step), before[-1].loss if before else math.nan)
    assert repr(list(curve.truncate(step))) == repr(before)
    assert len(curve) == len(points)


@given(POINTS, st.integers(0, 50))
def test_the_tail_is_the_end_of_the_losses(gaps: list[tuple[int, float, float]], count: int) -> None:
    points = points_of(gaps)
    expected = [p.loss for p in points][max(0, len(points) - count) :]
    np.testing.assert_array_equal(Curve(points).tail(count), expected)


def test_a_truncated_curve_grows_on_its_own() -> None:
    curve = Curve([(1, 3.0, 0.0), (2, 2.0, 0.0), (3, 1.0, 0.0)])
    shorter = curve.truncate(2)
    shorter.append(3, 5.0)
    assert curve.losses.tolist() == [3.0, 2.0, 1.0]
    assert shorter.losses.tolist() == [3.0, 2.0, 5.0] and shorter.best == 2.0


def test_an_array_taken_earlier_does_not_change_when_the_curve_grows() -> None:
    curve = Curve((step, float(step), 0.0) for step in range(1, 9))
    early = curve.losses
    for step in range(9, 40):
        curve.append(step, -1.0)
    assert early.tolist() == [float(step) for step in range(1, 9)]


@pytest.mark.parametrize("name", ["losses", "seconds"])
def test_views_cannot_be_written_to(name: str) -> None:
    view = getattr(Curve([(1, 1.0, 1.0)]), name)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 0.0


@pytest.mark.parametrize("index", [1, -2])
def test_a_point_that_is_not_there(index: int) -> None:
    with pytest.raises(IndexError, match="1 points"):
        Curve([(1, 1.0, 0.0)])[index]


def test_steps_that_do_not_increase_are_our_mistake() -> None:
    with pytest.raises(AssertionError):
        Curve([(2, 1.0, 0.0), (2, 0.5, 0.0)])


def test_what_a_curve_looks_like() -> None:
    assert repr(Curve()) == "Curve(empty)"
    assert repr(Curve([(1, 0.25, 0.0)])) == "Curve(1 points, best 0.25)"
