"""What curve models see: runs side by side as arrays, and what is normal among the runs of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from foretell._columns import Column
from foretell.curve import Curve
from foretell.events import Started
from foretell.record import FoldEvent, Observed, Record
from foretell.space import Space

Array = NDArray[np.float64]

POINTS = 32  # of a curve that are looked at: the cost of a forecast does not grow with the curve
_RECENT = 8  # of them are its last
_LEAST = 0.01  # a run alone, or few alike: the spread is at least this part of the loss
_CEILING = 0.5  # so much of its size above the median first loss, a loss is as bad as any
# Shares of the horizon at which the population is described: spaced evenly in their logarithm, as curves are.
LEVELS = np.array([1, 2, 3, 4, 6, 9, 13, 18, 27, 38, 51]) / 51


class Runs(NamedTuple):
    """Runs side by side. Where a curve has fewer points than columns, its last point fills the row.

    Args:
        times: (n, POINTS) shares of the horizon that were trained, in (0, 1], increasing.
        losses: (n, POINTS) at these times, all finite.
        counts: (n,) how many points each curve has, >= 1.
        lowest: (n,) losses of all points.
        spread: (n,) how far losses of other runs lie apart at this share of the horizon, > 0.
    """

    times: Array
    losses: Array
    counts: Array
    lowest: Array
    spread: Array

    @property
    def share(self) -> Array:
        """(n,) of the horizon that was trained."""
        return self.times[:, -1]

    @property
    def last(self) -> Array:
        """(n,) losses."""
        return self.losses[:, -1]


def rows(curve: Curve, horizon: int | None) -> tuple[Array, Array, int]:
    """The times and losses of one run that `Runs` shows, and how many finite points it has (0: there is no row).

    Args:
        curve: of the run.
        horizon: epochs of the full training; None if there is none beyond the last point.
    """
    steps, losses = curve.steps, curve.losses
    finite = np.isfinite(losses)
    steps, losses = steps[finite], losses[finite]
    count = len(steps)
    if not count:
        return np.full(POINTS, math.nan), np.full(POINTS, math.nan), 0
    full = max(horizon or 0, int(steps[-1]), 1)
    if count > POINTS:
        # Evenly in the logarithm of time from the beginning, then every one of the last.
        early = np.geomspace(1, count - _RECENT, POINTS - _RECENT).round().astype(np.int64) - 1
        chosen = np.concatenate((early, np.arange(count - _RECENT, count)))
    else:
        chosen = np.minimum(np.arange(POINTS), count - 1)
    return np.maximum(steps[chosen], 1) / full, losses[chosen], count


def alone(curve: Curve, horizon: int) -> Runs:
    """One run of which nothing is compared: the spread is what it has come down itself.

    Args:
        curve: with at least one finite point.
        horizon: epochs of the full training.
    """
    times, losses, count = rows(curve, horizon)
    spread = max(float(losses.max() - losses.min()), _LEAST * float(np.abs(losses[-1])), 1e-12)
    return Runs(times[None], losses[None], np.array([float(count)]), np.array([curve.best]), np.array([spread]))


@final
class Population:
    """The memory of the curve models: which trials have reported since it was last asked, and the rows of all.

    A row is made anew from the trial's curve, so it is the same whenever it was last made.
    """

    def __init__(self) -> None:
        self._changed: dict[int, None] = {}
        self._times, self._losses = Column(np.float64, POINTS), Column(np.float64, POINTS)
        self._counts, self._lowest = Column(np.int64), Column(np.float64)
        self._levels = Column(np.float64, len(LEVELS))
        self._statistics: tuple[Array, float] | None = None

    def note(self, event: FoldEvent) -> None:
        """Remember that a trial has reported, or was thrown back."""
        if isinstance(event, Observed | Started):
            self._changed[event.trial] = None

    def runs(self, record: Record, trials: NDArray[np.int64]) -> Runs:
        """The trials of these numbers, each of which has a finite loss."""
        self._catch_up(record)
        spreads, ceiling = self._described()
        times, losses = self._times.array[trials], np.minimum(self._losses.array[trials], ceiling)
        spread = np.interp(np.log(times[:, -1]), np.log(LEVELS), spreads)
        counts = self._counts.array[trials].astype(np.float64)
        return Runs(times, losses, counts, self._lowest.array[trials], spread)

    def _catch_up(self, record: Record) -> None:
        for column in (self._times, self._losses, self._levels):
            while len(column) < len(record):
                column.append(math.nan)
        while len(self._counts) < len(record):
            self._counts.append(0)
            self._lowest.append(math.inf)
        for trial in self._changed:
            times, losses, count = rows(record.curves[trial], record.horizons[trial])
            self._times[trial], self._losses[trial], self._counts[trial] = times, losses, count
            self._lowest[trial] = record.curves[trial].best
            at = np.searchsorted(times, LEVELS + 1e-9, side="right") - 1 if count else np.zeros(len(LEVELS), np.int64)
            self._levels[trial] = losses[np.maximum(at, 0)]
            self._statistics = None
        self._changed.clear()

    def _described(self) -> tuple[Array, float]:
        """How far the better half of the runs lies apart at every level, and the loss that is as bad as any."""
        if self._statistics is None:
            levels = self._levels.array[self._counts.array > 0]
            first = float(np.median(levels[:, 0]))
            ceiling = first + max(_CEILING * abs(first), 3 * (first - float(levels.min())))
            levels = np.minimum(levels, ceiling)
            medians = np.median(levels, axis=0)
            least = np.maximum(_LEAST * np.abs(medians), 1e-12)
            self._statistics = np.maximum(medians - levels.min(axis=0), least), ceiling
        return self._statistics


@final
@dataclass(frozen=True)
class _Reports:
    """The fold that all curve models of a study share, so that each row is made once."""

    def init(self, space: Space) -> Population:
        """Nobody has reported."""
        return Population()

    def update(self, state: Population, event: FoldEvent) -> Population:
        """Note who has reported."""
        state.note(event)
        return state


REPORTS = _Reports()
