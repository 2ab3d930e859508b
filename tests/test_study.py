"""A study with trainings in this very process: budgets, seeds, failures, from end to end."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell.attempt import seed_all
from foretell.coordinator import trial_seed
from foretell.errors import TrainingError
from foretell.run import Run
from foretell.stores.memory import MemoryStore
from foretell.study import Study
from foretell.trial import State
from tests.studies import SPACE, build, clock, ran, shown, study_of, train

__all__ = ["clock"]  # a fixture of every test here

# ---------------------------------------------------------------------- budgets


@pytest.mark.parametrize("trials", [1, 3, 7])
def test_trials_are_exactly_those_of_the_budget(trials: int) -> None:
    study = ran(study_of(), f"{trials} trials")
    assert len(study.trials) == trials and all(trial.state is State.DONE for trial in study.trials)
    assert study.verdict.rule == "budget" and f"{trials} trials" in study.verdict.reason
    assert study.best.value == min(trial.value for trial in study.trials if trial.value is not None)


@pytest.mark.parametrize("scheduler", ["full", ft.ASHA(3, 1)])
@pytest.mark.parametrize("epochs", [1, 5, 23])
@pytest.mark.parametrize("pausable", [True, False])
def test_epochs_are_exactly_those_of_the_budget(scheduler: Any, epochs: int, pausable: bool) -> None:
    trained = itertools.count()

    def function(run: Run) -> None:
        if pausable:
            build(run)
        for _ in run.epochs(9):
            next(trained)
            run.report(loss=run.params["x"])

    study = ran(study_of(scheduler=scheduler), f"{epochs} epochs", function)
    assert next(trained) == study.record.epochs_spent == epochs


def test_epochs_of_retries_are_in_the_budget() -> None:
    trained = itertools.count()

    def function(run: Run) -> None:
        for epoch in run.epochs(10):
            next(trained)
            run.report(loss=1.0)
            if epoch == 6:
                raise ValueError("boom")

    ran(study_of(retries=5), "12 epochs", function)
    assert next(trained) == 12


def test_a_loop_without_epochs_keeps_to_the_budget() -> None:
    def function(run: Run) -> None:
        for step in itertools.count():
            assert step < 100
            if run.report(loss=1.0).stop:
                return

    study = ran(study_of(), "20 epochs", function)
    assert study.record.epochs_spent == 20


def test_a_larger_budget_goes_on_where_the_smaller_ended() -> None:
    store = MemoryStore()
    for budget in ("2 trials", "30 epochs", "5 trials"):
        study = ran(study_of(store=store), budget)
    assert len(study.trials) == 5 and all(trial.step == 9 for trial in study.trials)
    assert study.record.epochs_spent == 45


def test_nothing_is_left_behind_by_an_epochs_budget() -> None:
    for epochs in (2, 11, 23, 29):
        store, scheduler = MemoryStore(), ft.ASHA(3, 1)
        ran(study_of(store=store, scheduler=scheduler), f"{epochs} epochs, 9 trials")
        steps = sorted(trial.step for trial in ran(study_of(store=store, scheduler=scheduler), "9 trials").trials)
        assert set(steps) <= {1, 3, 9} and 9 in steps and steps.count(1) <= 6, (epochs, steps)


# ---------------------------------------------------------------------- same seed, same study


@pytest.mark.parametrize("scheduler", ["full", ft.ASHA(3, 1), ft.Hyperband(3)])
def test_the_same_seed_gives_the_same_study(scheduler: Any) -> None:
    one, same, other = (ran(study_of(scheduler=scheduler, seed=seed), "14 trials") for seed in (4, 4, 5))
    assert shown(one) == shown(same) != shown(other)


def test_maximising_is_minimising_the_negative() -> None:
    def negative(run: Run) -> None:
        model = build(run)
        for epoch in run.epochs(9):
            model["w"] += 1
            run.report(loss=-(run.params["x"] + 1 / (epoch + 1)))

    scheduler = ft.ASHA(3, 1)
    down = ran(Study(SPACE, minimize="loss", scheduler=scheduler), "14 trials")
    up = ran(Study(SPACE, maximize="loss", scheduler=scheduler), "14 trials", negative)
    mirrored = [(params, state, -value, *rest) for params, state, value, *rest in shown(up)]
    assert mirrored == [tuple(row) for row in shown(down)]
    assert up.best.number == down.best.number and up.best.value == -(down.best.value or 0)


def test_pausing_and_resuming_changes_no_bit() -> None:
    study = ran(study_of(scheduler=ft.ASHA(2, 1)), "14 trials")
    resumed = [trial for trial in study.trials if trial.attempts > 1]
    assert len(resumed) >= 2
    for trial in resumed:
        expected = uninterrupted(trial.params, trial_seed(0, trial.number), trial.step)
        assert [point[:2] for point in trial.curve] == [point[:2] for point in expected.curve]
        assert trial.values["w"] == expected.last_w


def uninterrupted(params: dict[str, Any], seed: int, epochs: int) -> SimpleNamespace:
    """The same training without a study."""
    seed_all(seed)
    run, last = ft.Run(params, minimize="loss", seed=seed), 0.0
    model = build(run)
    for epoch in run.epochs(epochs):
        model["w"] += run.rng.normal(size=2) + np.random.random()
        run.report(loss=run.params["x"] + 1 / (epoch + 1))
        last = model["w"][0]
    return SimpleNamespace(curve=run.curve, last_w=last)


# ---------------------------------------------------------------------- failures


def test_a_failure_is_tried_again_with_the_same_seed() -> None:
    seeds = []

    def function(run: Run) -> None:
        seeds.append(run.seed)
        if len(seeds) == 1:
            raise ValueError("once")
        train(run)

    study = ran(study_of(), "1 trials", function)
    trial = study.trials[0]
    assert (trial.state, trial.attempts, trial.step) == (State.DONE, 2, 9) and seeds[0] == seeds[1]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_failure_is_tried_again_as_often_as_told(retries: int) -> None:
    def function(run: Run) -> None:
        if run.params["x"] == 0.5:
            raise ValueError("always")
        train(run)

    study = ran(study_of(retries=retries, default={"x": 0.5}), "2 trials", function)
    assert study.trials[0].state is State.FAILED and study.trials[0].attempts == retries + 1
    assert "ValueError: always" in (study.trials[0].error or "") and study.trials[0].value is None
    assert study.best.number == 1


def test_three_failures_and_nothing_else_end_the_study() -> None:
    def function(run: Run) -> None:
        raise ValueError("broken for all")

    study = study_of(retries=0)
    with pytest.raises(TrainingError, match=r"(?s)first 3 trials all failed.*broken for all"):
        ran(study, "10 trials", function)
    assert len(study.trials) == 3 and study.verdict.stop
    assert ran(study, "6 trials").best.value is not None  # the function was mended


def test_three_failures_among_others_do_not() -> None:
    def function(run: Run) -> None:
        if run.identity[0] % 4:
            raise ValueError("for some")
        train(run)

    for scheduler in ("full", ft.ASHA(3, 1)):
        assert len(ran(study_of(retries=0, scheduler=scheduler), "12 trials", function).trials) == 12


def test_a_failing_run_with_a_checkpoint_goes_on_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell._keeper.Keeper.due", lambda self, elapsed: self.complete)
    begun = []

    def function(run: Run) -> None:
        model = build(run)
        begun.append((run.resumed, run.step))
        for epoch in run.epochs(9):
            model["w"] += 1
            if epoch == 6 and len(begun) == 1:
                raise ValueError("once")
            run.report(loss=1.0, w=model["w"][0])

    trial = ran(study_of(), "1 trials", function).trials[0]
    assert begun == [(False, 0), (True, 6)]
    assert trial.values["w"] == 9.0 and trial.curve.steps.tolist() == [*range(1, 10)]


def test_a_report_before_the_loop_survives_retries_and_resumes() -> None:
    failed = []

    def function(run: Run) -> None:
        model = build(run)
        run.report(loss=9.0, step=0)
        for epoch in run.epochs(9):
            model["w"] += 1
            if not failed:
                failed.append(epoch)
                raise ValueError("once")
            run.report(loss=run.params["x"] + 1 / (epoch + 1))

    study = ran(study_of(scheduler=ft.ASHA(3, 1)), "9 trials", function)
    assert study.record.counts[State.FAILED] == 0 and max(trial.step for trial in study.trials) == 9
    assert all(trial.curve.steps.tolist() == [*range(trial.step + 1)] for trial in study.trials)


def test_divergence_is_an_outcome() -> None:
    def function(run: Run) -> None:
        for epoch in run.epochs(5):
            run.report(loss=math.nan if run.params["x"] > 0.5 and epoch == 2 else 1.0)

    study = ran(study_of(), "12 trials", function)
    for trial in study.trials:
        diverged = trial.params["x"] > 0.5
        assert trial.state is (State.DIVERGED if diverged else State.DONE) and trial.step == (3 if diverged else 5)
        assert (trial.value is None) == diverged


# ---------------------------------------------------------------------- what a function may do


def test_a_returned_number_is_the_one_report() -> None:
    study = ran(study_of(), "6 trials", lambda run: run.params["x"])
    assert all(trial.value == trial.params["x"] and len(trial.curve) == 1 for trial in study.trials)
    study = ran(study_of(), "1 trials", lambda run: {"loss": 2.0, "other": 1.0})
    assert study.trials[0].values == {"loss": 2.0, "other": 1.0}


def reports_another(run: Run) -> None:
    run.report(los=1.0)


@pytest.mark.parametrize("function", [lambda run: None, reports_another, lambda run: "text"])
def test_no_objective_at_all_is_a_failure_that_names_it(function: Any) -> None:
    with pytest.raises(TrainingError, match="'loss'"):
        ran(study_of(retries=0), "5 trials", function)


def test_a_misspelt_metric_is_offered() -> None:
    def function(run: Run) -> None:
        for _ in run.epochs(2):
            run.report(val_lss=1.0)

    with pytest.raises(TrainingError, match="Did you mean 'val_lss'"):
        ran(Study(SPACE, minimize="val_loss", scheduler="full", retries=0), "5 trials", function)


def test_code_after_the_loop_runs_once_and_with_the_best_weights() -> None:
    after = []

    def function(run: Run) -> None:
        model = build(run)
        for epoch in run.epochs(9):
            model["w"] += 1
            run.report(loss=abs(epoch - 4) + run.params["x"])
        after.append((run.params["x"], model["w"][0]))

    study = ran(study_of(scheduler=ft.ASHA(3, 1)), "14 trials", function)
    done = [trial.params["x"] for trial in study.trials if trial.state is State.DONE]
    assert sorted(after) == sorted((x, 5.0) for x in done) and done


def test_a_run_ends_by_its_own_rule() -> None:
    study = ran(study_of(), "4 trials", stopping=ft.Threshold(0.5) | ft.EpochLimit(4))
    assert all(trial.state is State.DONE and trial.step <= 4 for trial in study.trials)
    assert {trial.decisions[-1].rule for trial in study.trials} <= {"threshold", "epoch_limit"}
    with pytest.raises(TypeError, match=r"ft\.Patience"):
        ran(study_of(), "1 trials", stopping=3)


@pytest.mark.parametrize("tracked", [True, False])
def test_a_training_that_is_complete_counts_though_the_study_closes(tracked: bool) -> None:
    study = study_of()

    def function(run: Run) -> None:
        if tracked:
            build(run)
        for epoch in run.epochs(3):
            if epoch == 2:
                study.stop("enough")
            run.report(loss=1.0)

    ran(study, None, function)
    assert study.trials[0].state is State.DONE and study.best.number == 0
    assert study.verdict.rule == "request" and study.verdict.reason == "enough"
