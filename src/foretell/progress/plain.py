"""Lines of plain text, for logs and for terminals that can do no more."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TextIO, final

from foretell import events
from foretell.budget import Budget
from foretell.events import Event
from foretell.progress._text import clean, counted, decision, number, params, seconds, sparkline, summary, view
from foretell.record import Record
from foretell.trial import State, Verdict

__all__ = ["Plain", "clean", "counted", "number", "params", "seconds", "sparkline", "summary"]

_MOST_LINES = 3  # a second
_STATUS_PERIOD = 10.0  # seconds between two lines that say how the study stands
_LONG = 60.0  # seconds of training, from which on a pause is worth a line of its own


@final
class Plain:
    """Writes one line for what is worth one, a few a second at most, and a summary at the end.

    Args:
        stream: where to; stderr if left out.
        clock: seconds that pass for the person who reads.
    """

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._name, self._record, self._budget = "", None, Budget()  # type: str, Record | None, Budget
        self._second, self._lines = 0.0, 0
        self._unsaid: Counter[str] = Counter()
        self._stood, self._status = 0.0, ""
        self._best = float("inf")

    def begin(self, name: str, record: Record, budget: Budget) -> None:
        """Say what is about to run."""
        self._name, self._record, self._budget = name, record, budget
        self._stood, self._best = self._clock(), record.incumbent
        shown = view(name, record, budget)
        self._say(f"{name}: {shown.aim}, budget {budget}")
        if record.started:
            self._say(f"{name}: goes on after {seconds(shown.seconds)}, trials {counted(shown.counts)}")

    def happened(self, event: Event) -> None:
        """Say it, if it is worth a line."""
        if self._record is None or not isinstance(event, events.Ended):
            return
        text, number_of = decision(self._record, event), event.trial
        if event.state is State.PAUSED and event.seconds < _LONG and event.cause == "":
            self._unsaid["paused"] += 1
            return
        value = "" if event.cause else self._value(number_of)
        if value and self._record.losses[number_of] < self._best:
            self._best = self._record.losses[number_of]
            value += ", the best so far"
        head, colon, reason = text.partition(": ")
        again = event.state is State.QUEUED
        self._limited(f"{head}{value}{colon}{reason}", "to be tried again" if again else event.state.value)

    def tick(self, now: float) -> None:
        """Say how the study stands, from time to time."""
        if self._record is None or self._clock() - self._stood < _STATUS_PERIOD:
            return
        self._stood = self._clock()
        self._catch_up()
        shown = view(self._name, self._record, self._budget, now=now, most_running=0, most_decisions=0)
        limits = ", ".join(f"{limit.what} {limit}" for limit in shown.limits) or seconds(shown.seconds)
        best = ""
        if shown.best is not None:
            best = f", best {shown.metric} {number(shown.best.value)} (trial {shown.best.number})"
        self._say(f"{limits}; trials {counted(shown.counts)}{best}")

    def end(self, verdict: Verdict) -> None:
        """Write the summary."""
        if self._record is None:
            return
        self._catch_up()
        for label, text in summary(view(self._name, self._record, self._budget, verdict=verdict)):
            self._say(f"{label:6}  {text}")
        self._record = None

    def _value(self, trial: int) -> str:
        assert self._record is not None
        curve, objective = self._record.curves[trial], self._record.objective
        value = self._record.losses[trial] if self._record.losses[trial] < float("inf") else None
        return (
            f", {clean(objective.metric)} {number(objective.value(value))}" if len(curve) and value is not None else ""
        )

    def _limited(self, line: str, kind: str) -> None:
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        if self._lines >= _MOST_LINES:
            self._unsaid[kind] += 1
            return
        self._lines += 1
        self._say(line)

    def _catch_up(self) -> None:
        """What there was no room for."""
        if self._unsaid:
            self._say(f"besides: {', '.join(f'{count} {state}' for state, count in self._unsaid.items())}")
            self._unsaid.clear()

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more: no reason to end a training
            print(line, file=self._stream or sys.stderr, flush=True)
