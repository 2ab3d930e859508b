"""Schedulers: which training gets the next slice. One method a file; the file's name is the member's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

from foretell.context import Context
from foretell.record import Record


@final
@dataclass(frozen=True, slots=True)
class Start:
    """Begin a new trial: with `params`, or with what the sampler suggests; `parent` gives it its weights."""

    params: dict[str, Any] | None = None
    parent: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Resume:
    """Take a paused trial up again from its checkpoint."""

    trial: int
    reason: str = ""


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something happens: what runs will decide."""


@final
@dataclass(frozen=True, slots=True)
class Done:
    """Nothing left to do at all."""

    reason: str = "the schedule is complete"


@final
@dataclass(frozen=True, slots=True)
class Grant:
    """How far a trial may train now.

    Args:
        until: epochs from its start; None means to its end; no more than it has trained means not now.
        reason: in words, for the log of decisions.
        value: the objective's loss the decision looked at, or None.
        limit: the loss it was held against, or None.
    """

    until: int | None
    reason: str = ""
    value: float | None = None
    limit: float | None = None


Action = Start | Resume | Wait | Done


@runtime_checkable
class Scheduler(Protocol):
    """Answers two questions; both are pure functions of the record and the context."""

    def next(self, record: Record, context: Context) -> Action:
        """What should a free worker do?"""

    def grant(self, trial: int, record: Record, context: Context) -> Grant:
        """The trial stands at `record.steps[trial]` epochs, at an epoch boundary: how far may it train now?

        Asked when a training opens (its horizon is known then) and whenever it has used up its last grant. A trial that
        gets no more is paused if it can be (`record.can_pause`), and stopped for good if it cannot.
        """
