"""A perceptron that stops at a loss threshold, with a decaying learning rate, in five seconds.

Real data (scikit-learn's 569 breast tumours, benign or malignant), NumPy alone. The loss is the mean distance by which
tumours lie on the wrong side of the plane; training ends when it is at most 0.001. Several decays of the learning rate
lr0 / (1 + decay * epoch) are compared by how soon they get there, over ten orders of the data each.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import foretell as ft
from foretell.lr.inverse_time import InverseTime

LIMIT, EPOCHS, SEEDS, DECAYS = 0.001, 100, 10, (0.0, 0.1, 0.3, 1.0)


def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Standardised measurements with a constant, (n, 31), and classes -1 or 1: to train on, and to test on."""
    x, y = load_breast_cancer(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, 2 * y - 1, test_size=0.3, random_state=0, stratify=y)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    x, x_test = (np.column_stack([(part - mean) / deviation, np.ones(len(part))]) for part in (x, x_test))
    return x, y, x_test, y_test


X, Y, X_TEST, Y_TEST = split()


def train(decay: float, seed: int) -> tuple[ft.Run, float]:
    """Train until the threshold or for all epochs; the run, and the share of the test set that is misjudged."""
    weights = np.zeros(X.shape[1])
    run = ft.Run(minimize="loss", stopping=ft.Threshold(LIMIT), seed=seed)
    run.schedule = InverseTime(1.0, decay)
    run.track(weights=weights)
    for _ in run.epochs(EPOCHS):
        for row in run.rng.permutation(len(Y)):
            if Y[row] * (X[row] @ weights) <= 0:
                weights += run.lr * Y[row] * X[row]
        wrong_by = np.maximum(0, -Y * (X @ weights)) / np.linalg.norm(weights)
        run.report(loss=wrong_by.mean())
    return run, float(np.mean(Y_TEST * (X_TEST @ weights) <= 0))


def main() -> None:
    """Print one line for each decay, and what the last run that stopped said."""
    print(f"{SEEDS} runs each; epochs until the loss is at most {LIMIT}, of at most {EPOCHS}\n")
    print(f"{'decay':>6}{'there':>8}{'fewest':>9}{'median':>9}{'most':>7}{'last rate':>12}{'test error':>13}")
    said = ""
    for decay in DECAYS:
        runs, errors = zip(*(train(decay, seed) for seed in range(SEEDS)), strict=True)
        epochs = [run.step for run in runs]
        there = sum(run.verdict.rule == "threshold" for run in runs)
        rate = np.mean([run.schedule(run.step - 1) for run in runs])
        few, middle, most = min(epochs), np.median(epochs), max(epochs)
        print(
            f"{decay:>6}{f'{there}/{SEEDS}':>8}{few:>9}{middle:>9g}{most:>7}{rate:>12.3f}{np.mean(errors):>13.3f}",
            flush=True,
        )
        said = next((str(run.verdict) for run in runs if run.verdict.stop), said)
    print(f"\n{said}")


if __name__ == "__main__":
    main()
