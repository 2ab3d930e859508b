"""Terminators: is the study worth going on? The twin of the stopping rules, asked of the whole record."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from foretell.context import Context
from foretell.record import Record
from foretell.trial import Verdict


@runtime_checkable
class Terminator(Protocol):
    """Judges the study before every new decision."""

    def check(self, record: Record, context: Context) -> Verdict:
        """The verdict; one that stops ends the study after what runs has been paused or stopped."""


def spent(what: str, value: float, limit: float, record: Record) -> Verdict:
    """The verdict that ends a study whose budget is spent."""
    best, found = record.best, "without a result"
    if best is not None:
        found = f"with {record.objective.metric} {record.objective.value(record.losses[best]):.4g} by trial {best}"
    return Verdict("stop", "budget", f"the budget of {what} is spent, {found}", value=float(value), limit=float(limit))
