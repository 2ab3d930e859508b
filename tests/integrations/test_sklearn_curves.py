"""SearchCV over learning curves: partial_fit and warm_start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import foretell as ft
from foretell.errors import StudyError
from tests.conftest import needs

sklearn = needs("sklearn")

from joblib import parallel_config  # noqa: E402
from sklearn.base import BaseEstimator, ClassifierMixin, clone  # noqa: E402
from sklearn.datasets import load_digits, load_iris  # noqa: E402
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression, SGDClassifier  # noqa: E402
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from foretell.integrations.sklearn import SearchCV  # noqa: E402

X, Y = load_iris(return_X_y=True)
SGD = SGDClassifier(random_state=0)
ALPHA = {"alpha": ft.Float(1e-6, 1.0, log=True)}


CURVES = {"up": (1, 2, 3, 4, 5, 6), "peak": (1, 4, 7, 2, 2, 2), "low": (0,) * 6, "nan": (1, np.nan, 9, 9)}


class Climber(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Its score is read off a curve by the number of its epochs."""

    def __init__(self, curve: str = "up") -> None:
        self.curve = curve

    def partial_fit(self, x: Any, y: Any, classes: Any = None) -> Climber:
        self.epochs_ = getattr(self, "epochs_", 0) + 1
        assert (classes is not None) == (self.epochs_ == 1)
        if self.curve == "fails" and self.epochs_ == 2:
            raise RuntimeError("no second epoch")
        return self

    fit = partial_fit

    def score(self, x: Any, y: Any) -> float:
        return float(CURVES[self.curve][self.epochs_ - 1]) if self.curve != "fails" else 1.0


def climb(*curves: str, **options: Any) -> Any:
    space = {"curve": list(curves)} if len(curves) > 1 else {"curve": curves[0]}
    settings = {"sampler": "grid_search", "n_trials": len(curves), "max_epochs": 6, "cv": 3, **options}
    return SearchCV(Climber(), space, **settings).fit(X, Y)


def test_each_candidate_counts_by_its_best_epoch() -> None:
    search = climb("up", "peak", "low")
    results = search.cv_results_
    assert results["mean_test_score"].tolist() == [6, 7, 0]
    assert results["best_epoch"].tolist() == [6, 3, 1]
    assert results["n_epochs"].tolist() == [6, 6, 6]
    assert results["rank_test_score"].tolist() == [2, 1, 3]
    assert not results["stopped"].any()
    assert (search.best_params_, search.best_score_, search.best_epoch_) == ({"curve": "peak"}, 7, 3)
    assert search.best_estimator_.epochs_ == 3, "refitted for as many epochs as were best"
    assert search.study_.trials[0].curve.losses.tolist() == [-1, -2, -3, -4, -5, -6]


def test_a_rule_ends_a_training() -> None:
    search = climb("up", "peak", "low", stopping=ft.Patience(2))
    assert search.cv_results_["n_epochs"].tolist() == [6, 5, 3]
    assert not search.cv_results_["stopped"].any(), "one that ended itself is no loser"
    assert search.best_params_ == {"curve": "peak"}


def test_asha_stops_those_behind_and_they_are_never_best() -> None:
    scheduler = ft.ASHA(reduction_factor=2, first_rung=2)
    search = climb("up", "peak", "low", scheduler=scheduler)
    results = search.cv_results_
    assert results["stopped"].tolist() == [False, True, True]
    assert results["n_epochs"].tolist() == [6, 4, 2]
    assert results["mean_test_score"].tolist() == [6, 7, 0], "its peak was high, but it was behind when it was judged"
    assert results["rank_test_score"].tolist() == [1, 2, 3]
    assert search.best_params_ == {"curve": "up"}
    assert search.study_.trials[2].state is ft.State.STOPPED


@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_failures_and_nan_on_the_way() -> None:
    search = climb("up", "fails", "nan")
    assert search.best_params_ == {"curve": "up"}
    states = [trial.state for trial in search.study_.trials]
    assert states == [ft.State.DONE, ft.State.FAILED, ft.State.DIVERGED]
    assert "no second epoch" in str(search.study_.trials[1].error)
    with pytest.raises(RuntimeError, match="no second epoch"):
        climb("fails", error_score="raise")


def test_partial_fit_equals_a_loop_by_hand() -> None:
    search = SearchCV(SGD, ALPHA, n_trials=3, max_epochs=8, sampler="random_search", random_state=0, cv=3).fit(X, Y)
    for number, params in enumerate(search.cv_results_["params"]):
        curves = []
        for train, test in StratifiedKFold(3).split(X, Y):
            model = clone(SGD).set_params(**params)
            curves.append([model.partial_fit(X[train], Y[train], [0, 1, 2]).score(X[test], Y[test]) for _ in range(8)])
        mean = np.mean(curves, axis=0)
        np.testing.assert_allclose(-search.study_.trials[number].curve.losses, mean)
        assert search.cv_results_["mean_test_score"][number] == pytest.approx(mean.max())
        assert search.cv_results_["best_epoch"][number] == mean.argmax() + 1


