"""The learning curve of every run, and how each of them ended."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foretell.plots import FIGURE_SIZE, MARKS, NOTE_COLOUR, WINNER, WINNER_FILL, _series, dress, nothing_to_plot
from foretell.study import Study
from foretell.trial import State

__all__ = ["curves"]


def curves(study: Study, *, metric: str | None = None, top: int | None = None, log: bool = False) -> Figure:
    """All runs against epochs, the winner in front; the mark at a curve's end tells how it ended.

    Args:
        study: with at least one finite report.
        metric: name; None is the objective.
        top: how many of the best trials to show, >= 1; None shows all.
        log: whether the vertical axis is logarithmic.

    Raises:
        StudyError: there is nothing to plot, no such metric, or a value of 0 or below on a logarithmic axis.
    """
    record = study.record
    name = metric if metric is not None else study.objective.metric
    lines = _series.lines(record, name, top)
    if not lines:
        raise nothing_to_plot(record, name)
    winner = next((line for line in lines if line.trial == record.best), None)
    keep = () if winner is None else (float(np.nanmin(winner.values)), winner.end[1])
    lowest, highest = (np.array([extreme(line.values) for line in lines]) for extreme in (np.nanmin, np.nanmax))
    shown = _series.view(lowest, highest, keep, log=log)

    figure = Figure(figsize=FIGURE_SIZE, layout="constrained")
    axes = figure.subplots()
    for state in State:
        _runs(axes, state, [line for line in lines if line.state is state], len(lines))
    if winner is not None:
        _winner(axes, winner)
    dress(axes, shown, log=log)
    axes.autoscale(axis="x")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=name)
    of = f" of {len(record)}" if len(lines) < len(record) else ""
    axes.set_title(f"{len(lines):,}{of} runs", loc="left", fontsize=11)
    if beyond := sum(_series.outside(line.values, shown) for line in lines):
        axes.set_title(f"beyond the axis: {beyond:,}", loc="right", fontsize=8, color=NOTE_COLOUR)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return figure


def _runs(axes: Any, state: State, lines: list[_series.Line], among: int) -> None:
    if not lines:
        return
    mark, dim = MARKS[state], min(0.5, max(0.15, 20 / among))
    paths = [np.column_stack((line.steps, line.values)) for line in lines]
    axes.add_collection(LineCollection(paths, colors=mark.colour, linewidths=0.9, alpha=dim))
    steps, values = zip(*(line.end for line in lines), strict=True)
    axes.plot(
        steps, values, linestyle="none", marker=mark.marker, markersize=mark.size, color=mark.colour, alpha=0.85,
        label=f"{state} ({len(lines)})",
    )  # fmt: skip


def _winner(axes: Any, line: _series.Line) -> None:
    axes.plot(line.steps, line.values, color=WINNER.colour, linewidth=2.4, zorder=4)
    axes.plot(
        *line.end, linestyle="none", marker=WINNER.marker, markersize=WINNER.size, markerfacecolor=WINNER_FILL,
        markeredgecolor=WINNER.colour, zorder=5, label=f"winner, trial {line.trial}", clip_on=False,
    )  # fmt: skip
