"""SearchCV and fold racing."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell as ft
from foretell.errors import BudgetError, MetricError, MissingExtra, SpaceError, StudyError
from tests.conftest import needs

sklearn = needs("sklearn")

from joblib import parallel_config  # noqa: E402
from scipy.stats import loguniform, norm, randint, uniform  # noqa: E402
from sklearn import model_selection  # noqa: E402
from sklearn.base import BaseEstimator, ClassifierMixin, clone  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.model_selection import KFold, cross_val_score  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC, LinearSVC  # noqa: E402
from sklearn.tree import DecisionTreeClassifier  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from foretell.integrations.sklearn import GridSearchCV, RandomizedSearchCV, SearchCV  # noqa: E402

X, Y = load_iris(return_X_y=True)
TREE = DecisionTreeClassifier(random_state=0)
SPACE = {"max_depth": ft.Int(1, 5), "ccp_alpha": ft.Float(1e-4, 0.1, log=True)}


class Table(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Its score on each split is read off a table."""

    table: tuple[tuple[float, ...], ...] = ()

    def __init__(self, row: int = 0) -> None:
        self.row = row

    def fit(self, x: Any, y: Any) -> Table:
        self.classes_ = np.unique(y)
        if any(np.isinf(score) for score in self.table[self.row]):
            raise RuntimeError("this one cannot be fitted")
        return self

    def score(self, x: Any, y: Any) -> float:
        return self.table[self.row][int(x[0, 0])]


def race(table: Any, kind: Any = GridSearchCV, **options: Any) -> Any:
    """A raced search over the rows of a table; the splits are its columns, two samples each."""
    splits = len(table[0])
    features = np.repeat(np.arange(splits), 2)[:, None]
    estimator = type("Filled", (Table,), {"table": table, "__module__": __name__})()
    found = {"racing": True, "cv": KFold(splits), "refit": False, **options}
    rows = {"row": list(range(len(table)))}
    return kind(estimator, rows, **found).fit(features, np.zeros(2 * splits))


def by_hand(table: Any) -> list[int]:
    """Splits that the forgiving rule scores, written down from the paper."""
    scored, incumbent = [], None
    for row in table:
        for done in range(1, len(row) + 1):
            if incumbent is not None and done < len(row) and np.mean(row[:done]) < min(incumbent):
                break
        scored.append(done)
        if done == len(row) and (incumbent is None or np.mean(row) > np.mean(incumbent)):
            incumbent = row
    return scored


tables = st.integers(2, 5).flatmap(
    lambda splits: st.lists(st.tuples(*[st.integers(0, 8).map(float)] * splits), min_size=1, max_size=8)
)


@given(tables)
@settings(max_examples=40)
def test_the_forgiving_rule(table: Any) -> None:
    search = race(table)
    results = search.cv_results_
    scored = by_hand(table)
    assert results["n_splits_scored"].tolist() == scored
    assert results["stopped"].tolist() == [count < len(table[0]) for count in scored]
    means = np.array([np.mean(row[:count]) for row, count in zip(table, scored, strict=True)])
    np.testing.assert_allclose(results["mean_test_score"], means)
    deviations = [np.std(row[:count]) for row, count in zip(table, scored, strict=True)]
    np.testing.assert_allclose(results["std_test_score"], deviations, atol=1e-12)
    for split in range(len(table[0])):
        column = [row[split] if split < count else np.nan for row, count in zip(table, scored, strict=True)]
        np.testing.assert_array_equal(results[f"split{split}_test_score"], column)
    ranks, full = results["rank_test_score"], ~results["stopped"]
    assert search.best_score_ == means[full].max()
    assert ranks.min() == 1
    for i in range(len(table)):
        assert ranks[i] == 1 + sum((full[j], means[j]) > (full[i], means[i]) for j in range(len(table)))


def test_what_a_stopped_candidate_leaves() -> None:
    search = race(((9.0, 7.0, 8.0), (6.0, 9.0, 9.0), (9.0, 4.0, 9.0)))
    results = search.cv_results_
    assert results["n_splits_scored"].tolist() == [3, 1, 2]
    assert np.isnan(results["split1_test_score"]).tolist() == [False, True, False]
    assert results["rank_test_score"].tolist() == [1, 3, 2]
    assert np.isfinite(results["mean_fit_time"]).all()


