"""XGBoost: what all bindings promise, and what is XGBoost's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell.errors import CheckpointError, MetricError, StudyError
from tests.conftest import needs
from tests.integrations import suite
from tests.integrations.suite import BoomError, Job, Scenario

xgboost = needs("xgboost")

from foretell.integrations.xgboost import Foretell  # noqa: E402 - it imports xgboost

PARAMS = {
    "objective": "reg:squarederror",
    "max_depth": 2,
    "nthread": 1,
    "verbosity": 0,
    "disable_default_eval_metric": 1,
}
SQUARES = {"objective": "reg:squarederror", "max_depth": 2, "nthread": 1, "verbosity": 0}


def data(seed: int = 0, kind: str = "regression") -> Any:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(60, 3))
    target = features[:, 0] + 0.5 * rng.normal(size=60)
    return xgboost.DMatrix(features, target > 0 if kind == "classes" else target)


class Training:
    """A booster whose metric is read off the job, by the number of its rounds."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trained = self.held = 0
        goal = {"metric_name": "lossx" if job.misspelt else "loss", "data_name": "valid"}
        self.callback = Foretell(
            job.run,
            rounds=job.patience,
            stopping=job.stopping,
            mode="max" if job.maximize else "min",
            num_boost_round=len(job.values),
            **(goal if job.run is None else {}),
        )

    @property
    def run(self) -> ft.Run:
        assert self.callback.run is not None
        return self.callback.run

    @property
    def moments(self) -> None:
        return None

    def measure(self, predictions: Any, matrix: Any) -> tuple[str, float]:
        self.trained += 1
        return "loss", self.job.value(self.held + self.trained)

    def fit(self) -> None:
        before = self.callback.booster
        self.held = before.num_boosted_rounds() if before is not None else 0
        callbacks = [self.callback]
        if self.job.rival is not None:
            callbacks.append(xgboost.callback.EarlyStopping(rounds=self.job.rival, maximize=False))
        booster = xgboost.train(
            PARAMS,
            data(),
            len(self.job.values),
            evals=[(data(1), "valid")],
            custom_metric=self.measure,
            callbacks=callbacks,
            xgb_model=before,
            verbose_eval=False,
        )
        self.held = booster.num_boosted_rounds()


class XGBoost:
    metric = "valid-loss"
    promises = frozenset({"resume", "rival", "zero"})

    def prepare(self, job: Job) -> Training:
        return Training(job)


@pytest.mark.parametrize("check", suite.cases(XGBoost()))
def test_xgboost_keeps_the_promises_of_bindings(check: Scenario) -> None:
    check(XGBoost())


def train(callback: Any, params: dict[str, Any] = SQUARES, rounds: int = 60, **options: Any) -> Any:
    kind = "classes" if "logistic" in str(params["objective"]) else "regression"
    evals = [(data(kind=kind), "train"), (data(1, kind), "valid")]
    return xgboost.train(
        params, data(kind=kind), rounds, evals=evals, callbacks=[callback], verbose_eval=False, **options
    )


def test_it_stops_and_cuts_where_xgboost_does() -> None:
    theirs = train(xgboost.callback.EarlyStopping(rounds=3, save_best=True))
    callback = Foretell(rounds=3)
    ours = train(callback)
    assert (ours.best_iteration, ours.num_boosted_rounds()) == (theirs.best_iteration, theirs.num_boosted_rounds())
    assert ours.best_score == pytest.approx(theirs.best_score, abs=1e-6)
    assert np.array_equal(ours.predict(data(2)), theirs.predict(data(2)))
    assert callback.run is not None
    assert callback.run.verdict.rule == "patience"
    assert callback.run.verdict.restored == f"best weights of epoch {ours.best_iteration + 1} restored"


def test_with_a_minimum_gain_it_stops_as_xgboost_and_keeps_the_true_best() -> None:
    seen: dict[str, Any] = {}
    stopper = xgboost.callback.EarlyStopping(rounds=3, min_delta=0.01)
    theirs = train(stopper, evals_result=seen)
    callback = Foretell(rounds=3, min_delta=0.01)
    ours = train(callback)
    assert callback.run is not None
    assert callback.run.step == theirs.num_boosted_rounds() < 60
    assert ours.best_iteration == int(np.argmin(seen["valid"]["rmse"])) > theirs.best_iteration


@pytest.mark.parametrize("metric", ["auc", "logloss", "map", "error"])
def test_the_direction_of_a_metric_is_known(metric: str) -> None:
    params = {**SQUARES, "objective": "binary:logistic", "eval_metric": metric}
    theirs = train(xgboost.callback.EarlyStopping(rounds=3, save_best=True), params)
    assert train(Foretell(rounds=3), params).best_iteration == theirs.best_iteration


