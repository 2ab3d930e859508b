"""The study ends when its budget is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from foretell.budget import duration
from foretell.context import Context
from foretell.record import Record
from foretell.termination import spent
from foretell.trial import CONTINUE, Verdict

__all__ = ["BudgetSpent"]


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