def test_splits_are_spread_over_idle_workers() -> None:
    # With two workers: the first two candidates have nobody to race; the others end after one split, or, when one of a
    # pair goes on alone, it is scored on two splits at a time.
    table = ((9.0, 8.0, 8.0, 9.0), (1.0,) * 4, (9.0, 6.0, 1.0, 1.0), (1.0,) * 4)
    assert race(table).cv_results_["n_splits_scored"].tolist() == [4, 1, 2, 1]
    with parallel_config("threading"):
        search = race(table, n_jobs=2)
    assert search.cv_results_["n_splits_scored"].tolist() == [4, 4, 3, 1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_a_candidate_that_cannot_be_fitted_does_not_end_the_race() -> None:
    bad = (np.inf, np.inf, np.inf)
    for table in ((bad, (5.0, 5.0, 5.0), bad, (6.0, 6.0, 6.0)), ((5.0, 5.0, 5.0), (6.0, 6.0, 6.0), bad)):
        search = race(table)
        means = search.cv_results_["mean_test_score"]
        assert [np.isnan(mean) for mean in means] == [row is bad for row in table]
        assert search.best_score_ == 6.0
        assert search.cv_results_["rank_test_score"].max() == search.cv_results_["rank_test_score"][table.index(bad)]
        assert race(table, error_score=-1.0).cv_results_["mean_test_score"].min() == -1.0
    with pytest.raises(RuntimeError, match="cannot be fitted"):
        race((bad, (5.0, 5.0, 5.0)), error_score="raise")
    with pytest.raises(ValueError, match=r"All the \d fits failed"):
        race((bad, bad))


def test_racing_keeps_scikit_learns_winner_and_saves_fits() -> None:
    space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1e1)}
    options: dict[str, Any] = {"n_iter": 30, "random_state": 1, "cv": 8}
    full = model_selection.RandomizedSearchCV(SVC(), space, **options).fit(X, Y)
    raced = RandomizedSearchCV(SVC(), space, racing=True, **options).fit(X, Y)
    assert raced.cv_results_["params"] == full.cv_results_["params"]
    assert (raced.best_params_, raced.best_score_) == (full.best_params_, full.best_score_)
    assert raced.cv_results_["n_splits_scored"].sum() < 0.8 * 8 * 30


def test_several_metrics_race_by_the_one_of_refit() -> None:
    options: dict[str, Any] = {"scoring": ["accuracy", "f1_macro"], "cv": 5, "racing": True, "return_train_score": True}
    grid = {"max_depth": [3, 1], "min_samples_leaf": [1, 60]}
    search = GridSearchCV(TREE, grid, refit="f1_macro", **options).fit(X, Y)
    results = search.cv_results_
    assert results["stopped"].any()
    for name in ("accuracy", "f1_macro"):
        assert np.isnan(results[f"split4_train_{name}"]).tolist() == results["stopped"].tolist()
        assert results[f"rank_test_{name}"][results["stopped"]].min() > results[f"rank_test_{name}"][search.best_index_]
    with pytest.raises(MetricError, match="give refit='accuracy'"):
        GridSearchCV(TREE, grid, refit=False, **options).fit(X, Y)


def test_a_refit_function_cannot_choose_a_stopped_candidate() -> None:
    table = ((9.0, 9.0, 9.0), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="can never be best"):
        race(table, refit=lambda results: 1)


def test_an_older_scikit_learn_is_told_of() -> None:
    search = GridSearchCV(TREE, {"max_depth": [1, 2]}, racing=True)
    with pytest.raises(MissingExtra, match=r"since 1\.9"):
        search._run_search(lambda candidate_params, cv=None, more_results=None: {})


