"""One trial as others see it: a frozen record, and the verdicts that were passed on it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal, NoReturn, final

from foretell.checkpoint import Checkpoint
from foretell.curve import Curve


class State(StrEnum):
    """Where a trial stands."""

    QUEUED = "queued"  # waits for a worker: enqueued by the user, or its attempt was lost
    RUNNING = "running"
    PAUSED = "paused"  # saved on disk, may go on later
    DONE = "done"  # ended by itself: its horizon, or its own stopping rule
    STOPPED = "stopped"  # ended by the study
    DIVERGED = "diverged"  # the objective was not finite
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the trial can never go on."""
        return self not in (State.QUEUED, State.RUNNING, State.PAUSED)


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision, as data: what was decided, by which rule, on what numbers, and why in words.

    Args:
        action: "continue", "stop" or "pause".
        rule: name of the rule that decided.
        reason: one clause in words, for "Stop: {reason}".
        step: step of the run at the decision.
        value: what the rule looked at, in the user's units.
        limit: what it was held against, in the user's units.
        evidence: further numbers the rule saw.
        restored: what was put back into the tracked objects, once that has happened.
    """

    action: Literal["continue", "stop", "pause"] = "continue"
    rule: str = ""
    reason: str = ""
    step: int | None = None
    value: float | None = None
    limit: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    restored: str | None = None

    @property
    def stop(self) -> bool:
        """Whether the run (or study) has come to an end here, for good or until it is resumed."""
        return self.action != "continue"

    def __bool__(self) -> NoReturn:
        raise TypeError("A verdict is not a truth value, since 'true' could mean go or stop: ask for `verdict.stop`.")

    def __str__(self) -> str:
        restored = f"; {self.restored}" if self.restored else ""
        return f"{self.action.capitalize()}: {self.reason}{restored}" if self.reason else self.action.capitalize()

    def to_json(self) -> dict[str, Any]:
        """Plain data, without what is empty."""
        return {name: value for name in _VERDICT_FIELDS if (value := getattr(self, name)) not in (None, "", {})}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Verdict:
        """The inverse of `to_json`."""
        return cls(**data)


_VERDICT_FIELDS = tuple(field.name for field in fields(Verdict))
CONTINUE = Verdict()


def trial_name(number: int) -> str:
    """The folder of a trial within its study's."""
    return f"trials/{number:06d}"


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and all that came of it, as of the moment it was asked for.

    Args:
        number: position in the study, from 0.
        params: the configuration.
        state: where it stands.
        value: the objective in the user's units (best or last, as the study's `value` says); None before the first.
        values: the last reported value of every metric.
        best_step: step of the best objective value, or None.
        curve: losses by step (lower is better, whatever the direction of the metric).
        step: epochs trained.
        horizon: epochs the function would train in full, or None before it said so.
        parent: number of the trial whose weights it started from, or None.
        checkpoint: its best weights on disk, or None.
        cost: seconds of training over all attempts.
        attempts: how often it was started or resumed.
        decisions: every verdict passed on it, oldest first.
        error: what went wrong, for a failed trial.
    """

    number: int
    params: dict[str, Any]
    state: State
    value: float | None
    values: dict[str, float]
    best_step: int | None
    curve: Curve
    step: int
    horizon: int | None
    parent: int | None
    checkpoint: Checkpoint | None
    cost: float
    attempts: int
    decisions: tuple[Verdict, ...]
    error: str | None = None

    def __str__(self) -> str:
        value = "no value" if self.value is None else f"{self.value:g}"
        return f"trial {self.number} ({self.state}): {value}"


@final
@dataclass(frozen=True, slots=True)
class Verification:
    """The winner, measured once on data that no choice has seen.

    Args:
        trial: number of the winner.
        value: what was measured.
        repeated: whether this is the stored figure of an earlier call: measuring again and again would choose.
    """

    trial: int
    value: float
    repeated: bool = False

    def __str__(self) -> str:
        note = " (measured earlier; a second look would no longer be blind)" if self.repeated else ""
        return f"trial {self.trial}: {self.value:g}{note}"
