"""Threshold: fixed, held, and moving."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.curve import Curve
from foretell.stopping.threshold import Threshold
from tests.stopping.curves import sentence, stop, verdicts

VALUES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan, math.inf, -math.inf]), max_size=20)


@given(VALUES, st.integers(1, 4), st.booleans())
def test_it_stops_where_the_target_was_held_for_so_many_checks(values: list[float], held: int, scores: bool) -> None:
    good = [math.isfinite(value) and (value >= 0.5 if scores else value <= 0.5) for value in values]
    expected = [index + 1 >= held and all(good[index + 1 - held : index + 1]) for index in range(len(values))]
    assert [verdict.stop for verdict in verdicts(Threshold(0.5, held), values, scores=scores)] == expected


def falling(curve: Curve) -> float:
    return 1.0 - 0.1 * curve.last.step


def half_of_the_first(curve: Curve) -> float:
    return 0.5 * float(curve.losses[0]) if len(curve) > 1 else math.nan


def test_a_limit_can_follow_the_epoch() -> None:
    assert stop(Threshold(falling), [0.95, 0.85, 0.75, 0.55, 0.45]) == 3
    assert stop(Threshold(falling), [0.1, 0.2, 0.9], scores=True) == 2


def test_a_limit_can_follow_the_run_and_abstain() -> None:
    assert stop(Threshold(half_of_the_first), [-8.0, -3.0]) is None
    assert stop(Threshold(half_of_the_first), [8.0, 5.0, 4.0, 3.0]) == 2
    assert stop(Threshold(half_of_the_first), [1e-9, 1.0, 1.0]) is None


def test_what_was_held_is_judged_by_the_limit_as_it_now_stands() -> None:
    assert stop(Threshold(falling, held=2), [0.75, 0.75]) == 1
    assert stop(Threshold(falling, held=2), [0.85, 0.75, 0.59, 0.55]) == 3


def test_settings_travel() -> None:
    rule = Threshold(falling, held=2)
    assert pickle.loads(pickle.dumps(rule)) == rule


def test_sentences() -> None:
    assert sentence(Threshold(0.5), [0.75, 0.4567891]) == "Stop: m 0.4568 reached the threshold 0.5 at epoch 2"
    held = "Stop: m 0.3 reached the threshold 0.5 for 2 checks in a row at epoch 3"
    assert sentence(Threshold(0.5, held=2), [0.75, 0.4, 0.3]) == held
    assert verdicts(Threshold(falling), [0.75, 0.75, 0.65])[-1].limit == pytest.approx(0.7)


@pytest.mark.parametrize(("limit", "held"), [(math.nan, 1), (math.inf, 1), (0.5, 0), (0.5, 1.5)])
def test_settings_that_make_no_sense(limit: float, held: int) -> None:
    with pytest.raises(ValueError, match="Threshold"):
        Threshold(limit, held)
