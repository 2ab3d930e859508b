"""What the budget still allows. Trials and epochs are reserved before they are used, so they cannot be overspent."""

from __future__ import annotations

from foretell.budget import Budget
from foretell.record import Record

_FIRST_EPOCH = 1  # reserved for a training that has not said how many epochs it wants


def epochs_left(record: Record, budget: Budget) -> int | None:
    """Epochs that are neither trained nor reserved by running trials; None if they are not limited."""
    if budget.epochs is None:
        return None
    return budget.epochs - record.epochs_spent - record.epochs_reserved()


def affordable(record: Record, budget: Budget, trial: int | None) -> bool:
    """Whether there is room to give a worker a trial: its place if it is new (None: not yet made), and one epoch."""
    new = trial is None or record.attempts[trial] == 0
    if new and budget.trials is not None and record.started >= budget.trials:
        return False
    left = epochs_left(record, budget)
    return left is None or left >= _FIRST_EPOCH


def affordable_until(record: Record, budget: Budget, trial: int, until: int | None) -> int | None:
    """How far a running trial may train, of the `until` that it was offered; what it has reserved itself is its own."""
    left = epochs_left(record, budget)
    wanted = until if until is not None else record.horizons[trial]
    if left is None or wanted is None:
        return until
    step, limit = record.steps[trial], record.limit(trial)
    own = max(0, limit - step) if limit is not None else _FIRST_EPOCH
    return min(wanted, int(step) + left + own)
