"""Curve models: where a learning curve leads. One model a file; the file's name is the model's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foretell.curve import Curve
from foretell.record import Record
from foretell.trial import State

Array = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Prediction:
    """The losses that n runs come to: a mixture of k normal distributions for each run.

    Args:
        weights: (n, k) >= 0, each row sums to 1.
        means: (n, k).
        sds: (n, k) >= 0; 0 is certainty.
    """

    weights: Array
    means: Array
    sds: Array

    @classmethod
    def normal(cls, mean: Array, sd: Array) -> Prediction:
        """One normal distribution for each run: (n,) means and standard deviations."""
        return cls(np.ones((len(mean), 1)), mean[:, None], sd[:, None])

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Prediction:
        return Prediction(self.weights[index], self.means[index], self.sds[index])

    def settled(self, ended: NDArray[np.bool_], losses: Array) -> Prediction:
        """The same, but certain of some: (n,) which, and (n,) what they have come to."""
        first = np.zeros_like(self.weights)
        first[:, 0] = 1.0
        chosen = ended[:, None]
        return Prediction(
            np.where(chosen, first, self.weights),
            np.where(chosen, losses[:, None], self.means),
            np.where(chosen, 0.0, self.sds),
        )

    @property
    def mean(self) -> Array:
        """(n,) expected losses."""
        return np.asarray((self.weights * self.means).sum(axis=1))

    @property
    def sd(self) -> Array:
        """(n,) standard deviations."""
        off = self.means - self.mean[:, None]
        return np.asarray(np.sqrt((self.weights * (self.sds**2 + off**2)).sum(axis=1)))

    def below(self, loss: float | Array) -> Array:
        """(n,) probabilities of coming to less than a loss (one, or one for each run)."""
        from scipy.special import ndtr  # noqa: PLC0415 -- SciPy loads on first use

        away = np.asarray(loss, np.float64).reshape(-1, 1) - self.means
        with np.errstate(divide="ignore", invalid="ignore"):
            standard = np.where(self.sds > 0, away / self.sds, np.where(away > 0, np.inf, -np.inf))
        return np.asarray((self.weights * ndtr(standard)).sum(axis=1))

    def quantile(self, share: float) -> Array:
        """(n,) losses below which a share in (0, 1) of each distribution lies."""
        from scipy.special import ndtri  # noqa: PLC0415 -- as above

        each = self.means + self.sds * ndtri(share)
        low, high = each.min(axis=1), each.max(axis=1)  # the mixture's lies between those of its parts
        for _ in range(60 if each.shape[1] > 1 else 0):
            middle = 0.5 * (low + high)
            under = self.below(middle) < share
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return np.asarray(0.5 * (low + high))


@runtime_checkable
class CurveModel(Protocol):
    """Foretells what runs come to if they are trained to their horizon; what it learns from a study is a fold of it."""

    def forecast(self, record: Record, trials: NDArray[np.int64]) -> Prediction:
        """Of trials of a study; those that have ended by themselves or at their horizon are certain.

        Args:
            record: of the study; other trials tell what is normal.
            trials: (n,) numbers; each trial has a finite loss.
        """

    def alone(self, curve: Curve, horizon: int) -> Prediction:
        """Of one run, of which nothing but its curve is known.

        Args:
            curve: with at least one finite loss.
            horizon: epochs of the full training.
        """


def at_end(record: Record, trials: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of which trials nothing more can come: they were trained to their horizon, or ended themselves."""
    return np.array(
        [
            record.states[trial] is State.DONE or record.steps[trial] >= (record.horizons[trial] or 1)
            for trial in trials.tolist()
        ],
        np.bool_,
    )
