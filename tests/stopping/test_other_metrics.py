"""Rules that look at metrics besides the objective: what they decide, and that a resumed run decides alike."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import foretell as ft
from foretell.attempt import attempt
from foretell.curve import Curve, Report
from foretell.errors import MetricError
from foretell.executors import Task, Work
from foretell.objective import Objective
from foretell.run import Run
from foretell.stopping import RunContext, StoppingRule, resumed, saved
from foretell.stopping.goal_reached import GoalReached
from foretell.stopping.hopeless import Hopeless
from foretell.stopping.progress_quotient import ProgressQuotient
from tests.stopping.curves import sentence, stop, verdicts
from tests.test_run_paused import Pausing

SETS = ("val_a", "val_b")
EIGHTHS = st.integers(1, 16).map(lambda number: number / 8)
ROWS = st.lists(st.tuples(EIGHTHS, EIGHTHS, EIGHTHS), max_size=16)
Rows = list[tuple[float, float, float]]


def others(rows: Rows) -> list[dict[str, float]]:
    return [{"val_a": a, "val_b": b} for _, a, b in rows]


def losses(rows: Rows) -> list[float]:
    return [loss for loss, _, _ in rows]


# --- sets side by side ------------------------------------------------------------------------------------------------


@given(ROWS, st.booleans())
def test_the_mean_over_the_sets_at_one_check(rows: Rows, scores: bool) -> None:
    good = verdicts(GoalReached(1.0, metrics=SETS), losses(rows), scores=scores, others=others(rows))
    bad = verdicts(Hopeless(1.0, metrics=SETS), losses(rows), scores=scores, others=others(rows))
    for (_, a, b), one, other in zip(rows, good, bad, strict=True):
        mean = (a + b) / 2
        assert one.stop == (mean >= 1.0 if scores else mean <= 1.0) and other.stop == (not one.stop)
        assert not one.stop or one.value == mean


@given(ROWS, st.integers(1, 3), st.sampled_from([0.4, 0.5, 1.0]))
def test_a_quantile_over_sets_and_checks(rows: Rows, checks: int, quantile: float) -> None:
    said = verdicts(GoalReached(1.0, checks, quantile, metrics=SETS), losses(rows), others=others(rows))
    for index, verdict in enumerate(said):
        pool = [value for _, a, b in rows[max(0, index + 1 - checks) : index + 1] for value in (a, b)]
        share = sum(value <= 1.0 for value in pool) / len(pool)
        assert verdict.stop == (index + 1 >= checks and share >= quantile - 1e-9)


def test_a_set_that_is_not_finite_is_as_bad_as_can_be() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        assert stop(GoalReached(5.0, metrics=SETS), [1.0], others=[{"val_a": bad, "val_b": 0.0}]) is None
        assert stop(Hopeless(-5.0, metrics=SETS), [1.0], scores=True, others=[{"val_a": bad, "val_b": 0.0}]) == 0


def test_a_check_without_one_of_them_does_not_count() -> None:
    said = [{"val_a": 1.0, "val_b": 3.0}, {"val_a": 1.0}, {"val_a": 0.0, "val_b": 0.0}]
    assert stop(GoalReached(1.0, 2, metrics=SETS), [9.0, 9.0, 9.0], others=said) == 2


def test_sentences() -> None:
    said = [{"val_a": 0.5, "val_b": 0.25}] * 3
    assert sentence(GoalReached(0.5, metrics=SETS), [9.0], others=said) == (
        "Stop: m reached the goal 0.5: the mean of val_a, val_b is 0.375 at epoch 1"
    )
    assert sentence(Hopeless(0.3, 2, 1.0, SETS), [9.0, 9.0], others=said) == (
        "Stop: m is hopeless: the 1 quantile of val_a, val_b over the last 2 checks is 0.5, over 0.3, at epoch 2"
    )


def test_settings() -> None:
    assert GoalReached(1.0, metrics=["val_a"]) == GoalReached(1.0, 1, metrics=("val_a",))
    assert Hopeless(1.0) == Hopeless(1.0, 5)
    with pytest.raises(ValueError, match=r"give a tuple of them, \('val_a',\)"):
        Hopeless(1.0, metrics="val_a")


# --- the training curve -----------------------------------------------------------------------------------------------


@given(ROWS, st.sampled_from([0.1, 0.5, 2.0]), st.integers(2, 4))
def test_prechelts_quotient(rows: Rows, quotient: float, strip: int) -> None:
    expected, validation, training = None, losses(rows), [a for _, a, _ in rows]
    for at in range(strip, len(rows) + 1, strip):
        last = training[at - strip : at]
        lost = 100 * (validation[at - 1] / min(validation[:at]) - 1)
        progress = 1000 * (sum(last) / (strip * min(last)) - 1)
        if lost > quotient * progress + 1e-9:
            expected = at - 1
            break
    rule = ProgressQuotient(quotient, strip, training="val_a")
    assert stop(rule, validation, others=others(rows)) == expected


def test_a_training_that_still_moves_is_given_time() -> None:
    rising, moving, flat = [1.0, 1.1, 1.2, 1.3], [1.0, 0.8, 0.6, 0.4], [1.0, 1.0, 1.0, 1.0]
    rule = ProgressQuotient(0.5, 2, training="train")
    assert stop(rule, rising, others=[{"train": value} for value in moving]) is None
    assert stop(rule, rising, others=[{"train": value} for value in flat]) == 1
    scores = [-value for value in rising]
    assert stop(rule, scores, scores=True, others=[{"train": -value} for value in moving]) is None
    assert sentence(rule, rising, others=[{"train": value} for value in (1.0, 0.99, 0.98, 0.98)]) == (
        "Stop: m 1.1 is 10 % worse than its best, 1, while train over the last 2 checks moved by 5.05 per mille, "
        "a quotient of 1.98, more than 0.5, at epoch 2"
    )


# --- names that are not there -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [ProgressQuotient(training="train_los"), GoalReached(1.0, metrics=("train_loss", "train_los"))], ids=repr
)
def test_a_metric_that_was_never_reported(rule: StoppingRule) -> None:
    run = ft.Run(minimize="val_loss", stopping=rule)
    message = r"'train_los', which was not .* at step 1\. Did you mean 'train_loss'\? Known: train_loss, val_loss\."
    with pytest.raises(MetricError, match=message):
        run.report(train_loss=1.0, val_loss=1.0)


def test_a_metric_that_comes_after_the_objective_comes_too_late() -> None:
    run = ft.Run(minimize="val_loss", stopping=Hopeless(1.0, metrics=("late",)))
    with pytest.raises(MetricError, match="Report it in the same call or before"):
        run.report(val_loss=1.0)


def test_a_metric_of_some_checks_only() -> None:
    run = ft.Run(minimize="loss", stopping=ft.every(2, GoalReached(1.0, metrics=("rare",))))
    for epoch in run.epochs(9):
        run.report({"loss": 5.0} | ({"rare": 4.0 - epoch} if epoch % 2 else {}))
    assert (run.verdict.rule, run.step) == ("goal_reached", 4)


# --- a state that travels ---------------------------------------------------------------------------------------------

RULES: list[StoppingRule] = [
    ProgressQuotient(0.5, 2, training="val_a"),
    GoalReached(0.4, 3, metrics=SETS),
    ft.after(2, Hopeless(1.4, 2, 0.5, SETS)) | ft.Patience(4),
    ft.Threshold(lambda curve: 0.1) | ft.every(2, ProgressQuotient(1.0, 2, training="val_b")),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
@settings(max_examples=25)
@given(rows=ROWS)
def test_a_run_resumed_at_any_step_decides_as_one_that_never_stopped(rule: StoppingRule, rows: Rows) -> None:
    said, points = others(rows), losses(rows)
    expected = verdicts(rule, points, others=said)
    for cut in range(len(rows) + 1):
        curve, state, found = Curve(), rule.init(), []
        for index, loss in enumerate(points):
            if index == cut:
                state = resumed(rule, json.loads(json.dumps(saved(rule, state))), curve)
            curve.append(index + 1, loss, index + 1.0)
            state = rule.update(state, Report(*curve.last, {"m": loss, **said[index]}))
            found.append(rule.check(curve, state, RunContext(Objective("m"))))
        assert found == expected


def test_a_state_of_other_settings_or_another_form_is_not_taken_up() -> None:
    curve = Curve([(1, 0.5, 0.0), (2, 0.6, 0.0)])
    kept = saved(ft.Patience(3), {"best": 0.1, "waited": 2})
    assert resumed(ft.Patience(3), kept, curve) == {"best": 0.1, "waited": 2}
    for rule, other in [(ft.Patience(4), kept), (ft.Patience(3), {**kept, "version": 0}), (ft.Patience(3), None)]:
        assert resumed(rule, other, curve) == {"best": 0.5, "waited": 1}
    assert resumed(None, kept, curve) is None


def curve_of(seed: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    rows = zip(np.geomspace(1, 0.5, 12), rng.normal(0, 0.05, 12), rng.normal(0, 0.2, 12), strict=True)
    return [{"val_a": float(a), "val_b": float(1 + c), "loss": float(0.8 + b)} for a, b, c in rows]


def train(run: Run) -> None:
    rows = curve_of(run.params["seed"])
    run.track(weights=np.zeros(1))
    for epoch in run.epochs(len(rows)):
        run.report(rows[epoch])


@settings(max_examples=20)
@given(st.sampled_from(RULES), st.integers(0, 20), st.lists(st.integers(0, 4), max_size=4))
@example(RULES[0], 3, [1, 1, 1, 1])
def test_pauses_change_no_decision(rule: StoppingRule, seed: int, pauses: list[int]) -> None:
    assert decided(rule, seed, pauses) == decided(rule, seed, [])


def decided(rule: StoppingRule, seed: int, pauses: Sequence[int]) -> tuple[Any, ...]:
    runs: list[Run] = []

    def function(run: Run) -> None:
        runs.append(run)
        train(run)

    work = Work(function, Objective("loss", "minimize"), rule)
    restore: dict[str, tuple[str, str, int]] = {}
    behind: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, after in enumerate([*pauses, 99], start=1):
            link = Pausing(Path(folder), after)
            attempt(work, Task(0, number, {"seed": seed}, 3, folder, restore, behind), link)
            restore = restore | link.restore
            behind = [point[:3] for point in runs[-1].curve]
            if link.state is ft.State.DONE:
                verdict = runs[-1].verdict
                return verdict.rule, verdict.step, verdict.value, runs[-1].step
    raise AssertionError("the last attempt was to train to its end")


# --- through a study --------------------------------------------------------------------------------------------------

SPACE = ft.Space(seed=ft.Int(0, 8))
RULE = ProgressQuotient(0.5, 2, training="val_a") | GoalReached(0.7, 3, metrics=("val_a", "loss"))


def recording(params: dict[str, Any]) -> ft.Recording:
    rows = curve_of(params["seed"])
    return ft.Recording(
        [row["loss"] for row in rows], metrics={name: [row[name] for row in rows] for name in ("val_a", "val_b")}
    )


def alone(seed: int) -> tuple[int, str]:
    """Where a run that nobody pauses ends, and by which rule."""
    run = ft.Run(minimize="loss", stopping=RULE)
    rows = curve_of(seed)
    for epoch in run.epochs(len(rows)):
        run.report(rows[epoch])
    return run.step, run.verdict.rule


@pytest.mark.parametrize("live", [False, True])
def test_a_study_that_pauses_and_resumes_comes_to_the_same_ends(live: bool, tmp_path: Path) -> None:
    study = ft.Study(
        SPACE, minimize="loss", sampler="random_search", seed=3, scheduler=ft.Hyperband(reduction_factor=2),
        store=f"{tmp_path}/s.db",
    )  # fmt: skip
    how: dict[str, Any] = {"workers": 0} if live else {"executor": ft.Replay(recording, workers=2)}
    study.run(train if live else None, "24 trials", stopping=RULE, progress="none", **how)
    done = [trial for trial in study.trials if trial.state is ft.State.DONE]
    assert [(t.step, t.decisions[-1].rule if t.step < 12 else "") for t in done] == [
        (step, rule if step < 12 else "") for step, rule in (alone(t.params["seed"]) for t in done)
    ]
    assert any(trial.attempts > 1 and trial.step < 12 for trial in done), "no resumed run was ended by its rule"
