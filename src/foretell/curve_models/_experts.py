"""The experts of the mixture: what each says of the loss at the horizon, and the evidence that the gate looks at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.curve_models._runs import Runs
from foretell.numerics import curve_basis

Array = NDArray[np.float64]

# Persistence says that the last loss stays, in units of the run's own movement or of the spread among runs; each has
# a narrow and a wide part. "anywhere" is for what nobody foresaw.
NAMES = (*curve_basis.NAMES, "own", "own, wide", "others", "others, wide", "anywhere")
FEATURES = ("one", "log share", "log points", "log movement")
_DISCOUNT = 1.0  # power of a point's age, relative to now, by which it loses weight


class Opinions(NamedTuple):
    """What the experts say of n runs.

    Args:
        features: (n, 4) that the gate looks at.
        evidence: (n, experts) logarithms; 0 for those that fit nothing.
        means: (n, experts) losses.
        sds: (n, experts) of the fits; 0 for those that fit nothing.
        units: (n, experts) in which each expert's shift and width are measured.
    """

    features: Array
    evidence: Array
    means: Array
    sds: Array
    units: Array


def ask(runs: Runs) -> Opinions:
    """Everything the gate needs to know of these runs."""
    count, last = len(runs.last), runs.last
    real = points(runs)
    own = movement(runs)
    age = (runs.times / runs.share[:, None]) ** _DISCOUNT
    fits = curve_basis.fit(runs.times, (runs.losses - last[:, None]) / own[:, None], age * real)
    others = len(NAMES) - len(curve_basis.NAMES)
    units = np.column_stack(
        [own] * (len(curve_basis.NAMES) + 2) + [runs.spread] * 2 + [np.maximum(3 * own, runs.spread)]
    )
    none = np.zeros((count, others))
    features = np.column_stack(
        (
            np.ones(count),
            np.log(runs.share),
            np.minimum(np.log(runs.counts), 4.0),
            np.clip(np.log(own / runs.spread), -4.0, 4.0),
        )
    )
    return Opinions(
        features,
        np.hstack((fits.evidence - fits.evidence.max(axis=1, keepdims=True), none)),
        np.hstack((last[:, None] + own[:, None] * fits.mean, none + last[:, None])),
        np.hstack((own[:, None] * fits.sd, none)),
        units,
    )


def points(runs: Runs) -> NDArray[np.bool_]:
    """(n, POINTS) which columns are points of a curve; the others repeat its last."""
    return np.asarray(np.arange(runs.times.shape[1]) < runs.counts[:, None])


def movement(runs: Runs) -> Array:
    """(n,) how far a run's losses were from its last since the middle of its training; > 0."""
    recent = points(runs) & (runs.times >= 0.5 * runs.share[:, None])
    away = np.where(recent, runs.losses - runs.last[:, None], 0.0)
    own = np.sqrt((away**2).sum(axis=1) / np.maximum(recent.sum(axis=1) - 1, 1))
    own = np.where(runs.counts < 2, runs.spread, own)  # one point has not moved yet
    return np.maximum(own, 1e-3 * runs.spread)
