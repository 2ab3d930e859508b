"""Executors: where trainings run, and the clock they run by.

An executor turns tasks into attempts and hands what they say to `deliver`, in batches; the coordinator answers each
message by `reply`, after it is durable. Inline, local processes, replay: same messages, same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, final, runtime_checkable

from foretell.events import Event
from foretell.objective import Objective
from foretell.stopping import StoppingRule
from foretell.trial import CONTINUE, Verdict


@final
@dataclass(frozen=True, slots=True)
class Reply:
    """The coordinator's answer to a message of an attempt.

    Args:
        until: epochs up to which it may train; None means to its end. Counts only if the verdict says continue.
        verdict: continue, pause (save and leave) or stop.
        keep: whether the best weights are wanted on disk when the attempt ends.
    """

    until: int | None = None
    verdict: Verdict = CONTINUE
    keep: bool = True


@final
@dataclass(frozen=True, slots=True)
class Task:
    """One attempt at one trial: everything that differs between attempts, as plain data.

    Args:
        trial: number of the trial.
        attempt: number of the attempt, from 1; the fencing token.
        params: the configuration.
        seed: of the trial, the same in every attempt.
        folder: the trial's, for checkpoints and logs; None if nothing is kept.
        restore: checkpoints to go on from ("newest", "best") or to inherit ("parent"): folder, digest, step.
        curve: (step, loss, seconds) of what the trial has behind it.
        environment: variables set before the user's code, e.g. CUDA_VISIBLE_DEVICES.
        must_restore: whether tracking objects without anything to restore is an error.
    """

    trial: int
    attempt: int
    params: dict[str, Any]
    seed: int
    folder: str | None = None
    restore: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    must_restore: bool = False


@final
@dataclass(frozen=True, slots=True)
class Work:
    """What is the same for every attempt of a study; it crosses to the training processes together with the function.

    Args:
        function: the user's training function, called with a `Run`; None where it is not needed.
        objective: of the study.
        stopping: the run's own rule, or None.
        restore_best: whether tracked objects get their best weights back when the loop ends; None means if tracked.
        can_pause: whether attempts may be paused at all.
    """

    function: Callable[[Any], Any] | None
    objective: Objective
    stopping: StoppingRule | None = None
    restore_best: bool | None = None
    can_pause: bool = True

    def with_function(self, function: Callable[[Any], Any] | None) -> Work:
        """The same work of another function."""
        return replace(self, function=function)


class Message(NamedTuple):
    """What an attempt said. A `Lost` attempt says nothing; the executor speaks for it."""

    trial: int
    attempt: int
    event: Event | Lost


@final
@dataclass(frozen=True, slots=True)
class Lost:
    """An attempt ended without a word.

    Args:
        cause: "oom", "signal", "exit", "timeout" or "cancelled".
        detail: in words, with the end of its output.
    """

    cause: str
    detail: str


Deliver = Callable[[Sequence[Message]], None]


@runtime_checkable
class Executor(Protocol):
    """Runs attempts. All methods are called by one thread."""

    slots: int
    """How many attempts may run at once."""

    def open(self, work: Work, deliver: Deliver) -> None:
        """Get ready to run attempts of `work`; what they say goes to `deliver`."""

    def submit(self, task: Task) -> None:
        """Begin an attempt."""

    def reply(self, trial: int, reply: Reply) -> None:
        """Answer the last message of a trial's attempt."""

    def signal(self, trial: int) -> None:
        """Ask an attempt to speak up at its next epoch boundary; never waits."""

    def kill(self, trial: int) -> None:
        """End an attempt at once; its `Lost` message follows."""

    def wait(self, timeout: float | None) -> None:
        """Deliver what has happened, or wait for it, `timeout` seconds at most."""

    def now(self) -> float:
        """Seconds on the executor's clock: the wall's, or a virtual one."""

    def close(self) -> None:
        """End every attempt that is left and let go of everything."""
