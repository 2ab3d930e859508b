"""What every stopping rule promises, and the algebra that combines them against a reference by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell as ft
from foretell import _family
from foretell.curve import Curve, Point
from foretell.objective import Objective
from foretell.stopping import AllOf, AnyOf, RunContext, StoppingRule
from foretell.trial import Verdict

HORIZON = 40
MADE: dict[str, Callable[[int], list[StoppingRule]]] = {
    "calibrated_threshold": lambda sign: [made("calibrated_threshold", *sorted([sign * 0.2] * 3), sample_size=60)],
    "divergence": lambda sign: [ft.Divergence(sign * 0.8)],
    "epoch_limit": lambda sign: [ft.EpochLimit(1), ft.EpochLimit(7)],
    "goal_reached": lambda sign: [made("goal_reached", sign * 0.3, checks=2)],
    "hopeless": lambda sign: [made("hopeless", sign * 0.6, checks=2)],
    "patience": lambda sign: [ft.Patience(1), ft.Patience(3), ft.Patience(2, min_delta=0.1),
                              ft.Patience(2, min_delta=0.05, relative=True)],
    "patience_like": lambda sign: [made("patience_like", name, 3) for name in ("keras", "lightning", "ignite")],
    "relative_change": lambda sign: [made("relative_change", 0.05, 2)],
    "threshold": lambda sign: [ft.Threshold(sign * 0.2)],
    "time_limit": lambda sign: [ft.TimeLimit(9.0)],
}  # fmt: skip
"""Settings by member, for losses of 0 to 1; `sign` is -1 where the metric is maximised. Others take their defaults."""


def made(name: str, *settings: Any, **named: Any) -> Any:
    return _family.load("stopping", name)(*settings, **named)


LOSSES = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])
ODD = st.sampled_from([math.nan, math.inf, -math.inf])


def rules_of(name: str, sign: int = 1) -> list[StoppingRule]:
    try:
        return MADE[name](sign) if name in MADE else [made(name)]
    except TypeError as error:
        raise TypeError(f"Give {name} settings to be tested with: a line in MADE. {error}") from error


def every_rule(sign: int = 1) -> list[StoppingRule]:
    single = [rule for name in _family.names("stopping") for rule in rules_of(name, sign)]
    patience, threshold = ft.Patience(2), ft.Threshold(sign * 0.2)
    joined = [patience | threshold, patience & ft.EpochLimit(5), ft.after(4, patience), ft.every(3, threshold),
              ft.after(2, ft.every(2, patience)) | (ft.EpochLimit(12) & threshold)]  # fmt: skip
    return [*single, *joined]


def curves(losses: st.SearchStrategy[float] = LOSSES) -> st.SearchStrategy[list[Point]]:
    """Points with gaps between their steps and seconds that grow."""
    rows = st.lists(st.tuples(st.integers(1, 3), losses, st.floats(0, 2)), max_size=25)

    def points(drawn: list[tuple[int, float, float]]) -> list[Point]:
        step, seconds, found = 0, 0.0, []
        for gap, loss, more in drawn:
            step, seconds = step + gap, seconds + more
            found.append(Point(step, loss, seconds))
        return found

    return rows.map(points)


def verdicts(rule: StoppingRule, points: Sequence[Point], direction: Any = "minimize") -> list[Verdict]:
    """What the rule says after each point."""
    curve, state, found = Curve(), rule.init(), []
    for point in points:
        curve.append(*point)
        state = rule.update(state, point)
        found.append(rule.check(curve, state, RunContext(Objective("m", direction), HORIZON)))
    return found


def stops(rule: StoppingRule, points: Sequence[Point]) -> list[bool]:
    return [verdict.stop for verdict in verdicts(rule, points)]


ALL = every_rule()


@pytest.mark.parametrize("name", _family.names("stopping"))
def test_a_member_is_a_frozen_rule_that_can_be_compared(name: str) -> None:
    for rule, twin in zip(rules_of(name), rules_of(name), strict=True):
        assert rule == twin and hash(rule) == hash(twin) and repr(rule).startswith(type(rule).__name__)
        with pytest.raises(AttributeError):
            rule.unheard_of = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("rule", ALL, ids=repr)
@settings(max_examples=25)
@given(points=curves(LOSSES | ODD), cut=st.integers(0, 25))
def test_the_state_is_json_and_survives_it_at_any_point(rule: StoppingRule, points: list[Point], cut: int) -> None:
    expected = verdicts(rule, points)
    curve, state = Curve(), rule.init()
    for index, point in enumerate(points):
        if index == cut:
            state = json.loads(json.dumps(state))
        curve.append(*point)
        state = rule.update(state, point)
        found = rule.check(curve, state, RunContext(Objective("m"), HORIZON))
        assert repr(found) == repr(expected[index])


@pytest.mark.parametrize("rule", ALL, ids=repr)
@settings(max_examples=25)
@given(points=curves(LOSSES | ODD))
def test_a_verdict_that_stops_says_who_why_and_when(rule: StoppingRule, points: list[Point]) -> None:
    before = repr(rule)
    for point, verdict in zip(points, verdicts(rule, points), strict=True):
        assert verdict.action in ("continue", "stop")
        if verdict.stop:
            assert verdict.rule and verdict.reason and verdict.step == point.step
            assert f"epoch {point.step}" in verdict.reason
            assert verdict.value is None or isinstance(verdict.value, float)
            json.dumps(verdict.to_json())
    assert repr(rule) == before


@pytest.mark.parametrize(("rule", "mirror"), [*zip(every_rule(1), every_rule(-1), strict=True)], ids=repr)
@settings(max_examples=25)
@given(points=curves())
def test_what_is_maximised_is_judged_as_its_mirror(
    rule: StoppingRule, mirror: StoppingRule, points: list[Point]
) -> None:
    found, mirrored = verdicts(rule, points), verdicts(mirror, points, "maximize")
    assert [(v.action, v.rule, v.step) for v in found] == [(v.action, v.rule, v.step) for v in mirrored]


@pytest.mark.parametrize("name", _family.names("stopping"))
def test_a_member_stops_some_curve_and_lets_another_go(name: str) -> None:
    steep = [Point(step, 1 / step**2, 0.01 * step) for step in range(1, 5)]
    flat = [Point(step, 0.9, 5.0 * step) for step in range(1, 41)]
    rising = [Point(step, 0.1 + 0.02 * step, 0.01 * step) for step in range(1, 41)]
    for rule in rules_of(name):
        assert any(any(stops(rule, points)) for points in (steep, flat, rising)), f"{rule} never stops"
    assert not all(all(stops(rule, points)) for rule in rules_of(name) for points in (steep, flat, rising))


@pytest.mark.parametrize("rule", [ft.Patience(2), ft.Patience(3, min_delta=0.1), ft.Threshold(0.2)], ids=repr)
@settings(max_examples=50)
@given(points=curves(LOSSES | st.just(math.nan)))
def test_nan_is_as_good_as_the_worst(rule: StoppingRule, points: list[Point]) -> None:
    worst = [Point(p.step, math.inf if math.isnan(p.loss) else p.loss, p.seconds) for p in points]
    assert stops(rule, points) == stops(rule, worst)


# ---------------------------------------------------------------------- the algebra

PARTS = st.sampled_from([ft.Patience(1), ft.Patience(3), ft.Threshold(0.3), ft.EpochLimit(6), ft.Divergence(0.7)])


@given(PARTS, PARTS, curves())
def test_or_stops_when_either_does(one: StoppingRule, other: StoppingRule, points: list[Point]) -> None:
    expected = [a or b for a, b in zip(stops(one, points), stops(other, points), strict=True)]
    assert stops(one | other, points) == expected
    first = [a if a.stop else b for a, b in zip(verdicts(one, points), verdicts(other, points), strict=True)]
    assert verdicts(one | other, points) == first


@given(PARTS, PARTS, curves())
def test_and_stops_when_both_do(one: StoppingRule, other: StoppingRule, points: list[Point]) -> None:
    expected = [a and b for a, b in zip(stops(one, points), stops(other, points), strict=True)]
    assert stops(one & other, points) == expected
    for verdict in verdicts(one & other, points):
        assert not verdict.stop or " and " in verdict.reason


@given(PARTS, curves(), st.data())
def test_after_hides_the_first_steps(rule: StoppingRule, points: list[Point], data: st.DataObject) -> None:
    step = data.draw(st.sampled_from([point.step for point in points] or [0]) | st.integers(0, 30))
    seen = [point for point in points if point.step > step]
    assert stops(ft.after(step, rule), points) == [False] * (len(points) - len(seen)) + stops(rule, seen)


def test_after_a_step_begins_with_the_next() -> None:
    points = [Point(step, 0.1, 0.0) for step in range(1, 5)]
    assert stops(ft.after(2, ft.Threshold(0.2)), points) == [False, False, True, True]


@given(PARTS, st.integers(1, 6), curves())
def test_every_shows_each_nth_check(rule: StoppingRule, checks: int, points: list[Point]) -> None:
    shown = iter(stops(rule, points[checks - 1 :: checks]))
    expected = [next(shown) if number % checks == 0 else False for number in range(1, len(points) + 1)]
    assert stops(ft.every(checks, rule), points) == expected


@given(PARTS, PARTS, PARTS, curves())
def test_rules_of_rules(a: StoppingRule, b: StoppingRule, c: StoppingRule, points: list[Point]) -> None:
    said = [*zip(stops(a, points), stops(b, points), stops(c, points), strict=True)]
    assert stops(a | b & c, points) == [x or (y and z) for x, y, z in said]
    assert stops((a | b) & c, points) == [(x or y) and z for x, y, z in said]


def test_chains_are_flat() -> None:
    a, b, c = ft.Patience(1), ft.Threshold(0.1), ft.EpochLimit(3)
    assert a | b | c == AnyOf((a, b, c)) == a | (b | c)
    assert a & b & c == AllOf((a, b, c)) == a & (b & c)


@pytest.mark.parametrize("other", [None, 3, "patience", ft.Patience])
def test_what_cannot_be_combined(other: Any) -> None:
    for combine in (lambda: ft.Patience(3) | other, lambda: ft.Patience(3) & other):
        with pytest.raises(TypeError, match=r"ft\.Patience"):
            combine()


@pytest.mark.parametrize(
    "make",
    [lambda: ft.after(-1, ft.Patience(1)), lambda: ft.every(0, ft.Patience(1)), lambda: ft.Patience(0),
     lambda: ft.Patience(1.5), lambda: ft.Patience(3, min_delta=-1), lambda: ft.Patience(3, min_delta=math.nan),
     lambda: ft.Threshold(math.nan), lambda: ft.Divergence(math.inf), lambda: ft.EpochLimit(0),
     lambda: ft.TimeLimit(0), lambda: ft.TimeLimit(math.nan)],
)  # fmt: skip
def test_settings_that_make_no_sense(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        make()
