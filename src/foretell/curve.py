"""The learning curve of one run: it grows by one point in O(1) and always knows its best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

_FIRST_CAPACITY = 8
_NO_METRICS: Mapping[str, float] = {}


class Point(NamedTuple):
    """One check of the objective: `step` >= 0, `loss` (lower is better), `seconds` of training so far."""

    step: int
    loss: float
    seconds: float


class Report(NamedTuple):
    """A point as stopping rules see it.

    Args:
        step: >= 0.
        loss: lower is better.
        seconds: of training so far.
        metrics: what was reported at that step so far, in the user's units; empty where only the curve is known.
    """

    step: int
    loss: float
    seconds: float
    metrics: Mapping[str, float] = _NO_METRICS


@final
class Curve:
    """Steps and losses of one run; lower is better, always.

    Non-finite losses are kept (a curve tells what happened) but are never the best and never an improvement.
    """

    __slots__ = ("_best_index", "_columns", "_last", "_length")

    def __init__(self, points: Iterable[Point | tuple[int, float, float]] = ()) -> None:
        self._columns = np.empty((3, _FIRST_CAPACITY))
        self._length = 0
        self._last = Point(0, math.nan, 0.0)
        self._best_index = -1
        for point in points:
            self.append(*point)

    def append(self, step: int, loss: float, seconds: float = 0.0) -> None:
        """Add one point; `step` must be greater than every earlier one."""
        assert self._length == 0 or step > self._last.step, "steps of a curve increase"
        if self._length == self._columns.shape[1]:
            grown = np.empty((3, 2 * self._length))
            grown[:, : self._length] = self._columns
            self._columns = grown
        self._columns[:, self._length] = step, loss, seconds
        if math.isfinite(loss) and (self._best_index < 0 or loss < self._columns[1, self._best_index]):
            self._best_index = self._length
        self._last = Point(step, loss, seconds)
        self._length += 1

    def snapshot(self) -> Curve:
        """The curve as it is now, in O(1): later points go into columns that it shares, beyond its length."""
        frozen = Curve.__new__(Curve)
        frozen._columns, frozen._length = self._columns, self._length
        frozen._last, frozen._best_index = self._last, self._best_index
        return frozen

    def truncate(self, step: int) -> Curve:
        """A new curve of the points up to and including `step`: what a run resumed there has behind it."""
        return Curve(point for point in self if point.step <= step)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Point:
        if not -self._length <= index < self._length:
            raise IndexError(f"point {index} of a curve with {self._length} points")
        step, loss, seconds = self._columns[:, index % self._length].tolist()
        return Point(int(step), loss, seconds)

    def __iter__(self) -> Iterator[Point]:
        for step, loss, seconds in self._columns[:, : self._length].T.tolist():
            yield Point(int(step), loss, seconds)

    def __repr__(self) -> str:
        return f"Curve({len(self)} points, best {self.best:g})" if self._length else "Curve(empty)"

    @property
    def last(self) -> Point:
        """The newest point, without a look into the columns."""
        assert self._length, "an empty curve has no last point"
        return self._last

    @property
    def steps(self) -> NDArray[np.int64]:
        """(n,) steps at which the objective was checked, increasing."""
        return self._columns[0, : self._length].astype(np.int64)

    @property
    def losses(self) -> NDArray[np.float64]:
        """(n,) losses; a read-only view."""
        return self._view(1)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(n,) training seconds behind each point; a read-only view."""
        return self._view(2)

    @property
    def best(self) -> float:
        """The lowest finite loss so far, or infinity if there is none."""
        return float(self._columns[1, self._best_index]) if self._best_index >= 0 else math.inf

    @property
    def best_step(self) -> int | None:
        """The step of the lowest finite loss (the first of equals), or None."""
        return int(self._columns[0, self._best_index]) if self._best_index >= 0 else None

    @property
    def best_so_far(self) -> NDArray[np.float64]:
        """(n,) the running minimum over finite losses; infinity before the first."""
        return np.minimum.accumulate(np.where(np.isfinite(self.losses), self.losses, np.inf))

    @property
    def checks_since_improvement(self) -> int:
        """How many points came after the best one; all of them if none was finite."""
        return self._length - 1 - self._best_index

    def at(self, step: int) -> float:
        """The loss of the last point at or before `step`; NaN if there is none."""
        index = int(np.searchsorted(self._columns[0, : self._length], step, side="right")) - 1
        return float(self._columns[1, index]) if index >= 0 else math.nan

    def tail(self, count: int) -> NDArray[np.float64]:
        """The last `count` losses (fewer if the curve is shorter); a read-only view."""
        return self.losses[max(0, self._length - count) :]

    def _view(self, row: int) -> NDArray[np.float64]:
        view = self._columns[row, : self._length]
        view.flags.writeable = False
        return view
