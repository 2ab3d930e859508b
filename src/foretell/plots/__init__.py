"""Plots: what people look at. One figure a file, `(study, **options) -> Figure`; here is the look they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from foretell.errors import StudyError
from foretell.record import Record
from foretell.trial import State


@final
@dataclass(frozen=True, slots=True)
class Mark:
    """How a state is drawn: by colour and by shape, so that neither is needed to tell it.

    Args:
        colour: of Okabe and Ito's palette, or a grey.
        marker: matplotlib's letter.
        size: of the marker, in points.
    """

    colour: str
    marker: str
    size: float


MARKS = {
    State.DONE: Mark("#0072B2", "o", 5.0),
    State.STOPPED: Mark("#D55E00", "x", 5.0),
    State.PAUSED: Mark("#009E73", "|", 7.0),
    State.RUNNING: Mark("#56B4E9", ">", 5.0),
    State.QUEUED: Mark("#999999", "s", 4.0),
    State.DIVERGED: Mark("#CC79A7", "^", 6.0),
    State.FAILED: Mark("#5A5A5A", "P", 5.5),
    State.CANCELLED: Mark("#999999", "D", 4.0),
}
WINNER = Mark("#000000", "*", 13.0)
WINNER_FILL = "#F0E442"
NOTE_COLOUR = "#5A5A5A"
FIGURE_SIZE = (8.0, 4.0)  # inches


def nothing_to_plot(record: Record, metric: str) -> StudyError:
    """What to raise for a study without a finite value."""
    return StudyError(
        f"There is nothing to plot: no finite value of {metric!r} was reported yet ({record.trials!r}). Run the study "
        "first, or with a larger budget."
    )


def dress(axes: Any, view: tuple[float, float], *, log: bool) -> None:
    """Scale the vertical axis to the view, with some air, and take away what is no data."""
    low, high = view
    if log:
        axes.set_yscale("log")
        axes.yaxis.get_major_locator().set_params(subs=(1, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (1, 2, 5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        air = (high / low) ** 0.05 if high > low else 1.1
        axes.set_ylim(low / air, high * air)
    else:
        air = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - air, high + air)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
