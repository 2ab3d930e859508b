"""The study ends when its budget is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from foretell.budget import duration
from foretell.context import Context
from foretell.record import Record
from foretell.trial import CONTINUE, Verdict

__all__ = ["BudgetSpent", "spent"]


@final
@dataclass(frozen=True)
class BudgetSpent:
    """Stops when the wall-clock or the epochs of the budget are used up.

    Trials are counted where they are started: once all have been, those that were may go on to their ends.
    """

    def check(self, record: Record, context: Context) -> Verdict:
        """Compare what is spent with `context.budget`."""
        budget, seconds = context.budget, record.seconds(context.now)
        if budget.seconds is not None and seconds >= budget.seconds:
            return spent(f"{duration(budget.seconds)}", seconds, budget.seconds, record)
        if budget.epochs is not None and record.epochs_spent >= budget.epochs:
            return spent(f"{budget.epochs} epochs", record.epochs_spent, budget.epochs, record)
        return CONTINUE


def spent(what: str, value: float, limit: float, record: Record) -> Verdict:
    """The verdict that ends a study whose budget is spent."""
    best, found = record.best, "without a result"
    if best is not None:
        found = f"with {record.objective.metric} {record.objective.value(record.losses[best]):.4g} by trial {best}"
    return Verdict("stop", "budget", f"the budget of {what} is spent, {found}", value=float(value), limit=float(limit))