@pytest.mark.parametrize("model", [RandomForestClassifier, GradientBoostingClassifier])
def test_a_warm_start_grows_the_same_model(model: Any) -> None:
    estimator = model(random_state=0, max_depth=2)
    space = {"min_samples_leaf": [1, 30]}
    search = SearchCV(estimator, space, sampler="grid_search", max_epochs=4, resource="n_estimators", cv=3).fit(X, Y)
    best = search.best_estimator_
    assert best.n_estimators == search.best_epoch_
    whole = clone(estimator).set_params(**search.best_params_, n_estimators=search.best_epoch_).fit(X, Y)
    np.testing.assert_allclose(best.predict_proba(X), whole.predict_proba(X))


def test_a_warm_start_within_a_pipeline() -> None:
    pipe = make_pipeline(StandardScaler(), GradientBoostingClassifier(random_state=0, max_depth=1))
    space = {"gradientboostingclassifier__learning_rate": ft.Float(0.01, 1.0, log=True)}
    resource = "gradientboostingclassifier__n_estimators"
    search = SearchCV(pipe, space, n_trials=2, max_epochs=5, resource=resource, random_state=0, cv=3).fit(X, Y)
    assert search.best_estimator_[-1].warm_start is True
    assert search.best_estimator_[-1].n_estimators_ == search.best_epoch_


def test_workers_give_the_same() -> None:
    alone = SearchCV(SGD, ALPHA, n_trials=4, max_epochs=4, sampler="random_search", random_state=0).fit(X, Y)
    with parallel_config("threading"):
        threads = clone(alone).set_params(n_jobs=2).fit(X, Y)
    processes = clone(alone).set_params(n_jobs=2).fit(X, Y)
    for other in (threads, processes):
        np.testing.assert_array_equal(alone.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"])
        assert (alone.best_params_, alone.best_epoch_) == (other.best_params_, other.best_epoch_)


def test_metrics_weights_groups_and_training_scores() -> None:
    weights, groups = np.linspace(0.1, 2.0, len(Y)), np.arange(len(Y)) % 5
    search = SearchCV(
        SGD, ALPHA, n_trials=3, max_epochs=3, random_state=0, scoring=["accuracy", "f1_macro"], refit="f1_macro",
        cv=GroupKFold(3), return_train_score=True,
    )  # fmt: skip
    search.fit(X, Y, sample_weight=weights, groups=groups)
    assert search.multimetric_
    assert search.best_score_ == search.cv_results_["mean_test_f1_macro"].max()
    assert {"mean_train_accuracy", "split2_train_f1_macro", "rank_test_accuracy"} <= search.cv_results_.keys()
    assert search.score(X, Y) > 0.5
    assert search.classes_.tolist() == [0, 1, 2]


def test_a_split_that_lacks_a_class() -> None:
    search = SearchCV(SGD, ALPHA, n_trials=2, max_epochs=2, cv=KFold(3), random_state=0).fit(X, Y)
    assert search.classes_.tolist() == [0, 1, 2]


def test_a_budget_of_epochs() -> None:
    search = SearchCV(SGD, ALPHA, n_trials=50, max_epochs=5, budget="12 epochs", random_state=0).fit(X, Y)
    assert search.cv_results_["n_epochs"].tolist() == [5, 5, 5]


def test_asha_saves_epochs_on_real_data_and_keeps_the_score() -> None:
    digits, labels = load_digits(return_X_y=True)
    digits, labels = digits[:400] / 16, labels[:400]
    full = SearchCV(SGD, ALPHA, n_trials=15, max_epochs=9, sampler="random_search", random_state=0, cv=3)
    asha = clone(full).set_params(scheduler="asha")
    full.fit(digits, labels)
    asha.fit(digits, labels)
    assert asha.cv_results_["n_epochs"].sum() < 0.7 * full.cv_results_["n_epochs"].sum()
    assert asha.best_score_ > full.best_score_ - 0.03


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(StudyError, match="LogisticRegression has no partial_fit: name the parameter"):
        SearchCV(LogisticRegression(), {"C": ft.Float(0.1, 1)}, max_epochs=3).fit(X, Y)
    with pytest.raises(StudyError, match="resource='trees' needs a parameter of that name and 'warm_start'"):
        SearchCV(RandomForestClassifier(), {"max_depth": [1]}, max_epochs=3, resource="trees").fit(X, Y)
    with pytest.raises(StudyError, match="give one of the two"):
        SearchCV(SGD, ALPHA, max_epochs=3, racing=True).fit(X, Y)
    with pytest.raises(TypeError, match="is no stopping rule"):
        SearchCV(SGD, ALPHA, max_epochs=3, stopping=ft.Patience).fit(X, Y)
