"""The course of a study: what each trial came to, and the best so far, against epochs and against wall-clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from foretell.plots import FIGURE_SIZE, MARKS, NOTE_COLOUR, WINNER, WINNER_FILL, _series, dress, nothing_to_plot
from foretell.record import Record
from foretell.study import Study
from foretell.trial import State

__all__ = ["history"]

_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def history(study: Study, *, log: bool = False) -> Figure:
    """Best value so far and every trial's value, against epochs and against wall-clock.

    Args:
        study: with at least one finite report.
        log: whether the axis of the objective is logarithmic.

    Raises:
        StudyError: there is nothing to plot, or a value of 0 or below on a logarithmic axis.
    """
    record, metric = study.record, study.objective.metric
    reports = _series.reports(record)
    if not np.isfinite(reports.best).any():
        raise nothing_to_plot(record, metric)
    ended = _series.outcomes(record, reports)
    first = reports.best[np.isfinite(reports.best)][0]
    values = np.append(ended.value, first)
    shown = _series.view(values, values, (float(reports.best[-1]),), log=log)

    panels: list[tuple[str, NDArray[Any]]] = [("epochs trained, over all runs", reports.epochs)]
    if reports.seconds[-1] > 0:
        size, unit = next((pair for pair in _UNITS if reports.seconds[-1] >= 2 * pair[0]), _UNITS[-1])
        panels.append((f"wall-clock ({unit})", reports.seconds / size))
    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, spent) in zip(places, panels, strict=True):
        # Also of runs that were stopped or paused there: the winner, whose weights exist, may be worse.
        axes.plot(spent, reports.best, color=WINNER.colour, drawstyle="steps-post", label="best report so far")
        _outcomes(axes, record, ended, spent)
        dress(axes, shown, log=log)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.set_xlabel(label)
    figure.axes[0].set_ylabel(metric)
    if beyond := _series.outside(ended.value, shown):
        axes.set_title(f"beyond the axis: {beyond:,}", loc="right", fontsize=8, color=NOTE_COLOUR, pad=14)
    figure.suptitle(_title(study), fontsize=11)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _outcomes(axes: Any, record: Record, ended: _series.Outcomes, spent: NDArray[np.float64]) -> None:
    """A mark for each trial; trials without a value stand above the panel."""
    states = np.array([record.states[number] for number in ended.trial], dtype=object)
    valued = np.isfinite(ended.value)
    for state in State:
        mark = MARKS[state]
        style: dict[str, Any] = {
            "linestyle": "none", "marker": mark.marker, "markersize": mark.size, "color": mark.colour, "alpha": 0.8,
        }  # fmt: skip
        here = (states == state) & valued
        if here.any():
            axes.plot(spent[ended.row[here]], ended.value[here], label=f"{state} ({here.sum()})", **style)
        here = (states == state) & ~valued
        if here.any():
            above = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            label = f"{state}, no value ({here.sum()})"
            axes.plot(spent[ended.row[here]], np.full(here.sum(), 1.03), label=label, **above, **style)
    if record.best is not None:
        at = int(np.searchsorted(ended.trial, record.best))
        axes.plot(
            spent[ended.row[at]], ended.value[at], linestyle="none", marker=WINNER.marker, markersize=WINNER.size,
            markerfacecolor=WINNER_FILL, markeredgecolor=WINNER.colour, zorder=5, label=f"winner, trial {record.best}",
        )  # fmt: skip


def _title(study: Study) -> str:
    record, saving = study.record, study.record.saving
    trained = f"{saving.trained:,} of {saving.in_full:,} epochs trained"
    if record.best is None:
        return f"No winner yet; {trained}"
    return f"Winner: trial {record.best}, {study.objective.metric} {study.best.value:.4g}; {trained}"
