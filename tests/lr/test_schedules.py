"""What is special to one schedule: other libraries' rates, and the formulas by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foretell.lr import curve, warmup
from foretell.lr.constant import Constant
from foretell.lr.cosine import Cosine
from foretell.lr.cosine_restarts import CosineRestarts
from foretell.lr.inverse_time import InverseTime
from foretell.lr.linear import Linear
from foretell.lr.one_cycle import OneCycle
from foretell.lr.piecewise import Piecewise
from foretell.lr.wsd import WSD
from tests.lr.golden import RECORDED, SCHEDULES, STEPS


@pytest.mark.parametrize(("library", "case"), RECORDED)
def test_the_rates_are_the_library_s(library: str, case: str) -> None:
    assert [SCHEDULES[case](step) for step in STEPS] == pytest.approx(RECORDED[library, case], abs=1e-7, rel=0)


def test_a_curve_is_an_array_of_rates() -> None:
    found = curve(Cosine(0.1, 4), (step / 2 for step in range(9)))
    assert found.shape == (9,) and found.dtype == np.float64
    assert found == pytest.approx(0.05 * (1 + np.cos(np.pi * np.arange(9) / 8)))


def test_the_perceptron_s_decay() -> None:
    assert [InverseTime(0.1, 0.5)(epoch) for epoch in (0, 1, 2, 18)] == pytest.approx([0.1, 0.1 / 1.5, 0.05, 0.01])


def test_a_harmonic_sum_of_many_stairs() -> None:
    for decay in (1e-3, 0.1, 3.0):
        schedule = InverseTime(0.1, decay, staircase=True)
        assert schedule.area(5000.25) == pytest.approx(
            math.fsum(schedule(k) for k in range(5000)) + 0.25 * schedule(5000), rel=1e-13
        )


@pytest.mark.parametrize("multiplier", [1, 1.1, 2, 3])
def test_a_restart_begins_at_the_top(multiplier: float) -> None:
    schedule, edge = CosineRestarts(0.1, 7, multiplier=multiplier), 0.0
    for cycle in range(6):
        assert schedule(edge + 1e-9) == pytest.approx(0.1, abs=1e-12)
        edge += 7 * multiplier**cycle
        assert schedule(edge - 1e-4) < 1e-8


def test_cosine_past_its_end() -> None:
    assert Cosine(0.1, 10, end=0.02)(11) == 0.02
    assert Cosine(0.1, 10, end=0.02, after="climb")(20) == pytest.approx(0.1)


def test_piecewise_at_a_boundary() -> None:
    assert Piecewise((3,), (0.1, 0.2))(3) == 0.2
    assert Piecewise([3], [0.1, 0.2], at_boundary="old")(3) == 0.1  # type: ignore[arg-type]


def test_one_cycle_reaches_its_lowest_rate_at_the_last_step_or_behind_it() -> None:
    lowest = 0.1 / 25 / 1e4
    torch, optax = OneCycle(0.1, 20), OneCycle(0.1, 20, dialect="optax")
    assert torch(19) == pytest.approx(lowest, rel=1e-12) and optax(19) > 100 * lowest
    assert optax(20) == torch(99) == pytest.approx(lowest, rel=1e-12)
    assert torch(5) == optax(6) == pytest.approx(0.1)


def test_a_stable_phase_is_exactly_stable() -> None:
    assert set(curve(WSD(0.1, 100, warmup=10, decay=0.2), np.arange(10, 80, 0.25))) == {0.1}


def test_timm_s_warmup_covers_the_schedule() -> None:
    # timm without warmup_prefix: start + step * (lr - start) / steps, and then the cosine as if nothing had been.
    covered = warmup(5, Cosine(0.1, 20), start=0.01, shift=False)
    assert [covered(step) for step in (0, 2, 5, 12)] == pytest.approx(
        [0.01, 0.01 + 2 * 0.018, 0.05 * (1 + math.cos(math.pi / 4)), 0.05 * (1 + math.cos(math.pi * 0.6))]
    )


def test_positions_of_two_lengths_can_be_compared() -> None:
    # By hand: half a cosine has (1/2 + 1/pi) of its area in its first half, a falling line 3/4.
    for steps in (10, 250):
        assert Cosine(0.1, steps).position(steps / 2) == pytest.approx(0.5 + 1 / math.pi)
        assert Linear(0.1, steps).position(steps / 2) == pytest.approx(0.75)
        assert Constant(0.1).position(steps / 2, steps) == 0.5
    # A run that was cut short stands at another position of its plan than one that was planned to be short.
    assert Cosine(0.1, 100).position(50) < Cosine(0.1, 50).position(50) == 1
    assert Constant(0.0).position(3, 12) == 0.25
