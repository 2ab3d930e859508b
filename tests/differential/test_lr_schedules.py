"""Schedules and adaptive rates against the living libraries: the same rate at every step, to 1e-7."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.lr import AdaptiveRate
from foretell.lr.greedy import Greedy
from foretell.lr.plateau import Plateau
from tests.differential.lr_schedules import (
    LIBRARIES,
    Moves,
    greedy,
    keras_plateau,
    optax_plateau,
    torch_plateau,
)
from tests.lr.golden import RECORDED, SCHEDULES, STEPS

PAIRS = [(library, case) for library, cases in LIBRARIES.items() for case in cases]
EVERY = list(range(61))


def test_every_case_is_compared() -> None:
    assert set(PAIRS) == set(RECORDED)
    assert {case for _, case in PAIRS} == set(SCHEDULES)


@pytest.mark.parametrize(("library", "case"), PAIRS)
def test_the_schedule_is_the_library_s(library: str, case: str) -> None:
    found = LIBRARIES[library][case](EVERY)
    assert [SCHEDULES[case](step) for step in EVERY] == pytest.approx(found, abs=1e-7, rel=0)
    assert [found[step] for step in STEPS] == pytest.approx(RECORDED[library, case], abs=1e-7, rel=0)


# Few different values, so that ties and gains equal to the threshold are common; exact in float32, as Keras rounds.
LOSSES = st.lists(st.integers(1, 16).map(lambda eighths: eighths / 8), max_size=40)
ODD = st.lists(st.integers(1, 16).map(lambda eighths: eighths / 8) | st.sampled_from([math.nan, math.inf]), max_size=40)
SETTINGS = st.fixed_dictionaries(
    {"patience": st.integers(1, 4), "threshold": st.sampled_from([0.125, 0.25, 1e-4]), "cooldown": st.integers(0, 3)}
)


def rates(rule: AdaptiveRate, losses: list[float]) -> list[float]:
    """The rate after each loss."""
    state, found = rule.init(), []
    for loss in losses:
        state = rule.update(state, loss)
        found.append(rule.rate(state))
    return found


@pytest.mark.parametrize(("dialect", "drive"), [("torch", torch_plateau), ("optax", optax_plateau)])
@settings(max_examples=30)  # optax compiles anew for every setting
@given(losses=ODD, given=SETTINGS, relative=st.booleans())
def test_the_plateau_is_the_library_s(
    dialect: str, drive: Moves, losses: list[float], given: dict[str, Any], relative: bool
) -> None:
    rule = Plateau(1.0, 0.5, relative=relative, min_lr=0.1, dialect=dialect, **given)
    assert rates(rule, losses) == pytest.approx(drive(losses, {**given, "relative": relative}), abs=1e-7)


@settings(max_examples=60)
@given(losses=LOSSES, given=SETTINGS)
def test_the_plateau_is_keras_s(losses: list[float], given: dict[str, Any]) -> None:
    # Without NaN: Keras keeps a NaN that comes first as its best for ever, and we do not.
    rule = Plateau(1.0, 0.5, relative=False, min_lr=0.1, dialect="keras", **given)
    assert rates(rule, losses) == pytest.approx(keras_plateau(losses, given), abs=1e-7)


@settings(max_examples=100)
@given(losses=LOSSES, given=SETTINGS, window=st.integers(1, 3), reset=st.none() | st.integers(1, 3))
def test_greedy_is_the_library_s(losses: list[float], given: dict[str, Any], window: int, reset: int | None) -> None:
    rule = Greedy(1.0, 4.0, min_lr=0.125, factor=0.5, window=window, reset=reset, **given)
    assert rates(rule, losses) == greedy(losses, {**given, "window": window, "reset": reset})
