"""The numbers behind the plots, from the record, in the user's units; nothing here draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretell.errors import StudyError, did_you_mean
from foretell.record import Observed, Record
from foretell.trial import State

_FENCE = 3.0  # so many times the distance of the quartiles beyond them a value is far out


@final
@dataclass(frozen=True, slots=True)
class Reports:
    """Every report of the objective, in the order it came.

    Args:
        trial: (n,) whose it is.
        value: (n,) what was reported.
        best: (n,) the best of all reports so far; NaN before the first finite one.
        epochs: (n,) trained so far by the whole study.
        seconds: (n,) wall-clock of the study so far, over its sessions; 0 for trials told from outside a session.
    """

    trial: NDArray[np.int64]
    value: NDArray[np.float64]
    best: NDArray[np.float64]
    epochs: NDArray[np.int64]
    seconds: NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Outcomes:
    """What each trial that reported has come to.

    Args:
        trial: (n,) numbers, increasing.
        row: (n,) of the first report with the trial's value; of its last report if it has no value.
        value: (n,) the trial's value; NaN if it has none.
    """

    trial: NDArray[np.int64]
    row: NDArray[np.int64]
    value: NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One metric of one trial.

    Args:
        trial: its number.
        state: where the trial stands.
        steps: (n,) epochs, increasing.
        values: (n,) NaN where the metric was not finite.
    """

    trial: int
    state: State
    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def end(self) -> tuple[int, float]:
        """The last point that is finite."""
        last = int(np.flatnonzero(np.isfinite(self.values))[-1])
        return int(self.steps[last]), float(self.values[last])


def reports(record: Record) -> Reports:
    """All reports of the objective."""
    log = (record.event(position) for position in range(record.log_length()))
    seen = [event for event in log if isinstance(event, Observed)]
    progress, value = record.progress(), record.objective.value
    return Reports(
        trial=np.array([event.trial for event in seen], np.int64),
        value=np.array([value(event.loss) for event in seen], np.float64),
        best=value(1.0) * np.where(np.isfinite(progress.best), progress.best, np.nan),
        epochs=progress.epochs,
        seconds=progress.seconds,
    )


def outcomes(record: Record, log: Reports) -> Outcomes:
    """The value of each trial and the report that gave it.

    Args:
        record: of the study.
        log: its reports.
    """
    value = record.objective.value(1.0) * np.where(np.isfinite(record.losses.array), record.losses.array, np.nan)
    number, from_end = np.unique(log.trial[::-1], return_index=True)
    row = len(log.trial) - 1 - from_end
    hits = np.flatnonzero(log.value == value[log.trial])
    valued, first = np.unique(log.trial[hits], return_index=True)
    row[np.searchsorted(number, valued)] = hits[first]
    return Outcomes(number, row, value[number])


def lines(record: Record, metric: str | None = None, top: int | None = None) -> list[Line]:
    """The learning curves that have a finite point, best trial first.

    Args:
        record: of the study.
        metric: name; None is the objective.
        top: how many of the best trials, >= 1, and the winner in any case; None is all.

    Raises:
        StudyError: the metric was never reported, or top is below 1.
    """
    if top is not None and top < 1:
        raise StudyError(f"top={top} shows no run: use 1 or more, or None for all.")
    name = record.objective.metric if metric is None else metric
    if name != record.objective.metric and name not in record.metrics and record.metrics:
        raise StudyError(f"No metric {name!r} was reported. {did_you_mean(name, record.metrics)}")
    ranked = np.argsort(record.losses.array, kind="stable").tolist()
    chosen = ranked[:top]
    if top is not None and record.best is not None and record.best not in chosen:
        chosen.append(record.best)
    points = _objective(record) if name == record.objective.metric else _metric(record, name)
    drawn = (Line(number, record.states[number], *points[number]) for number in chosen if number in points)
    return [line for line in drawn if np.isfinite(line.values).any()]


_Points = dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]


def _objective(record: Record) -> _Points:
    sign = record.objective.value(1.0)
    return {number: (curve.steps, _finite(sign * curve.losses)) for number, curve in enumerate(record.curves)}


def _metric(record: Record, name: str) -> _Points:
    """Of what was trained twice, after a crash, the second time counts."""
    kept: dict[int, dict[int, float]] = {}
    for trial, step, value in zip(*record.metrics.get(name, ()), strict=True):
        if step <= record.steps[trial]:
            kept.setdefault(trial, {})[step] = value
    points = {}
    for trial, values in kept.items():
        steps = sorted(values)
        points[trial] = np.array(steps, np.int64), _finite(np.array([values[step] for step in steps]))
    return points


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, np.nan)


def view(
    lowest: NDArray[np.float64], highest: NDArray[np.float64], keep: Sequence[float] = (), *, log: bool = False
) -> tuple[float, float]:
    """The values an axis should show, so that a few exploding runs do not flatten all others.

    Args:
        lowest: (n,) of each run; NaN where there is none, but at least one is finite.
        highest: (n,) of each run, likewise.
        keep: values that must be seen.
        log: whether the axis is logarithmic.

    Returns:
        The lowest and the highest value to show.

    Raises:
        StudyError: a logarithmic axis cannot show a value of 0 or below.

    Source: after the outer fences of Tukey, Exploratory Data Analysis, 1977.
    """
    least = float(np.nanmin([*lowest, *keep]))
    if log and least <= 0:
        raise StudyError(f"A logarithmic axis cannot show {least:g}: leave out log=True.")
    both = np.log((lowest, highest)) if log else np.array((lowest, highest))
    lower, upper = float(np.nanpercentile(both[0], 25)), float(np.nanpercentile(both[1], 75))
    reach = _FENCE * (upper - lower) if upper > lower else math.inf
    low, high = lowest[both[0] >= lower - reach].min(), highest[both[1] <= upper + reach].max()
    return float(min(low, *keep, math.inf)), float(max(high, *keep, -math.inf))


def outside(values: NDArray[np.float64], shown: tuple[float, float]) -> int:
    """How many values an axis does not show."""
    return int(np.count_nonzero((values < shown[0]) | (values > shown[1])))