def test_a_splitter_that_contradicts_itself_is_told() -> None:
    class Odd(KFold):  # type: ignore[misc]
        def get_n_splits(self, *_: Any, **__: Any) -> int:
            return 4

    with pytest.raises(ValueError, match=r"cv.split gives 3 splits and cv.get_n_splits says 4"):
        GridSearchCV(TREE, {"max_depth": [1, 2]}, racing=True, cv=Odd(3)).fit(X, Y)


# --- SearchCV --------------------------------------------------------------------------------------------------------


def test_it_searches_and_has_what_scikit_learns_searches_have() -> None:
    search = SearchCV(TREE, SPACE, n_trials=12, random_state=0, return_train_score=True).fit(X, Y)
    theirs = model_selection.GridSearchCV(TREE, {"max_depth": [1]}, return_train_score=True).fit(X, Y)
    extra = {"param_ccp_alpha"}
    assert set(search.cv_results_) == set(theirs.cv_results_) | extra
    assert len(search.cv_results_["params"]) == 12
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.best_estimator_.get_params().items() >= search.best_params_.items()
    assert search.predict_proba(X).shape == (150, 3)
    assert search.classes_.tolist() == [0, 1, 2]
    assert search.n_features_in_ == 4
    assert search.score(X, Y) > 0.9
    trial = search.study_.best
    assert trial.value == search.best_score_
    assert trial.params == search.best_params_
    assert list(trial.curve.steps) == [1, 2, 3, 4, 5]


def test_the_same_seed_gives_the_same_search() -> None:
    for sampler in ("gp", "random_search", "qmc"):
        found = [SearchCV(TREE, SPACE, n_trials=10, sampler=sampler, random_state=3).fit(X, Y) for _ in range(2)]
        assert found[0].cv_results_["params"] == found[1].cv_results_["params"]
    other = SearchCV(TREE, SPACE, n_trials=10, sampler=sampler, random_state=4).fit(X, Y)
    assert other.cv_results_["params"] != found[0].cv_results_["params"]


def test_each_candidate_is_scored_as_scikit_learn_scores_it() -> None:
    search = SearchCV(SVC(), {"C": loguniform(1e-2, 1e2)}, n_trials=5, random_state=0, cv=3).fit(X, Y)
    for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        assert cross_val_score(SVC(**params), X, Y, cv=3).mean() == pytest.approx(score)


