"""Forecast: a run ends when its curve leaves hardly a chance of anything better."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell as ft
from foretell.curve import Curve
from foretell.objective import Objective
from foretell.stopping import RunContext
from foretell.stopping.forecast import Forecast
from foretell.trial import Verdict


def first_stop(rule: Forecast, values: list[float], horizon: int | None, *, scores: bool = False) -> Verdict | None:
    objective, curve = Objective("m", "maximize" if scores else "minimize"), Curve()
    for step, value in enumerate(values, start=1):
        curve.append(step, objective.loss(value), float(step))
        verdict = rule.check(curve, None, RunContext(objective, horizon))
        if verdict.stop:
            return verdict
    return None


def overfitting() -> list[float]:
    epochs = np.arange(1, 61)
    return (0.3 + epochs**-1.0 + 0.02 * np.maximum(0, epochs - 15)).tolist()


def falling() -> list[float]:
    return (0.3 + np.arange(1, 61) ** -0.5).tolist()


def test_a_run_that_overfits_is_ended_and_one_that_falls_is_not() -> None:
    verdict = first_stop(Forecast(), overfitting(), 60)
    assert verdict is not None and verdict.step is not None
    assert 15 < verdict.step < 45
    assert first_stop(Forecast(), falling(), 60) is None


def test_a_verdict_says_the_chance_and_what_it_is_held_against() -> None:
    verdict = first_stop(Forecast(0.1, 0.001), overfitting(), 60)
    assert verdict is not None
    assert (verdict.rule, verdict.limit) == ("forecast", 0.1)
    assert verdict.value is not None and 0 <= verdict.value < 0.1
    assert "the chance that m still beats 0.3667 by 0.001 until epoch 60 is" in verdict.reason


def test_scores_are_judged_as_losses_are() -> None:
    down, up = (
        first_stop(Forecast(), overfitting(), 60),
        first_stop(Forecast(), [-v for v in overfitting()], 60, scores=True),
    )
    assert down is not None and up is not None
    assert (down.step, down.value) == (up.step, up.value)


def test_a_mark_beyond_reach_ends_a_run_that_falls() -> None:
    reachable, beyond = Forecast(beat=0.45), Forecast(beat=0.05)
    assert first_stop(reachable, falling(), 60) is None
    assert first_stop(beyond, falling(), 60) is not None


@given(st.lists(st.floats(0, 1), max_size=12))
def test_without_a_horizon_it_abstains(values: list[float]) -> None:
    assert first_stop(Forecast(0.9), values, None) is None


def test_it_abstains_where_it_has_been_wrong() -> None:
    """A fall that nothing announced: the model that did not foresee it is not believed at once."""
    values = [1.0] * 20 + [0.2, 0.19]
    assert first_stop(Forecast(0.05, min_points=22), values, 40) is None


def test_a_run_is_ended_by_it() -> None:
    run = ft.Run(minimize="loss", stopping=Forecast())
    values = overfitting()
    for epoch in run.epochs(60):
        run.report(loss=values[epoch])
    assert run.verdict.rule == "forecast" and run.step < 60


@pytest.mark.parametrize("settings", [{"chance": 0.0}, {"chance": 1.0}, {"delta": -1.0}, {"min_points": 1}])
def test_settings_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Forecast"):
        Forecast(**settings)  # type: ignore[arg-type]
