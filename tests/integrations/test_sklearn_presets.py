"""The searches that stand in for scikit-learn's: a changed import changes nothing."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import needs

sklearn = needs("sklearn")

from scipy.stats import loguniform, randint  # noqa: E402
from sklearn import config_context, model_selection  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import accuracy_score, get_scorer, make_scorer  # noqa: E402
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, cross_val_score  # noqa: E402
from sklearn.neighbors import KernelDensity  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC, LinearSVC  # noqa: E402
from sklearn.tree import DecisionTreeClassifier  # noqa: E402

from foretell.integrations.sklearn import GridSearchCV, HalvingRandomSearchCV, RandomizedSearchCV  # noqa: E402

X, Y = load_iris(return_X_y=True)
PAIRS = [("GridSearchCV", GridSearchCV), ("RandomizedSearchCV", RandomizedSearchCV)]
GRID = {"max_depth": [1, 2, 3], "min_samples_leaf": [1, 20]}


def same(ours: Any, theirs: Any) -> None:
    """Two fitted searches have the same results, but for what was timed."""
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for key, value in theirs.cv_results_.items():
        if key == "params":
            assert ours.cv_results_[key] == value
        elif not key.endswith("_time"):
            assert ours.cv_results_[key].dtype == value.dtype
            np.testing.assert_array_equal(np.ma.filled(ours.cv_results_[key], 0), np.ma.filled(value, 0))
    for name in ("best_index_", "best_score_", "best_params_", "n_splits_", "multimetric_"):
        assert getattr(ours, name, None) == getattr(theirs, name, None)


def both(kind: str, *arguments: Any, fit: tuple[Any, ...] = (X, Y), params: Any = None, **options: Any) -> Any:
    """The search of ours and of scikit-learn's, fitted alike and compared."""
    found = [
        getattr(module, kind)(*arguments, **options).fit(*fit, **(params or {}))
        for module in (__import__("foretell.integrations.sklearn", fromlist=[kind]), model_selection)
    ]
    same(*found)
    return found[0]


@pytest.mark.parametrize(("kind", "ours"), PAIRS)
def test_the_signature_is_scikit_learns_and_racing(kind: str, ours: type) -> None:
    theirs = inspect.signature(getattr(model_selection, kind)).parameters
    mine = inspect.signature(ours).parameters
    assert [*theirs, "racing"] == list(mine)
    for name, parameter in theirs.items():
        assert (mine[name].kind, repr(mine[name].default)) == (parameter.kind, repr(parameter.default))
    assert issubclass(ours, getattr(model_selection, kind))


def test_halving_is_scikit_learns_own() -> None:
    assert HalvingRandomSearchCV is model_selection.HalvingRandomSearchCV


@given(
    st.integers(0, 2**31 - 1),
    st.integers(1, 5),
    st.integers(2, 4),
    st.booleans(),
)
@settings(max_examples=8)
def test_random_candidates_and_results_are_scikit_learns(seed: int, n_iter: int, cv: int, train: bool) -> None:
    space = {"max_depth": randint(1, 6), "ccp_alpha": loguniform(1e-4, 1e-1), "criterion": ["gini", "entropy"]}
    both(
        "RandomizedSearchCV", DecisionTreeClassifier(random_state=0), space, n_iter=n_iter, random_state=seed, cv=cv,
        return_train_score=train,
    )  # fmt: skip


@given(
    st.fixed_dictionaries(
        {"C": st.lists(st.sampled_from([0.01, 0.1, 1.0, 10.0]), min_size=1, max_size=3, unique=True)},
        optional={"kernel": st.just(["linear", "rbf"]), "gamma": st.just([0.1, "scale"])},
    ),
    st.integers(2, 4),
)
@settings(max_examples=8)
def test_grids_and_results_are_scikit_learns(grid: dict[str, Any], cv: int) -> None:
    both("GridSearchCV", SVC(), grid, cv=cv)
    both("GridSearchCV", SVC(), [grid, {"C": [1.0]}], cv=cv, return_train_score=True)


SCORINGS: list[Any] = [
    "f1_macro",
    ["accuracy", "f1_macro"],
    {"acc": make_scorer(accuracy_score), "loss": "neg_log_loss"},
    lambda estimator, x, y: {"acc": estimator.score(x, y), "depth": -float(estimator.get_depth())},
    lambda estimator, x, y: estimator.score(x, y),
]


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("choose", ["name", "callable", "no"])
def test_metrics_and_refit(scoring: Any, choose: str) -> None:
    several = not isinstance(scoring, str) and SCORINGS.index(scoring) != 4
    first = {1: "accuracy", 2: "acc", 3: "acc"}.get(SCORINGS.index(scoring), "score")
    refit = {"name": first if several else True, "callable": lambda results: 1, "no": False}[choose]
    tree = DecisionTreeClassifier(random_state=0)
    search = both("GridSearchCV", tree, GRID, scoring=scoring, refit=refit, cv=3, return_train_score=True)
    assert hasattr(search, "best_estimator_") == (choose != "no")


