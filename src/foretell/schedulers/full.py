"""Full training: every trial runs to its horizon, or until its own rules end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from foretell.context import Context
from foretell.record import Record
from foretell.schedulers import Action, Grant, Start

__all__ = ["Full"]


@final
@dataclass(frozen=True)
class Full:
    """One fidelity: a free worker starts a new trial, and every trial may train to its end."""

    def next(self, record: Record, context: Context) -> Action:
        """A new trial."""
        return Start()

    def grant(self, trial: int, record: Record, context: Context) -> Grant:
        """All of it."""
        return Grant(None)
