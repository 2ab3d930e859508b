"""What a frozen source is worth on the target's own data: cross-validated ridge regression and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretell.transfer._scores import Array, Integers, Spectrum, one_hot

_PENALTIES = np.logspace(-6, 4, 21)  # in units of the mean squared singular value
_NEIGHBOURS = 5


@final
@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Held-out predictions: of each sample, whether the class was right (0 or 1), or the squared error of a value."""

    linear: Array
    neighbours: Array


def folds(classes: Integers | None, count: int, number: int, rng: np.random.Generator) -> Integers:
    """(n,) the fold of each sample; classes are spread evenly over the folds.

    Args:
        classes: (n,) numbers from 0, or None.
        count: n.
        number: of folds.
        rng: decides who goes where.
    """
    order = rng.permutation(count)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    found = np.empty(count, np.intp)
    found[order] = np.arange(count) % number
    return found


def held_out(
    features: Array, targets: Array, classes: Integers | None, fold: Integers, trained: Sequence[Spectrum]
) -> Held:
    """Predict every sample from the other folds, by ridge regression and by its five nearest neighbours.

    Args:
        features: (n, d).
        targets: (n, k): one-hot classes, or values.
        classes: (n,) numbers from 0, or None for values.
        fold: (n,) from `folds`.
        trained: of each fold, the decomposed features of all samples outside it.
    """
    linear, near = np.empty(targets.shape), np.empty(targets.shape)
    for one, decomposed in enumerate(trained):
        test, train = fold == one, fold != one
        linear[test] = ridge(features[train], decomposed, targets[train], features[test])
        near[test] = nearest(features[train], targets[train], features[test])
    return Held(_judged(linear, targets, classes), _judged(near, targets, classes))


def _judged(predicted: Array, targets: Array, classes: Integers | None) -> Array:
    if classes is None:
        return np.asarray(((predicted - targets) ** 2).sum(1))
    return np.asarray(predicted.argmax(1) == classes, np.float64)


def ridge(train: Array, decomposed: Spectrum, targets: Array, test: Array) -> Array:
    """Ridge regression with a bias; the penalty is the one with the least exact leave-one-out error.

    Source: Golub, Heath and Wahba, 1979 (leave-one-out residuals are residuals over one minus the leverage).
    """
    mean, level, left = train.mean(0), targets.mean(0), decomposed.left
    squares, wanted = decomposed.values**2, targets - level
    along = left.T @ wanted
    best, chosen = np.inf, np.zeros(len(squares))
    for penalty in _PENALTIES * squares.mean():
        shrunk = squares / (squares + penalty)
        leverage = (left**2) @ shrunk + 1.0 / len(train)
        residuals = wanted - left @ (shrunk[:, None] * along)
        error = float(((residuals / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2).sum())
        if error < best:
            best, chosen = error, shrunk / squares
    weights = (train - mean).T @ (left @ (chosen[:, None] * along))
    predicted: Array = (test - mean) @ weights + level
    return predicted


def nearest(train: Array, targets: Array, test: Array) -> Array:
    """The mean of the nearest neighbours' targets; the nearer ones count a little more, so that votes do not tie."""
    number = min(_NEIGHBOURS, len(train))
    squares = (train**2).sum(1)[None, :] - 2.0 * test @ train.T
    nearest: NDArray[np.intp] = np.argpartition(squares, number - 1, axis=1)[:, :number]
    order = np.argsort(np.take_along_axis(squares, nearest, 1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, 1)
    weights = 1.0 + 1e-3 * np.arange(number, 0, -1)
    predicted: Array = np.einsum("snk,n->sk", targets[nearest], weights / weights.sum())
    return predicted


def as_targets(classes: Integers | None, values: Array) -> Array:
    """What is regressed on: one-hot classes, or the values as columns."""
    return values.reshape(len(values), -1) if classes is None else one_hot(classes)