def test_parallel_fits_give_the_same() -> None:
    one = both("GridSearchCV", DecisionTreeClassifier(random_state=0), GRID, n_jobs=2)
    same(one, GridSearchCV(DecisionTreeClassifier(random_state=0), GRID).fit(X, Y))


def test_weights_and_groups_are_passed_on() -> None:
    groups, weights = np.arange(len(Y)) % 5, np.linspace(0.1, 2.0, len(Y))
    tree = DecisionTreeClassifier(random_state=0)
    both("GridSearchCV", tree, GRID, cv=GroupKFold(3), params={"groups": groups, "sample_weight": weights})


def test_metadata_are_routed() -> None:
    groups, weights = np.arange(len(Y)) % 5, np.linspace(0.1, 2.0, len(Y))
    with config_context(enable_metadata_routing=True):
        tree = DecisionTreeClassifier(random_state=0).set_fit_request(sample_weight=True)
        scorer = get_scorer("accuracy").set_score_request(sample_weight=True)
        search = both(
            "RandomizedSearchCV", tree, GRID, n_iter=3, random_state=0, scoring=scorer, cv=GroupKFold(3),
            params={"groups": groups, "sample_weight": weights},
        )  # fmt: skip
        assert search.score(X, Y, sample_weight=weights) > 0.5
        with pytest.raises(ValueError, match=r"not (explicitly )?requested"):
            GridSearchCV(DecisionTreeClassifier(), GRID).fit(X, Y, sample_weight=weights)


class Sometimes(DecisionTreeClassifier):  # type: ignore[misc]
    """Fails for one value."""

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
        if self.max_depth == 2:
            raise RuntimeError("no depth of two")
        return super().fit(x, y, sample_weight)


@pytest.mark.parametrize("error_score", [np.nan, 0.0])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_failing_fits(error_score: float) -> None:
    search = both("GridSearchCV", Sometimes(random_state=0), GRID, error_score=error_score)
    assert search.best_params_["max_depth"] != 2
    with pytest.raises(RuntimeError, match="no depth of two"):
        GridSearchCV(Sometimes(), GRID, error_score="raise").fit(X, Y)
    with pytest.raises(ValueError, match="All the 5 fits failed"):
        GridSearchCV(Sometimes(), {"max_depth": [2]}).fit(X, Y)


def test_unsupervised_estimators_pipelines_and_kernels() -> None:
    both("GridSearchCV", KernelDensity(), {"bandwidth": [0.1, 1.0]}, fit=(X,))
    both("GridSearchCV", KMeans(random_state=0, n_init=1), {"n_clusters": [2, 3]}, fit=(X,), scoring=_inertia)
    pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = both("GridSearchCV", pipe, {"logisticregression__C": [0.1, 1.0], "standardscaler": ["passthrough"]})
    assert search.predict_proba(X).shape == (150, 3)
    kernel = X @ X.T
    both("GridSearchCV", SVC(kernel="precomputed"), {"C": [0.1, 1.0]}, fit=(kernel, Y))
    assert cross_val_score(GridSearchCV(SVC(kernel="precomputed"), {"C": [0.1, 1.0]}), kernel, Y).mean() > 0.9


def test_estimators_among_the_values() -> None:
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    last, first = [LogisticRegression(C=0.1), SVC()], [StandardScaler(), "passthrough"]
    grid = {"logisticregression": last, "standardscaler": first}
    theirs = model_selection.GridSearchCV(pipe, grid).fit(X, Y)
    ours = GridSearchCV(pipe, grid).fit(X, Y)
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


def test_empty_and_wrong_parameters_are_refused_as_there() -> None:
    for grid in ({"C": []}, {"C": 1.0}):
        for kind in (GridSearchCV, model_selection.GridSearchCV):
            with pytest.raises((ValueError, TypeError)):
                kind(SVC(), grid).fit(X, Y)
    with pytest.raises(ValueError, match="Invalid parameter 'foo'"):
        GridSearchCV(SVC(), {"foo": [1]}).fit(X, Y)
    with pytest.raises(ValueError, match="'racing' parameter"):
        GridSearchCV(SVC(), {"C": [1.0]}, racing="yes").fit(X, Y)
    search = GridSearchCV(LinearSVC(), {"C": [0.1]}, refit=False).fit(X, Y)
    with pytest.raises(AttributeError):
        search.predict(X)
    with pytest.raises(AttributeError):
        GridSearchCV(LinearSVC(), {"C": [0.1]}).fit(X, Y).predict_proba(X)


def test_clones_and_splitters_with_a_seed() -> None:
    search = RandomizedSearchCV(SVC(), {"C": loguniform(0.1, 10)}, n_iter=3, random_state=0, racing=True)
    assert clone(search).get_params()["racing"] is True
    for splitter in (KFold(3, shuffle=True, random_state=1), StratifiedKFold(4), list(KFold(3).split(X))):
        both("GridSearchCV", DecisionTreeClassifier(random_state=0), GRID, cv=splitter)


def _inertia(estimator: Any, x: Any, y: Any = None) -> float:
    return -float(estimator.inertia_)
