"""Search a random forest on iris, with foretell in place of scikit-learn's searches: about 20 seconds.

First only an import is changed: the same candidates, the same results. Then `racing=True` leaves out fits that cannot
change the outcome. Then a Bayesian search proposes the candidates instead of chance. A third of the flowers is set
aside, and no search ever sees it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy.stats import randint, uniform
from sklearn import model_selection
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, train_test_split

import foretell as ft
from foretell.integrations.sklearn import RandomizedSearchCV, SearchCV

CANDIDATES, SPLITS = 15, StratifiedKFold(6, shuffle=True, random_state=0)
FOREST = RandomForestClassifier(random_state=0)
DISTRIBUTIONS = {  # what scikit-learn's random search takes; SearchCV takes it too
    "n_estimators": randint(5, 31),
    "max_depth": randint(1, 9),
    "max_features": uniform(0.25, 0.75),
    "min_samples_leaf": randint(1, 21),
}
SPACE = ft.Space(
    n_estimators=ft.Int(5, 30),
    max_depth=ft.Int(1, 8),
    max_features=ft.Float(0.25, 1.0),
    min_samples_leaf=ft.Int(1, 20, log=True),
)


def fits(search: Any) -> int:
    """Forests that were grown: one for each split that was scored."""
    scored = search.cv_results_.get("n_splits_scored")
    return len(search.cv_results_["params"]) * search.n_splits_ if scored is None else int(scored.sum())


def main() -> None:
    """Run the four searches and compare them."""
    flowers, kinds = load_iris(return_X_y=True)
    x, x_test, y, y_test = train_test_split(flowers, kinds, test_size=1 / 3, random_state=0, stratify=kinds)
    options = {"n_iter": CANDIDATES, "cv": SPLITS, "random_state": 0}
    searches = {
        "scikit-learn, random": model_selection.RandomizedSearchCV(FOREST, DISTRIBUTIONS, **options),
        "foretell, random": RandomizedSearchCV(FOREST, DISTRIBUTIONS, **options),
        "foretell, random, raced": RandomizedSearchCV(FOREST, DISTRIBUTIONS, **options, racing=True),
        "foretell, Bayesian, raced": SearchCV(
            FOREST, SPACE, n_trials=CANDIDATES, cv=SPLITS, random_state=0, racing=True
        ),
    }
    print(f"{'':28}{'accuracy':>10}{'on test':>10}{'fits':>7}{'seconds':>9}")
    for name, search in searches.items():
        begun = time.perf_counter()
        search.fit(x, y)
        seconds = time.perf_counter() - begun
        print(
            f"{name:28}{search.best_score_:>10.3f}{search.score(x_test, y_test):>10.3f}{fits(search):>7}{seconds:>9.1f}"
        )
    theirs, ours, raced, bayesian = searches.values()
    same = np.array_equal(theirs.cv_results_["mean_test_score"], ours.cv_results_["mean_test_score"])
    print(f"\nA changed import changes nothing: {'every score is equal' if same else 'the scores differ'}.")
    print(f"Racing leaves the winner as it was: {raced.best_params_ == ours.best_params_}.")
    print(f"Best parameters of the Bayesian search: {bayesian.best_params_}")
    print(f"As a study: {bayesian.study_.best}")


if __name__ == "__main__":
    main()
