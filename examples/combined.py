"""Search, adaptive rate and early stopping under one budget, against each of them alone, at equal epochs.

Real data (scikit-learn's 1,797 digits), a small NumPy network. Every arm may train the same number of epochs; one that
does not search spends what is left on repeats from other weights. Each seed divides the data anew, and all arms of a
seed share its division, so that they are compared in pairs. All results are printed, also those against us. About a
minute, or `--seeds 2` for a glance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.stats import ttest_rel
from sklearn.datasets import load_digits

import foretell as ft
from foretell.lr.gradient_norm import GradientNorm

EPOCHS, BATCH, HIDDEN = 50, 64, 32
PIXELS, DIGITS = load_digits(return_X_y=True)
PIXELS = PIXELS / 16
# What one would take without a search; gamma 0 is a fixed rate, and a patience of EPOCHS with a threshold of 0 no stop.
FIXED = {"beta": 0.1, "gamma": 0.0, "momentum": 0.9, "weight_decay": 1e-4, "patience": EPOCHS, "threshold": 0.0}
ADAPTIVE, STOPPING = {"beta": 0.2, "gamma": 0.01}, {"patience": 5, "threshold": 0.05}
SEARCHED = {"beta": ft.Float(1e-3, 1, log=True), "momentum": ft.Float(0, 0.98)}
SEARCHED |= {"weight_decay": ft.Float(1e-6, 1e-2, log=True)}
COMBINED = SEARCHED | {"gamma": ft.Float(1e-5, 1, log=True)}
COMBINED |= {"patience": ft.Int(2, 15, log=True), "threshold": ft.Float(0.01, 0.3, log=True)}
ARMS = {  # where it begins, what is searched, the scheduler
    "none of them": (FIXED, {}, "full"),
    "early stopping alone": (FIXED | STOPPING, {}, "full"),
    "adaptive rate alone": (FIXED | ADAPTIVE, {}, "full"),
    "search alone": (FIXED, SEARCHED, "full"),
    "combined": (FIXED | ADAPTIVE | STOPPING, COMBINED, "full"),
    "combined, with ASHA": (FIXED | ADAPTIVE | STOPPING, COMBINED, "asha"),
}


def scores(weights: dict[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hidden layer (n, HIDDEN) and the log-probabilities (n, 10)."""
    hidden = np.maximum(PIXELS[rows] @ weights["in"] + weights["b"], 0)
    logits = hidden @ weights["out"] + weights["c"]
    logits -= logits.max(axis=1, keepdims=True)
    return hidden, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def gradients(weights: dict[str, np.ndarray], rows: np.ndarray, decay: float) -> dict[str, np.ndarray]:
    """Of the mean cross-entropy on a batch, with weight decay."""
    hidden, logs = scores(weights, rows)
    out = np.exp(logs)
    out[np.arange(len(rows)), DIGITS[rows]] -= 1
    out /= len(rows)
    back = (out @ weights["out"].T) * (hidden > 0)
    found = {"in": PIXELS[rows].T @ back, "b": back.sum(axis=0), "out": hidden.T @ out, "c": out.sum(axis=0)}
    return {name: gradient + decay * weights[name] for name, gradient in found.items()}


def new_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Of one hidden layer."""
    first, last = rng.normal(0, 64**-0.5, (64, HIDDEN)), rng.normal(0, HIDDEN**-0.5, (HIDDEN, 10))
    return {"in": first, "b": np.zeros(HIDDEN), "out": last, "c": np.zeros(10)}


def loss(weights: dict[str, np.ndarray], rows: np.ndarray) -> float:
    """Mean cross-entropy."""
    return -float(np.mean(scores(weights, rows)[1][np.arange(len(rows)), DIGITS[rows]]))


def trainer(part: dict[str, np.ndarray]) -> Callable[[ft.Run], None]:
    """The training function for one division of the data."""

    def train(run: ft.Run) -> None:
        params = run.params
        rate = GradientNorm(params["beta"], params["gamma"], reading="accumulated", power=0.5)
        weights, seen = new_weights(run.rng), rate.init()
        speed = {name: np.zeros_like(value) for name, value in weights.items()}
        run.track(weights=weights, speed=speed, seen=seen)
        rule = ft.Run(minimize="loss", stopping=ft.Threshold(params["threshold"]) | ft.Patience(params["patience"]))
        for point in run.curve:  # a training that was paused has a past
            rule.report(loss=point.loss, step=point.step)
        for _ in run.epochs(EPOCHS):
            for rows in np.split(run.rng.permutation(part["train"]), range(BATCH, len(part["train"]), BATCH)):
                found = gradients(weights, rows, params["weight_decay"])
                seen.update(rate.update(seen, sum(float(np.vdot(one, one)) for one in found.values())))
                for name, gradient in found.items():
                    speed[name] *= params["momentum"]
                    speed[name] -= rate.rate(seen) * gradient
                    weights[name] += speed[name]
            val_loss = loss(weights, part["val"])
            run.report(val_loss=val_loss)
            if rule.report(loss=val_loss).stop:
                break

    return train


def race(seed: int, arm: str, budget: str) -> tuple[float, float, float, float, float]:
    """Of an arm's winner: validation loss, test loss and test accuracy; then its trainings, and the seconds."""
    settings, searched, scheduler = ARMS[arm]
    order = np.random.default_rng(seed).permutation(len(DIGITS))
    part = dict(zip(("train", "val", "test"), np.split(order, [800, 1200]), strict=True))
    accuracy = []

    def test(run: ft.Run) -> float:
        weights = new_weights(run.rng)
        run.track(weights=weights)
        accuracy.append(np.mean(scores(weights, part["test"])[1].argmax(axis=1) == DIGITS[part["test"]]))
        return loss(weights, part["test"])

    begun = time.perf_counter()
    study = ft.minimize(
        trainer(part), "val_loss", ft.Space(**settings | searched), budget, workers=0, seed=seed, scheduler=scheduler,
        default=settings, progress="none",
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    return study.best.value, study.verify(test).value, accuracy[0], len(study.trials), seconds


def main() -> None:
    """A table of all arms, and both combinations against each of the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="divisions of the data, 2 or more (10 take two minutes)")
    parser.add_argument("--budget", default="600 epochs", help="of each arm")
    arguments = parser.parse_args()
    seeds, budget = arguments.seeds, arguments.budget
    found = {arm: np.array([race(seed, arm, budget) for seed in range(seeds)]) for arm in ARMS}
    print(f"{seeds} divisions of the data, {budget} for each arm, {EPOCHS} in a full training; means\n")
    print(f"{'':24}{'validation loss':>16}{'test loss':>12}{'test accuracy':>15}{'trainings':>11}{'seconds':>9}")
    for arm, rows in found.items():
        val, test, accuracy, trainings, seconds = rows.mean(axis=0)
        print(f"{arm:24}{val:>16.4f}{test:>12.4f}{accuracy:>15.4f}{trainings:>11.1f}{seconds:>9.1f}")
    *alone, combined, with_asha = ARMS
    print("\nBy how much the test loss is lower, paired, ± standard error of the mean:")
    for arm in (combined, with_asha):
        for other in (*alone, combined) if arm == with_asha else alone:
            gain = found[other][:, 1] - found[arm][:, 1]
            error, p = gain.std(ddof=1) / np.sqrt(seeds), ttest_rel(found[other][:, 1], found[arm][:, 1]).pvalue
            name, wins = f"{arm} against {other}", (gain > 0).sum()
            print(f"{name:48}{gain.mean():>8.4f} ± {error:.4f}   p = {p:.3f}   lower in {wins} of {seeds}")


if __name__ == "__main__":
    main()
