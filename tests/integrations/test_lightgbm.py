"""LightGBM: what all bindings promise, and what is LightGBM's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell.errors import CheckpointError, MetricError
from tests.conftest import needs
from tests.integrations import suite
from tests.integrations.suite import BoomError, Job, Scenario

lightgbm = needs("lightgbm")

from foretell.integrations.lightgbm import Foretell  # noqa: E402 - it imports lightgbm

PARAMS = {"objective": "regression", "num_leaves": 4, "num_threads": 1, "verbose": -1, "metric": "None"}
SQUARES = {"objective": "regression", "num_leaves": 4, "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5}


def arrays(seed: int = 0, kind: str = "regression") -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(80, 3))
    target = features[:, 0] + 0.5 * rng.normal(size=80)
    return features, target > 0 if kind == "classes" else target


def data(seed: int = 0, kind: str = "regression") -> Any:
    return lightgbm.Dataset(*arrays(seed, kind))


class Training:
    """A booster whose metric is read off the job, by the number of its rounds."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trained = self.held = 0
        self.callback: Foretell | None = None

    @property
    def run(self) -> ft.Run:
        run = self.callback.run if self.callback is not None else self.job.run
        assert run is not None
        return run

    @property
    def moments(self) -> None:
        return None

    def measure(self, predictions: Any, matrix: Any) -> tuple[str, float, bool]:
        self.trained += 1
        return "loss", self.job.value(self.held + self.trained), self.job.maximize

    def fit(self) -> None:
        job, goal = self.job, {"metric_name": "lossx" if self.job.misspelt else "loss", "data_name": "valid"}
        self.callback = Foretell(
            job.run, stopping_rounds=job.patience, stopping=job.stopping, verbose=False,
            **(goal if job.run is None else {}),
        )  # fmt: skip
        before = self.callback.booster
        self.held = before.current_iteration() if before is not None else 0
        booster = lightgbm.train(
            PARAMS,
            data(),
            len(self.job.values),
            valid_sets=[data(1)],
            valid_names=["valid"],
            feval=self.measure,
            callbacks=[self.callback],
            init_model=before,
        )
        self.held = booster.current_iteration()


class LightGBM:
    metric = "valid-loss"
    promises = frozenset({"resume"})

    def prepare(self, job: Job) -> Training:
        return Training(job)


