"""What can happen in a study, as data: the study's log is a list of these and nothing else.

The store keeps the log; the record folds it into columns; a training process speaks in the same words. An event names
its trial and attempt; the attempt number is the fencing token, so that a process that was given up cannot write.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, final, get_args

from foretell.trial import CONTINUE, State, Verdict


@final
@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A process began to work on the study; wall-clock counts from here to the last event of the session."""

    pid: int
    code: str = ""  # digest of the training function, to tell when it changed


@final
@dataclass(frozen=True, slots=True)
class Created:
    """A trial exists; `origin` says who proposed it: "default", "enqueued" or the sampler's name."""

    trial: int
    params: dict[str, Any]
    parent: int | None = None
    origin: str = ""


@final
@dataclass(frozen=True, slots=True)
class Started:
    """A worker was given the trial; `step` > 0 if it resumes there."""

    trial: int
    attempt: int
    step: int = 0


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """The training reached its loop: `horizon` epochs in full (None: no epochs), and what can be done with it."""

    trial: int
    attempt: int
    horizon: int | None
    can_pause: bool  # its state can be saved and taken up again
    tracked: bool  # its best weights are kept
    step: int = 0


@final
@dataclass(frozen=True, slots=True)
class Granted:
    """The trial may train up to epoch `until` (None: to its end)."""

    trial: int
    attempt: int
    until: int | None
    reason: str = ""


@final
@dataclass(frozen=True, slots=True)
class Reached:
    """The trial has used up its grant and stands at an epoch boundary, waiting to hear whether it may go on."""

    trial: int
    attempt: int
    step: int


@final
@dataclass(frozen=True, slots=True)
class Reported:
    """Metrics at a step (epochs trained, the one in progress included), in the user's units; `seconds` so far."""

    trial: int
    attempt: int
    step: int
    metrics: dict[str, float]
    seconds: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is whole on disk; `folder` is relative to the study's, `digest` that of its manifest."""

    trial: int
    attempt: int
    step: int
    folder: str
    digest: str
    newest: bool  # holds the newest state
    best: bool  # holds the best weights
    seconds: float = 0.0  # what writing it took


@final
@dataclass(frozen=True, slots=True)
class Dropped:
    """A trial's checkpoint is no longer needed; its folder is deleted once this is durable."""

    trial: int
    folder: str


@final
@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt ended. `state` is the trial's state after it: queued if it has to be tried again."""

    trial: int
    attempt: int
    state: State
    step: int = 0
    seconds: float = 0.0
    verdict: Verdict = CONTINUE
    cause: str = ""  # error, oom, signal, exit, timeout, lost: empty if it ended in good order
    error: str = ""
    waits: bool = False  # paused by the scheduler, which alone says when it goes on


@final
@dataclass(frozen=True, slots=True)
class Verified:
    """The winner was measured once on data that no choice has seen."""

    trial: int
    value: float


@final
@dataclass(frozen=True, slots=True)
class Concluded:
    """The study came to its end for the reason given; it may be taken up again."""

    verdict: Verdict = field(default=CONTINUE)


Event = (
    SessionStarted
    | Created
    | Started
    | Opened
    | Granted
    | Reached
    | Reported
    | Saved
    | Dropped
    | Ended
    | Verified
    | Concluded
)
KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}
_FIELDS = {name: tuple(field.name for field in fields(kind)) for name, kind in KINDS.items()}


def to_json(event: Event) -> dict[str, Any]:
    """Plain data: the event's fields and its `kind`."""
    kind = type(event).__name__
    data: dict[str, Any] = {"kind": kind}
    for name in _FIELDS[kind]:
        value = getattr(event, name)
        data[name] = value.to_json() if isinstance(value, Verdict) else value
    return data


def from_json(data: dict[str, Any]) -> Event:
    """The inverse of `to_json`."""
    values = dict(data)
    kind = KINDS[values.pop("kind")]
    if "verdict" in values:
        values["verdict"] = Verdict.from_json(values["verdict"])
    if kind is Ended:
        values["state"] = State(values["state"])
    return kind(**values)
