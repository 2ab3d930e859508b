"""Linear regression by gradient descent, ended by each stopping rule in turn, in five seconds.

Real data (scikit-learn's 442 diabetes patients, all products of two measurements added), split into training,
validation and test. Descent overfits after some 70 epochs. Each rule ends a training of its own; the curves with all
stops marked are drawn into a file, `--plot FILE`.
"""

from __future__ import annotations

import argparse

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import PolynomialFeatures

import foretell as ft
from foretell.stopping import StoppingRule

EPOCHS, LR = 400, 0.01


def split() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Standardised features with a constant (n, 66) and the progress of the illness, in parts that do not overlap."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    parts = dict(
        zip(("train", "val", "test"), np.split(np.random.default_rng(0).permutation(len(y)), [222, 332]), strict=True)
    )
    for expand in (PolynomialFeatures(1, include_bias=False), PolynomialFeatures(2, include_bias=False)):
        x = expand.fit_transform(x)
        x = (x - x[parts["train"]].mean(axis=0)) / x[parts["train"]].std(axis=0)
    x = np.column_stack([np.ones(len(x)), x])
    return {name: (x[rows], y[rows]) for name, rows in parts.items()}


DATA = split()


def measure(weights: np.ndarray, part: str) -> float:
    """Mean squared error."""
    x, y = DATA[part]
    return float(np.mean((x @ weights - y) ** 2))


def train(rule: StoppingRule | None) -> tuple[ft.Run, list[float], float]:
    """Descend until the rule says so: the run, its training losses, and the test loss of the weights it restores."""
    x, y = DATA["train"]
    weights, losses = np.zeros(x.shape[1]), []
    weights[0] = y.mean()
    run = ft.Run(minimize="val_loss", stopping=rule)
    run.track(weights=weights)
    for _ in run.epochs(EPOCHS):
        weights -= LR * 2 / len(y) * x.T @ (x @ weights - y)
        losses.append(measure(weights, "train"))
        run.report(train_loss=losses[-1], val_loss=measure(weights, "val"))
    return run, losses, measure(weights, "test")


def rules() -> dict[str, StoppingRule | None]:
    """Every rule, by the name under which it is printed and drawn."""
    x, y = DATA["train"]
    folds = -cross_val_score(RidgeCV(np.logspace(-1, 4, 20)), x, y, cv=10, scoring="neg_mean_squared_error")
    return {
        "none": None,
        "Threshold": ft.Threshold(3200),
        "GoalReached": ft.GoalReached(3200, checks=5),
        "CalibratedThreshold": ft.CalibratedThreshold.of_folds(folds),  # what ridge regression reaches
        "Patience": ft.Patience(10),
        "Patience, 1 %": ft.Patience(10, min_delta=0.01, relative=True),
        "PatienceLike keras": ft.PatienceLike("keras", 10),
        "RelativeChange": ft.RelativeChange(1e-3),
        "Forecast": ft.every(5, ft.Forecast()),
        "GeneralizationLoss": ft.GeneralizationLoss(1.0),
        "SuccessiveIncreases": ft.SuccessiveIncreases(4, strip=5),
        "ProgressQuotient": ft.ProgressQuotient(0.5, training="train_loss"),
        "Hopeless": ft.after(200, ft.Hopeless(3000)),
        "Divergence": ft.Divergence(10_000),
        "EpochLimit": ft.EpochLimit(100),
        "TimeLimit": ft.TimeLimit(60),
    }


def draw(file: str, stops: dict[str, ft.Run], run: ft.Run, losses: list[float]) -> None:
    """The curves of the run that nothing ended, and where each rule would have ended it."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="mean squared error", xlim=(0, EPOCHS))
    axes.plot(range(1, EPOCHS + 1), losses, color="tab:blue", label="training")
    axes.plot(run.curve.steps, run.curve.losses, color="tab:orange", label="validation")
    axes.plot(run.curve.best_step, run.curve.best, "*", color="tab:red", markersize=12, label="best validation")
    top = run.curve.losses[0]
    for rank, (name, stopped) in enumerate(sorted(stops.items(), key=lambda pair: pair[1].step)):
        height = top * (1 - 0.03 * rank)
        axes.vlines(stopped.step, stopped.curve.last.loss, height, color="grey", linewidth=0.6)
        axes.plot(stopped.step, stopped.curve.last.loss, ".", color="black")
        axes.text(stopped.step + 2, height, name, fontsize=8, va="top", bbox={"facecolor": "white", "lw": 0, "pad": 1})
    axes.legend(loc="center right")
    figure.savefig(file, dpi=120)


def main() -> None:
    """One training for each rule, a table, and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", default="linear_regression_stop.png", help="file of the plot")
    file = parser.parse_args().plot
    trained = {name: train(rule) for name, rule in rules().items()}
    print(f"{'rule':22}{'stopped':>9}{'best epoch':>12}{'validation loss':>17}{'test loss':>11}")
    for name, (run, _, test) in trained.items():
        stopped = run.step if run.verdict.stop else "–"
        print(f"{name:22}{stopped:>9}{run.curve.best_step:>12}{run.best:>17.0f}{test:>11.0f}")
    print()
    for run, _, _ in trained.values():
        if run.verdict.stop:
            print(run.verdict)
    full, losses, _ = trained["none"]
    draw(file, {name: run for name, (run, _, _) in trained.items() if run.verdict.stop}, full, losses)
    print(f"\nThe curves with all stops: {file}")


if __name__ == "__main__":
    main()