def test_without_save_best_the_booster_stays_whole_and_knows_its_best() -> None:
    theirs = train(xgboost.callback.EarlyStopping(rounds=3))
    callback = Foretell(rounds=3, save_best=False)
    ours = train(callback)
    assert ours.num_boosted_rounds() == theirs.num_boosted_rounds() > ours.best_iteration + 1
    assert callback.run is not None
    assert callback.run.verdict.restored is None, "nothing was cut, and nobody says so"


@pytest.mark.parametrize("booster", ["dart", "gblinear"])
@pytest.mark.filterwarnings("ignore:.*gblinear.*:UserWarning")
def test_a_booster_that_cannot_be_cut_stays_whole(booster: str) -> None:
    params = {**SQUARES, "booster": booster}
    del params["max_depth"]
    callback = Foretell(rounds=2)
    ours = train(callback, params, 12)
    assert callback.run is not None
    assert ours.best_iteration == int(callback.run.curve.best_step or 0) - 1
    if booster == "dart":
        assert ours.num_boosted_rounds() == callback.run.step


def test_all_metrics_reach_the_run_and_a_bare_name_means_the_last_data_set() -> None:
    params = {**SQUARES, "eval_metric": ["mae", "rmse"]}
    seen: dict[str, float] = {}
    study = ft.Study(ft.Space(depth=ft.Int(1, 3)), minimize="mae", scheduler="full", seed=0)
    study.run(
        lambda run: train(Foretell(run, num_boost_round=5), {**params, "max_depth": run.params["depth"]}, 5),
        "1 trials",
        workers=0,
        progress="none",
        on_report=lambda trial, step, metrics: seen.update(metrics),
    )
    assert seen.keys() == {"train-mae", "train-rmse", "valid-mae", "valid-rmse", "mae"}
    assert seen["mae"] == seen["valid-mae"]
    assert study.best.step == 5


def test_a_metric_of_a_run_may_have_a_name_of_its_own() -> None:
    run = ft.Run(minimize="val_loss", stopping=ft.Patience(3))
    booster = train(Foretell(run, metric_name="rmse", data_name="valid"))
    assert booster.best_score == run.best


def test_the_sklearn_interface_predicts_from_the_best() -> None:
    needs("sklearn")
    rng = np.random.default_rng(0)
    features, noise = rng.normal(size=(80, 3)), rng.normal(size=80)
    target = (features[:, 0] + noise > 0).astype(int)
    model = xgboost.XGBClassifier(n_estimators=40, max_depth=2, n_jobs=1, callbacks=[Foretell(rounds=2)])
    model.fit(features[:60], target[:60], eval_set=[(features[60:], target[60:])], verbose=False)
    assert model.get_booster().num_boosted_rounds() == model.best_iteration + 1 < 40


def test_cross_validation_watches_the_mean() -> None:
    options = {"nfold": 3, "seed": 0, "as_pandas": False}
    theirs = xgboost.cv(SQUARES, data(), 60, callbacks=[xgboost.callback.EarlyStopping(rounds=3)], **options)
    callback = Foretell(rounds=3)
    ours = xgboost.cv(SQUARES, data(), 60, callbacks=[callback], **options)
    assert callback.run is not None
    assert callback.run.curve.best_step == len(theirs["test-rmse-mean"]) < callback.run.step < 60
    assert ours == theirs


def test_a_training_goes_on_from_a_saved_booster_and_its_rounds_are_counted_on() -> None:
    first = train(Foretell(), rounds=4)
    callback = Foretell(num_boost_round=3)
    second = train(callback, rounds=3, xgb_model=first)
    assert callback.run is not None
    assert list(callback.run.curve.steps) == [5, 6, 7]
    assert second.num_boosted_rounds() == callback.run.curve.best_step


class Cut(xgboost.callback.TrainingCallback):  # type: ignore[misc]
    """Fails after five rounds."""

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if epoch == 4:
            raise BoomError
        return False


