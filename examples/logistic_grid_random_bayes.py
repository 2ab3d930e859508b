"""Grid, random and Bayesian search side by side at equal cost: a logistic regression on the breast cancer data.

Each search may score 25 candidates on 4 splits; the fourth is the third with racing, which scores as many candidates
with fewer fits. Everything is repeated over several divisions of the data into a part that is searched on and a part
that is only tested on. About half a minute; `--quick` takes two divisions.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import foretell as ft
from foretell.integrations.sklearn import SearchCV

SEEDS, CANDIDATES, SPLITS = 2 if "--quick" in sys.argv else 5, 25, 4
MODEL = Pipeline(
    [
        ("scale", StandardScaler()),
        ("select", SelectKBest()),
        ("model", LogisticRegression(solver="newton-cholesky", max_iter=1000)),
    ]
)
SPACE = ft.Space({"select__k": ft.Int(1, 30), "model__C": ft.Float(1e-4, 1e4, log=True)})
SEARCHES: dict[str, dict[str, Any]] = {
    "grid, 5 x 5": {"sampler": ft.GridSearch(points=5)},
    "random": {"sampler": "random_search"},
    "Bayesian": {"sampler": "gp"},
    "Bayesian, raced": {"sampler": "gp", "racing": True},
}


def run(seed: int, options: dict[str, Any]) -> tuple[float, float, float, float]:
    """One search on one division of the data: log loss over the splits, on the test part, fits, seconds."""
    data, labels = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(data, labels, test_size=0.4, random_state=seed, stratify=labels)
    splits = StratifiedKFold(SPLITS, shuffle=True, random_state=seed)
    begun = time.perf_counter()
    search = SearchCV(
        MODEL, SPACE, n_trials=CANDIDATES, scoring="neg_log_loss", cv=splits, random_state=seed, **options
    ).fit(x, y)
    seconds = time.perf_counter() - begun
    fits = search.cv_results_.get("n_splits_scored", np.full(CANDIDATES, SPLITS)).sum()
    return -search.best_score_, -search.score(x_test, y_test), float(fits), seconds


def main() -> None:
    """Print the table: means over the divisions, and how often each search found the lowest loss."""
    found = {name: np.array([run(seed, options) for seed in range(SEEDS)]) for name, options in SEARCHES.items()}
    best = np.min([rows[:, 0] for rows in found.values()], axis=0)
    print(f"{SEEDS} divisions of the data, {CANDIDATES} candidates, {SPLITS} splits; log loss, lower is better\n")
    print(f"{'':18}{'in the search':>18}{'on the test part':>20}{'best in':>9}{'fits':>7}{'seconds':>9}")
    for name, rows in found.items():
        (loss, test, fits, seconds), error = rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(SEEDS)
        wins = int((rows[:, 0] <= best + 1e-4).sum())
        inside, outside = f"{loss:.4f} ± {error[0]:.4f}", f"{test:.4f} ± {error[1]:.4f}"
        print(f"{name:18}{inside:>18}{outside:>20}{f'{wins}/{SEEDS}':>9}{fits:>7.0f}{seconds:>9.2f}")
    print(
        "\nThe error is that of the mean. 'Best in' counts a search within 0.0001 of the lowest loss of its division."
    )
    for name in ("random", "Bayesian"):
        gain = found["grid, 5 x 5"][:, 0] - found[name][:, 0]
        error = gain.std(ddof=1) / np.sqrt(SEEDS)
        print(f"{name} is better than the grid by {gain.mean():.4f} ± {error:.4f} in the search (paired).")


if __name__ == "__main__":
    main()