# LightGBM's callbacks can end a training after a round, but not before the first.
CASES = [case for case in suite.cases(LightGBM()) if case.id != "a_study_stops_it_before_it_begins"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("check", CASES)
def test_lightgbm_keeps_the_promises_of_bindings(check: Scenario) -> None:
    check(LightGBM())


def train(*callbacks: Any, params: dict[str, Any] = SQUARES, rounds: int = 60, **options: Any) -> Any:
    kind = "classes" if params["objective"] == "binary" else "regression"
    options = {"valid_sets": [data(1, kind)], "valid_names": ["valid"], **options}
    return lightgbm.train(params, data(kind=kind), rounds, callbacks=list(callbacks), **options)


@pytest.mark.parametrize("metric", ["l2", "l1", "auc", "binary_logloss"])
def test_it_stops_where_lightgbm_does(metric: str) -> None:
    params = {**SQUARES, "metric": metric, "objective": "regression" if metric in ("l1", "l2") else "binary"}
    history: dict[str, Any] = {}
    theirs = train(lightgbm.early_stopping(4, verbose=False), params=params)
    ours = train(Foretell(stopping_rounds=4, verbose=False), lightgbm.record_evaluation(history), params=params)
    assert ours.best_iteration == theirs.best_iteration
    assert len(history["valid"][metric]) == ours.best_iteration + 4
    assert ours.current_iteration() == theirs.current_iteration() == ours.best_iteration
    assert ours.best_score == theirs.best_score
    assert np.array_equal(ours.predict(arrays(2)[0]), theirs.predict(arrays(2)[0]))


def test_a_full_training_knows_its_best_round_too() -> None:
    theirs, ours = train(lightgbm.early_stopping(100, verbose=False)), train(Foretell(verbose=False))
    assert ours.best_iteration == theirs.best_iteration == ours.current_iteration() < 60


def test_dart_has_no_best_iteration() -> None:
    callback = Foretell(stopping_rounds=2, verbose=False)
    booster = train(callback, params={**SQUARES, "boosting": "dart"})
    assert callback.run is not None
    assert callback.run.verdict.stop
    assert callback.run.verdict.restored is None
    assert booster.best_iteration == booster.current_iteration()


def test_the_verdict_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    train(Foretell(stopping_rounds=2))
    assert "valid-l2" in capsys.readouterr().out


def test_the_training_data_are_not_watched() -> None:
    own = data()
    callback = Foretell(stopping_rounds=2, verbose=False)
    lightgbm.train(SQUARES, own, 60, valid_sets=[own, data(1)], valid_names=["own", "valid"], callbacks=[callback])
    assert callback.run is not None
    assert "valid-l2" in callback.run.verdict.reason


def test_several_metrics_must_be_told_apart() -> None:
    params = {**SQUARES, "metric": ["l1", "l2"]}
    with pytest.raises(MetricError, match="l1, l2: say which is watched"):
        train(Foretell(stopping_rounds=2), params=params)
    theirs = train(lightgbm.early_stopping(4, first_metric_only=True, verbose=False), params=params)
    ours = train(Foretell(stopping_rounds=4, first_metric_only=True, verbose=False), params=params)
    named = train(Foretell(stopping_rounds=4, metric_name="l1", verbose=False), params=params)
    assert ours.best_iteration == theirs.best_iteration == named.best_iteration


def test_all_metrics_reach_the_run_of_a_study() -> None:
    seen: dict[str, float] = {}
    study = ft.Study(ft.Space(num_leaves=ft.Int(2, 8)), minimize="l2", scheduler="full", seed=0)
    params = {**SQUARES, "metric": ["l1", "l2"]}
    study.run(
        lambda run: train(Foretell(run, verbose=False), params={**params, **run.params}, rounds=5),
        "2 trials",
        workers=0,
        progress="none",
        on_report=lambda trial, step, metrics: seen.update(metrics),
    )
    assert seen.keys() == {"valid-l1", "valid-l2", "l2"}
    assert seen["l2"] == seen["valid-l2"]
    assert study.best.step == 5


def test_the_sklearn_interface_and_cross_validation() -> None:
    needs("sklearn")
    features, target = arrays(kind="classes")
    model = lightgbm.LGBMClassifier(n_estimators=50, num_leaves=4, n_jobs=1, verbose=-1)
    callback = Foretell(stopping_rounds=3, verbose=False)
    model.fit(features[:60], target[:60], eval_X=features[60:], eval_y=target[60:], callbacks=[callback])
    assert callback.run is not None
    assert model.best_iteration_ == callback.run.curve.best_step < 50

    options: dict[str, Any] = {"nfold": 3, "stratified": False, "seed": 0}
    theirs = lightgbm.cv(SQUARES, data(), 60, callbacks=[lightgbm.early_stopping(4, verbose=False)], **options)
    ours = lightgbm.cv(SQUARES, data(), 60, callbacks=[Foretell(stopping_rounds=4, verbose=False)], **options)
    assert ours == theirs


@pytest.mark.usefixtures("saving")
def test_another_stopper_beside_ours_leaves_the_trial_whole() -> None:
    study = ft.Study(ft.Space(num_leaves=ft.Int(2, 8)), minimize="valid-l2", scheduler="full", seed=0)
    study.run(
        lambda run: train(Foretell(run, verbose=False), lightgbm.early_stopping(2, verbose=False)) and None,
        "1 trials",
        workers=0,
        progress="none",
    )
    (trial,) = study.trials
    assert (trial.state, trial.error) == (ft.State.DONE, None)
    assert trial.step < 60


class Cut:
    """Fails after five rounds."""

    def __init__(self) -> None:
        self.order, self.before_iteration = 50, False

    def __call__(self, env: Any) -> None:
        if env.iteration == 4:
            raise BoomError


@pytest.fixture
def saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every round."""
    monkeypatch.setattr("foretell._keeper.Keeper.due", lambda keeper, elapsed: True)


def fit(folder: Path, *others: Any, takes_up: bool = True) -> Any:
    callback = Foretell(ft.Run(minimize="valid-l2", folder=folder, seed=1), verbose=False)
    return train(callback, *others, rounds=9, init_model=callback.booster if takes_up else None)


@pytest.mark.usefixtures("saving")
def test_a_resumed_training_ends_as_the_uninterrupted_one_to_the_last_bit(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    with pytest.raises(BoomError):
        fit(tmp_path / "cut", Cut())
    resumed = fit(tmp_path / "cut")
    assert resumed.current_iteration() == whole.current_iteration() == 9
    assert np.array_equal(resumed.predict(arrays(2)[0]), whole.predict(arrays(2)[0]))
    assert resumed.best_iteration == whole.best_iteration


@pytest.mark.usefixtures("saving")
def test_a_resumed_training_wants_its_booster(tmp_path: Path) -> None:
    with pytest.raises(BoomError):
        fit(tmp_path, Cut())
    with pytest.raises(CheckpointError, match=r"round \d, but its booster has 0 rounds.*init_model=foretell.booster"):
        fit(tmp_path, takes_up=False)


def test_bad_input_is_told_with_its_cure() -> None:
    with pytest.raises(MetricError, match="give train valid_sets="):
        lightgbm.train(SQUARES, data(), 3, callbacks=[Foretell(stopping_rounds=2)])
    with pytest.raises(MetricError, match=r"'valid-l3'.*Did you mean 'valid-l2'"):
        train(Foretell(ft.Run(minimize="valid-l3")))
    with pytest.raises(MetricError, match="watches no metric"):
        Foretell(ft.Run())
    with pytest.raises(TypeError, match="is no run"):
        Foretell("valid-l2")  # type: ignore[arg-type]


def test_the_winner_of_a_study_is_there_to_be_verified() -> None:
    study = ft.Study(ft.Space(num_leaves=ft.Int(2, 8)), minimize="valid-l2", scheduler="full", seed=0)
    boosters: list[Any] = []

    def train_one(run: ft.Run) -> None:
        boosters.append(train(Foretell(run, verbose=False), params={**SQUARES, "learning_rate": 0.5, **run.params}))

    study.run(train_one, "3 trials", workers=0, progress="none")
    best = boosters[study.best.number]

    def evaluate(run: ft.Run) -> float:
        booster = Foretell(run).booster
        assert booster is not None
        assert np.array_equal(booster.predict(arrays(3)[0]), best.predict(arrays(3)[0]))
        return 0.0

    assert best.current_iteration() < 60
    assert study.verify(evaluate).value == 0.0
