"""What every schedule and every adaptive rate promises, and the algebra that combines schedules."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import _family
from foretell.lr import AdaptiveRate, LRSchedule, curve, from_json, warmup
from foretell.lr.constant import Constant
from foretell.lr.cosine import Cosine
from foretell.lr.cosine_restarts import CosineRestarts
from foretell.lr.exponential import Exponential
from foretell.lr.gradient_norm import GradientNorm
from foretell.lr.greedy import Greedy
from foretell.lr.inverse_time import InverseTime
from foretell.lr.linear import Linear
from foretell.lr.one_cycle import OneCycle
from foretell.lr.piecewise import Piecewise
from foretell.lr.plateau import Plateau
from foretell.lr.polynomial import Polynomial
from foretell.lr.step import Step
from foretell.lr.wsd import WSD

LENGTH = 40.0  # of the run that the schedules below were made for
SCHEDULES: dict[str, list[LRSchedule]] = {
    "constant": [Constant(0.1), Constant(0.0)],
    "cosine": [Cosine(0.1, LENGTH), Cosine(0.1, LENGTH, end=0.01), Cosine(0.1, LENGTH, after="climb")],
    "cosine_restarts": [CosineRestarts(0.1, 10), CosineRestarts(0.1, 4, multiplier=1.7, peak_factor=0.5, end=0.01)],
    "exponential": [Exponential(0.1, 0.9), Exponential(0.1, 1.0), Exponential(0.1, 0.5, steps=7, staircase=True)],
    "inverse_time": [InverseTime(0.1, 0.3), InverseTime(0.1, 0.0), InverseTime(0.1, 2.0, steps=0.5, staircase=True)],
    "linear": [Linear(0.1, LENGTH), Linear(0.01, LENGTH, end=0.1)],
    "one_cycle": [OneCycle(0.1, LENGTH), OneCycle(0.1, LENGTH, pct_start=0.25, pct_back=0.5, anneal="linear"),
                  OneCycle(0.1, LENGTH, dialect="optax"), OneCycle(0.1, LENGTH, pct_start=0.0)],
    "piecewise": [Piecewise((10, 25.5), (0.1, 0.03, 0.01)), Piecewise((10,), (0.1, 0.2), at_boundary="old")],
    "polynomial": [Polynomial(0.1, LENGTH, power=2), Polynomial(0.1, LENGTH, end=0.02, power=0.5)],
    "step": [Step(0.1, 7), Step(0.1, 12.5, factor=0.5)],
    "wsd": [WSD(0.1, LENGTH), WSD(0.1, LENGTH, warmup=5, decay=0.3, shape="sqrt", end=0.01),
            WSD(0.1, LENGTH, warmup=20, decay=0.5, shape="cosine", start=0.02), WSD(0.1, LENGTH, decay=1.0)],
}  # fmt: skip
ADAPTIVE: dict[str, list[AdaptiveRate]] = {
    "gradient_norm": [GradientNorm(0.1), GradientNorm(0.1, 0.3, reading="accumulated"),
                      GradientNorm(2.0, reading="accumulated", power=0.5)],
    "greedy": [Greedy(0.1, 1.0, patience=1), Greedy(0.1, 1.0, factor=0.5, patience=0, cooldown=2, window=3),
               Greedy(0.1, 1.0, min_lr=0.05, factor=0.5, patience=1, reset=2)],
    "plateau": [Plateau(0.1, 0.5, patience=1), Plateau(0.1, 0.5, patience=2, dialect="keras", cooldown=2),
                Plateau(0.1, 0.5, patience=1, dialect="optax", cooldown=1, min_lr=0.02, relative=False)],
}  # fmt: skip
NEITHER = {"range_test"}

COMPOSED: list[LRSchedule] = [
    warmup(5, Cosine(0.1, LENGTH - 5)),
    warmup(5, Cosine(0.1, LENGTH), start=0.01, kind="cosine", shift=False),
    Constant(0.1).then(30, Linear(0.1, 10)),
    warmup(3, Step(0.1, 10), kind="sqrt").then(20, warmup(4, Cosine(0.05, 16))),
]
PLAIN = [schedule for members in SCHEDULES.values() for schedule in members]
ALL = [*PLAIN, *COMPOSED]
RATES = [rate for members in ADAPTIVE.values() for rate in members]
STEPS = st.floats(0, 2.5 * LENGTH) | st.integers(0, 100).map(float)


def test_every_member_is_of_one_kind() -> None:
    assert sorted([*SCHEDULES, *ADAPTIVE, *NEITHER]) == _family.names("lr")
    for name, members in (SCHEDULES | ADAPTIVE).items():
        assert {type(member) for member in members} == {_family.load("lr", name)}


@pytest.mark.parametrize("member", [*ALL, *RATES], ids=repr)
def test_a_member_is_frozen_and_comes_back_from_json(member: Any) -> None:
    twin = from_json(json.loads(json.dumps(member.to_json())))
    assert twin == member and hash(twin) == hash(member) and repr(twin) == repr(member)
    with pytest.raises(AttributeError):
        member.unheard_of = 1


# ---------------------------------------------------------------------- schedules


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@settings(max_examples=25)
@given(step=STEPS)
def test_a_rate_is_a_plain_number_at_any_step(schedule: LRSchedule, step: float) -> None:
    for at in (step, 0.0, 1e9):
        rate = schedule(at)
        assert type(rate) is float and math.isfinite(rate) and rate >= 0
        assert schedule(at) == rate


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_whole_steps_may_be_integers(schedule: LRSchedule) -> None:
    assert [schedule(step) for step in range(60)] == [schedule(float(step)) for step in range(60)]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_the_area_is_the_integral_of_the_rate(schedule: LRSchedule) -> None:
    width = 0.005
    middles = np.arange(width / 2, 2.5 * LENGTH, width)
    summed = np.concatenate([[0.0], np.cumsum(curve(schedule, middles) * width)])
    for step in (0.0, 0.5, 3.0, 12.25, 25.5, 30.0, 38.5, 40.0, 41.0, 80.0, 100.0):
        assert schedule.area(step) == pytest.approx(summed[round(step / width)], rel=1e-4, abs=2e-4)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@settings(max_examples=25)
@given(one=STEPS, other=STEPS)
def test_areas_and_positions_never_fall(schedule: LRSchedule, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert schedule.area(low) <= schedule.area(high) * (1 + 1e-12) + 1e-15
    positions = [schedule.position(step, LENGTH) for step in (0.0, low, high, 3 * LENGTH)]
    assert positions[0] == 0 and positions[-1] == 1
    assert positions[1] <= positions[2] + 1e-12 and 0 <= positions[1] <= 1


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_what_is_stretched_keeps_its_positions(schedule: LRSchedule) -> None:
    same = schedule.stretch(LENGTH, planned=LENGTH)
    assert curve(same, range(60)) == pytest.approx(curve(schedule, range(60)), rel=1e-12)
    long = schedule.stretch(2.5 * LENGTH, planned=LENGTH)
    if schedule.horizon is not None:
        assert long.horizon == pytest.approx(2.5 * schedule.horizon)
        assert long == schedule.stretch(2.5 * LENGTH)
    # A warm-up keeps its length, and PyTorch's one-cycle counts from one: those are not the same curve in other time.
    if not any(word in repr(schedule) for word in ("Warmup", "warmup=5", "warmup=20", "torch")):
        for step in np.arange(0.25, LENGTH):
            assert long(2.5 * step) == pytest.approx(schedule(step), rel=1e-9, abs=1e-12)
            expected = schedule.position(step, LENGTH)
            assert long.position(2.5 * step, 2.5 * LENGTH) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_who_has_no_length_is_told_to_give_one(schedule: LRSchedule) -> None:
    if schedule.horizon is not None:
        assert schedule.horizon == LENGTH and schedule.position(LENGTH) == 1
        return
    with pytest.raises(ValueError, match=r"position\(step, horizon\)"):
        schedule.position(3)
    if type(schedule) is not Constant:
        with pytest.raises(ValueError, match="planned="):
            schedule.stretch(80)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_lengths_that_make_no_sense(wrong: float) -> None:
    for call in (lambda: Cosine(0.1, 10).stretch(wrong), lambda: Cosine(0.1, 10).position(3, wrong),
                 lambda: Step(0.1, 10).stretch(20, planned=wrong)):  # fmt: skip
        with pytest.raises(ValueError, match="above 0"):
            call()


# ---------------------------------------------------------------------- the algebra


@pytest.mark.parametrize(("first", "other"), [*itertools.pairwise(PLAIN)])
def test_then_counts_from_the_switch(first: LRSchedule, other: LRSchedule) -> None:
    both = first.then(17.5, other)
    for step in np.arange(0, 60, 0.5):
        assert both(step) == (first(step) if step < 17.5 else other(step - 17.5))
    assert both.horizon == (None if other.horizon is None else 17.5 + other.horizon)


@pytest.mark.parametrize("schedule", PLAIN, ids=repr)
def test_warmup_leads_to_the_first_rate(schedule: LRSchedule) -> None:
    warm, covered = warmup(8, schedule, start=0.02), warmup(8, schedule, start=0.02, shift=False)
    assert warm(0) == 0.02 and warm(4) == pytest.approx((0.02 + schedule(0)) / 2)
    for step in np.arange(8, 60, 0.5):
        assert warm(step) == schedule(step - 8) and covered(step) == schedule(step)


def test_a_warmup_keeps_its_length() -> None:
    schedule = warmup(5, Cosine(0.1, 35))
    assert schedule.stretch(105) == warmup(5, Cosine(0.1, 100.0))
    with pytest.raises(ValueError, match="does not fit a run of 4"):
        schedule.stretch(4)


def test_a_stable_phase_can_grow_without_a_jump() -> None:
    short, long = WSD(0.1, 40, warmup=5), WSD(0.1, 40, warmup=5).stretch(400)
    assert [short(step) for step in range(37)] == [long(step) for step in range(37)]


def test_switches_move_with_the_run() -> None:
    schedule = Constant(0.1).then(30, Linear(0.1, 10))
    assert schedule.stretch(80) == Constant(0.1).then(60.0, Linear(0.1, 20.0))
    with pytest.raises(ValueError, match="ends before the switch at 30"):
        schedule.stretch(10, planned=20)


@pytest.mark.parametrize("other", [None, 3, "cosine", Cosine, lambda step: 0.1])
def test_what_is_no_schedule(other: Any) -> None:
    for combine in (lambda: Constant(0.1).then(3, other), lambda: warmup(3, other)):
        with pytest.raises(TypeError, match="is no schedule"):
            combine()


# ---------------------------------------------------------------------- stored settings


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "cosin", "lr": 0.1}, "Did you mean 'cosine'"),
        ({"lr": 0.1}, "no learning rate None"),
        ("cosine", "no learning rate None"),
        ({"name": "range_test"}, "no learning rate 'range_test'"),
        ({"name": "cosine", "lr": 0.1, "stepz": 3}, "Did you mean 'steps'"),
        ({"name": "cosine", "lr": 0.1}, "cosine needs steps as well"),
        ({"name": "cosine", "lr": -0.1, "steps": 3}, "lr=-0.1"),
        ({"name": "warmup", "steps": 3, "schedule": {"name": "cosin"}}, "Did you mean 'cosine'"),
    ],
)
def test_descriptions_that_describe_nothing(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(data)


def test_a_stranger_cannot_be_stored() -> None:
    class Mine(LRSchedule):
        def __call__(self, step: float) -> float:
            return 0.1

        def area(self, step: float) -> float:
            return 0.1 * step

    assert Mine().then(3, Constant(0.2)).area(5) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="Mine is no member"):
        Mine().then(3, Constant(0.2)).to_json()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(-1), lambda: Constant(math.nan), lambda: Cosine(0.1, 0), lambda: Cosine(0.1, 9, after="down"),
        lambda: CosineRestarts(0.1, 9, multiplier=0.5), lambda: CosineRestarts(0.1, 9, peak_factor=2),
        lambda: CosineRestarts(0.1, 9, end=0.2), lambda: Exponential(0.1, 0), lambda: Exponential(0.1, 1.1),
        lambda: Exponential(0.1, 0.9, steps=-1), lambda: InverseTime(0.1, -1), lambda: Linear(math.inf, 9),
        lambda: OneCycle(0.1, 9, pct_start=1.1), lambda: OneCycle(0.1, 9, pct_back=0.2),
        lambda: OneCycle(0.1, 9, anneal="x"), lambda: OneCycle(0.1, 9, div_factor=0),
        lambda: OneCycle(0.1, 9, dialect="keras"), lambda: Piecewise((3,), (0.1,)),
        lambda: Piecewise((3, 2), (0.1, 0.1, 0.1)), lambda: Piecewise((0,), (0.1, 0.1)),
        lambda: Piecewise((3,), (0.1, -1)), lambda: Piecewise((3,), (0.1, 0.1), at_boundary="x"),
        lambda: Polynomial(0.1, 9, power=0), lambda: Step(0.1, 9, factor=0), lambda: WSD(0.1, 9, decay=2),
        lambda: WSD(0.1, 9, warmup=9), lambda: WSD(0.1, 9, shape="x"), lambda: warmup(0, Constant(0.1)),
        lambda: warmup(3, Constant(0.1), start=-1), lambda: warmup(3, Constant(1), kind="x"),
        lambda: Constant(0.1).then(0, Constant(0.2)), lambda: Plateau(0.1, 1.0), lambda: Plateau(0.1, patience=-1),
        lambda: Plateau(0.1, patience=0, dialect="keras"), lambda: Plateau(0.1, patience=1.5),
        lambda: Plateau(0.1, threshold=-1), lambda: Plateau(0.1, cooldown=-1), lambda: Plateau(0.1, dialect="x"),
        lambda: Plateau(-0.1), lambda: Greedy(0.1, 0.01), lambda: Greedy(0.1, 1, factor=1.5),
        lambda: Greedy(0.1, 1, window=0), lambda: Greedy(0.1, 1, patience=None), lambda: Greedy(0.1, 1, reset=0),
        lambda: Greedy(0.1, 1, threshold=math.nan), lambda: GradientNorm(0), lambda: GradientNorm(0.1, -1),
        lambda: GradientNorm(0.1, reading="x"), lambda: GradientNorm(0.1, power=0),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"\w{3}"):
        make()


# ---------------------------------------------------------------------- adaptive rates

SIGNALS = st.lists(st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.5, math.nan, math.inf]), max_size=40)


@pytest.mark.parametrize("rate", RATES, ids=repr)
@settings(max_examples=25)
@given(signals=SIGNALS, cut=st.integers(0, 40))
def test_the_state_is_json_and_survives_it_at_any_point(rate: AdaptiveRate, signals: list[float], cut: int) -> None:
    straight, cut_state = rate.init(), rate.init()
    for index, signal in enumerate(signals):
        if index == cut:
            cut_state = json.loads(json.dumps(cut_state, allow_nan=False))
        before = json.dumps(straight)
        after = rate.update(straight, signal)
        assert json.dumps(straight) == before, "an old state is left as it was"
        straight, cut_state = after, rate.update(cut_state, signal)
        assert rate.rate(straight) == rate.rate(cut_state)


@pytest.mark.parametrize("rate", RATES, ids=repr)
@settings(max_examples=25)
@given(signals=SIGNALS)
def test_an_adaptive_rate_is_a_plain_positive_number(rate: AdaptiveRate, signals: list[float]) -> None:
    state = rate.init()
    for signal in signals:
        state = rate.update(state, signal)
        found = rate.rate(state)
        assert type(found) is float and math.isfinite(found) and found > 0


@pytest.mark.parametrize("rate", RATES, ids=repr)
def test_an_adaptive_rate_adapts(rate: AdaptiveRate) -> None:
    state, found = rate.init(), set()
    for signal in [1.0] * 12:
        state = rate.update(state, signal)
        found.add(rate.rate(state))
    assert min(found) < rate.rate(rate.init())