def test_every_kind_of_parameter() -> None:
    hidden = [(5,), (5, 5)]
    space = {
        "int": randint(1, 4), "log": loguniform(1e-3, 1e-1), "wide": norm(0, 1), "flat": uniform(2, 3),
        "list": [3, 1, 2], "array": np.array([0.1, 0.2]), "tuples": hidden, "mixed": [None, "auto", 2],
        "twins": ["scale", "scale"], "fixed": 7, "choice": ft.Choice(["a", "b"]), "float": ft.Float(0, 1),
        "objects": [StandardScaler(), "passthrough"],
    }  # fmt: skip
    from foretell.integrations._sklearn_space import searched

    known = searched(space)
    rng = np.random.default_rng(0)
    seen = [known.decode(known.space.sample(rng)) for _ in range(300)]
    assert {params["int"] for params in seen} == {1, 2, 3}
    assert all(isinstance(params["int"], int) for params in seen)
    assert all(1e-3 <= params["log"] <= 1e-1 and 2 <= params["flat"] <= 5 for params in seen)
    assert abs(np.median([np.log10(params["log"]) for params in seen]) + 2) < 0.15
    assert np.isfinite([params["wide"] for params in seen]).all()
    for name in ("list", "tuples", "mixed", "twins"):
        assert {params[name] for params in seen} == set(space[name])
    assert {params["array"] for params in seen} == {0.1, 0.2}
    assert {params["fixed"] for params in seen} == {7}
    assert any(params["objects"] is space["objects"][0] for params in seen)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([{"C": [1.0]}], "a list of dicts|A list of dicts"),
        ({"C": []}, "'C' is an empty list"),
        ({"C": object()}, "give a Float, Int or Choice, a list of values"),
        ({"C": {1.0, 2.0}}, "give a Float, Int or Choice"),
        ({"C": type("Draws", (), {"rvs": None})()}, "without ppf"),
    ],
)
def test_what_is_no_space_is_told_with_the_cure(space: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchCV(SVC(), space, n_trials=2).fit(X, Y)


def test_branches_and_constraints_of_a_space() -> None:
    space = ft.Space(
        kernel=ft.Choice({"linear": {}, "rbf": {"gamma": ft.Float(1e-3, 10, log=True)}}),
        C=ft.Float(0.01, 100, log=True), constraints="C <= 50",
    )  # fmt: skip
    search = SearchCV(SVC(), space, n_trials=12, sampler="random_search", random_state=0).fit(X, Y)
    for params, gamma in zip(search.cv_results_["params"], search.cv_results_["param_gamma"], strict=True):
        assert (params["kernel"] == "rbf") == ("gamma" in params) == (gamma is not np.ma.masked)
        assert params["C"] <= 50


def test_a_grid_ends_by_itself() -> None:
    grid = {"max_depth": [1, 2, 3], "min_samples_leaf": [1, 20]}
    ours = SearchCV(TREE, grid, n_trials=100, sampler="grid_search").fit(X, Y)
    theirs = model_selection.GridSearchCV(TREE, grid).fit(X, Y)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    assert ours.best_index_ == theirs.best_index_


def test_it_races() -> None:
    search = SearchCV(SVC(), {"C": loguniform(1e-3, 1e3)}, n_trials=15, racing=True, random_state=0, cv=5).fit(X, Y)
    results = search.cv_results_
    assert results["stopped"].any()
    assert not results["stopped"][search.best_index_]
    for number, trial in enumerate(search.study_.trials):
        assert (trial.state is ft.State.STOPPED) == results["stopped"][number]
        assert trial.step == results["n_splits_scored"][number]
        if results["stopped"][number]:
            assert trial.decisions[-1].rule == "racing"
            assert "under the incumbent's worst split" in trial.decisions[-1].reason
    assert search.study_.best.number == search.best_index_


def test_batches_are_as_large_as_the_jobs() -> None:
    search = SearchCV(TREE, SPACE, n_trials=5, n_jobs=2, random_state=0).fit(X, Y)
    assert len(search.cv_results_["params"]) == 5
    alone = SearchCV(TREE, SPACE, n_trials=5, sampler="random_search", random_state=0)
    abreast = clone(alone).set_params(n_jobs=2)
    assert alone.fit(X, Y).cv_results_["params"] == abreast.fit(X, Y).cv_results_["params"]


def test_budgets() -> None:
    assert len(SearchCV(TREE, SPACE, n_trials=9, budget="3 trials").fit(X, Y).study_.trials) == 3
    assert len(SearchCV(TREE, SPACE, n_trials=9, budget="0.000001 s").fit(X, Y).study_.trials) == 1
    with pytest.raises(BudgetError):
        SearchCV(TREE, SPACE, budget="soon").fit(X, Y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_failing_candidates_are_failed_trials() -> None:
    space = {"penalty_name": ft.Choice(["good", "bad"])}

    class Picky(Ridge):  # type: ignore[misc]
        def __init__(self, penalty_name: str = "good", alpha: float = 1.0) -> None:
            super().__init__(alpha=alpha)
            self.penalty_name = penalty_name

        def fit(self, x: Any, y: Any) -> Any:
            if self.penalty_name == "bad":
                raise RuntimeError("bad penalty")
            return super().fit(x, y)

    search = SearchCV(Picky(), space, sampler="grid_search", cv=3).fit(X, Y)
    assert [trial.state for trial in search.study_.trials] == [ft.State.DONE, ft.State.FAILED]
    assert search.best_params_ == {"penalty_name": "good"}
    with pytest.raises(RuntimeError, match="bad penalty"):
        SearchCV(Picky(), space, sampler="grid_search", error_score="raise").fit(X, Y)
    with pytest.raises(ValueError, match="All the 5 fits failed"):
        SearchCV(Picky(), {"penalty_name": "bad"}, n_trials=2).fit(X, Y)


def test_several_metrics_follow_refit() -> None:
    search = SearchCV(TREE, SPACE, n_trials=6, scoring=["accuracy", "f1_macro"], refit="f1_macro", random_state=0)
    search.fit(X, Y)
    assert search.best_score_ == search.cv_results_["mean_test_f1_macro"].max()
    assert search.study_.objective.metric == "mean_test_f1_macro"
    with pytest.raises(MetricError, match="give refit='accuracy'"):
        SearchCV(TREE, SPACE, n_trials=3, scoring=["accuracy", "f1_macro"], refit=False).fit(X, Y)


def test_it_nests_clones_and_pickles() -> None:
    search = SearchCV(TREE, SPACE, n_trials=3, cv=2, random_state=0, sampler="random_search")
    assert cross_val_score(search, X, Y, cv=3).min() > 0.5
    outer = GridSearchCV(search, {"n_trials": [1, 2]}, cv=2).fit(X, Y)
    assert outer.best_estimator_.n_trials in (1, 2)
    fitted = search.fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    assert again.study_.best.params == fitted.best_params_
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)


def test_pipelines_transformers_and_frames() -> None:
    pandas = needs("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    pipe = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(max_iter=500))])
    space = {"scale": [StandardScaler(), "passthrough"], "model__C": ft.Float(0.1, 10, log=True)}
    search = SearchCV(pipe, space, n_trials=4, cv=3, random_state=0).fit(frame, Y)
    assert search.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    reduced = SearchCV(PCA(), {"n_components": ft.Int(1, 3)}, n_trials=3, random_state=0).fit(X)
    assert reduced.inverse_transform(reduced.transform(X)).shape == X.shape
    kernels = SearchCV(SVC(kernel="precomputed"), {"C": ft.Float(0.1, 10)}, n_trials=3, random_state=0).fit(X @ X.T, Y)
    assert kernels.score(X @ X.T, Y) > 0.9
    assert make_pipeline(StandardScaler(), SearchCV(TREE, SPACE, n_trials=2)).fit(X, Y).predict(X).shape == (150,)


def test_what_the_estimator_lacks_the_search_lacks() -> None:
    search = SearchCV(LinearSVC(), {"C": [0.1]}, n_trials=1).fit(X, Y)
    assert hasattr(search, "decision_function")
    assert not hasattr(search, "predict_proba")
    without = SearchCV(TREE, SPACE, n_trials=1, refit=False).fit(X, Y)
    assert without.best_params_
    assert not hasattr(without, "best_estimator_")
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        without.predict(X)


def test_settings_that_make_no_sense() -> None:
    for options in ({"scheduler": "asha"}, {"stopping": ft.Patience(3)}, {"resource": "max_iter"}):
        with pytest.raises(StudyError, match="give max_epochs, or leave them out"):
            SearchCV(TREE, SPACE, **options).fit(X, Y)
    for options in ({"n_trials": 0}, {"racing": "yes"}, {"max_epochs": 0}):
        with pytest.raises(ValueError, match="parameter of SearchCV must be"):
            SearchCV(TREE, SPACE, **options).fit(X, Y)
    with pytest.raises(StudyError, match="Did you mean 'grid_search'"):
        SearchCV(TREE, SPACE, sampler="gridsearch").fit(X, Y)


SEARCHES = [
    SearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, sampler="grid_search", cv=2, error_score="raise"),
    SearchCV(LogisticRegression(), {"C": ft.Float(0.1, 1)}, n_trials=2, racing=True, cv=2, error_score="raise"),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, error_score="raise"),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, racing=True, error_score="raise"),
    RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2, cv=2, random_state=0, error_score="raise"),
]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: f"{type(search).__name__}-{search.racing}")
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks(search: Any) -> None:
    outcomes = {
        result["check_name"]: result["status"] for result in check_estimator(search, on_fail=None, on_skip=None)
    }
    failed = {name for name, status in outcomes.items() if status == "failed"}
    excused = {"check_supervised_y_2d"} if isinstance(search.estimator, Ridge) else set()  # as for scikit-learn's own
    assert failed == excused
    assert sum(status == "passed" for status in outcomes.values()) > 40