@pytest.fixture
def saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every round."""
    monkeypatch.setattr("foretell._keeper.Keeper.due", lambda keeper, elapsed: True)


def fit(folder: Path, *others: Any, takes_up: bool = True) -> Any:
    callback = Foretell(ft.Run(minimize="valid-rmse", folder=folder, seed=1), num_boost_round=9)
    return xgboost.train(
        SQUARES, data(), 9, evals=[(data(), "train"), (data(1), "valid")], callbacks=[callback, *others],
        xgb_model=callback.booster if takes_up else None, verbose_eval=False,
    )  # fmt: skip


@pytest.mark.usefixtures("saving")
def test_a_resumed_training_ends_as_the_uninterrupted_one_to_the_last_bit(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole")
    with pytest.raises(BoomError):
        fit(tmp_path / "cut", Cut())
    resumed = fit(tmp_path / "cut")
    assert resumed.save_raw() == whole.save_raw()
    assert resumed.best_iteration == whole.best_iteration


@pytest.mark.usefixtures("saving")
def test_a_resumed_training_wants_its_booster(tmp_path: Path) -> None:
    with pytest.raises(BoomError):
        fit(tmp_path, Cut())
    with pytest.raises(CheckpointError, match=r"round \d, but its booster has 0 rounds.*xgb_model=foretell.booster"):
        fit(tmp_path, takes_up=False)


def test_bad_input_is_told_with_its_cure() -> None:
    with pytest.raises(MetricError, match="give train evals="):
        xgboost.train(SQUARES, data(), 3, callbacks=[Foretell(rounds=2)])
    with pytest.raises(MetricError, match=r"'valid-rmsee'.*Did you mean 'valid-rmse'"):
        train(Foretell(ft.Run(minimize="valid-rmsee")))
    with pytest.raises(MetricError, match=r"'rmsle'.*Known: train-rmse, valid-rmse"):
        train(Foretell(rounds=2, metric_name="rmsle"))
    with pytest.raises(MetricError, match="watches no metric"):
        Foretell(ft.Run())
    with pytest.raises(TypeError, match="is no run"):
        Foretell("valid-rmse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'auto', 'min' or 'max'"):
        Foretell(mode="maximum")
    study = ft.Study(ft.Space(depth=ft.Int(1, 3)), minimize="valid-rmse")
    with pytest.raises(StudyError, match="num_boost_round="):
        Foretell(study.ask())


def test_a_callback_alone_begins_anew_with_each_training() -> None:
    callback = Foretell(rounds=3)
    first, second = train(callback), train(callback)
    assert first.save_raw() == second.save_raw()
    assert not math.isnan(second.best_score)


def test_the_winner_of_a_study_is_there_to_be_verified() -> None:
    study = ft.Study(ft.Space(max_depth=ft.Int(1, 3)), minimize="valid-rmse", scheduler="full", seed=0)
    boosters: list[Any] = []

    def train_one(run: ft.Run) -> None:
        boosters.append(train(Foretell(run, num_boost_round=30), {**SQUARES, **run.params}, 30))

    study.run(train_one, "3 trials", workers=0, progress="none")
    best = boosters[study.best.number]

    def evaluate(run: ft.Run) -> float:
        booster = Foretell(run, num_boost_round=30).booster
        assert booster is not None
        assert np.array_equal(booster.predict(data(3)), best.predict(data(3)))
        return 0.0

    assert best.num_boosted_rounds() < 30
    assert study.verify(evaluate).value == 0.0


def test_a_winner_that_was_paused_is_there_too() -> None:
    scheduler = ft.ASHA(reduction_factor=2, first_rung=20)
    study = ft.Study(ft.Space(max_depth=ft.Int(3, 5)), minimize="valid-rmse", scheduler=scheduler, seed=0)
    study.run(
        lambda run: train(Foretell(run, num_boost_round=30), {**SQUARES, **run.params}, 30),
        "1 trials",
        workers=0,
        progress="none",
    )
    assert study.best.state is ft.State.PAUSED
    assert study.best.best_step is not None
    assert study.best.best_step < study.best.step == 20

    def evaluate(run: ft.Run) -> float:
        booster = Foretell(run, num_boost_round=30).booster
        assert booster is not None
        return float(booster.num_boosted_rounds())

    assert study.verify(evaluate).value == study.best.best_step


def test_a_booster_is_written_out_for_checkpoints_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell._keeper.Keeper.due", lambda keeper, elapsed: False)
    written = []
    save_raw = xgboost.Booster.save_raw
    monkeypatch.setattr(xgboost.Booster, "save_raw", lambda *arguments: written.append(1) or save_raw(*arguments))
    run = ft.Run(minimize="valid-rmse", folder=tmp_path)
    train(Foretell(run, num_boost_round=9), rounds=9)
    assert run.curve.best_step is not None
    assert run.curve.best_step > 5
    assert len(written) == 1


@pytest.mark.usefixtures("saving")
@pytest.mark.filterwarnings("ignore:.*gblinear.*:UserWarning")
@pytest.mark.parametrize("booster", ["dart", "gblinear"])
def test_a_booster_that_cannot_be_cut_serves_in_a_study(booster: str) -> None:
    params = {"objective": "reg:squarederror", "booster": booster, "nthread": 1, "verbosity": 0}
    study = ft.Study(ft.Space(eta=ft.Float(0.1, 0.9)), minimize="valid-rmse", scheduler=ft.ASHA(first_rung=2), seed=0)

    def train_one(run: ft.Run) -> None:
        callback = Foretell(run, num_boost_round=8)
        train(callback, {**params, **run.params}, 8, xgb_model=callback.booster)

    study.run(train_one, "4 trials", workers=0, progress="none")
    assert not [trial.error for trial in study.trials if trial.error]
    assert max(trial.step for trial in study.trials) > 2
    assert any(trial.attempts > 1 for trial in study.trials) == (booster == "dart")
