"""Every event as one line of JSON on stdout, for programs that look on."""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any, TextIO, final

from foretell import events
from foretell.budget import Budget
from foretell.events import Event
from foretell.record import Record
from foretell.trial import Verdict

__all__ = ["Lines", "finite"]

SCHEMA_VERSION = 1


@final
class Lines:
    """Writes the study's events as they become durable: newline-delimited JSON, numbers that are not finite as null.

    Args:
        stream: where to; stdout if left out.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._held: list[Event] | None = []  # until the first line is written
        self._broken = False

    def begin(self, name: str, record: Record, budget: Budget) -> None:
        """The first line: which study."""
        objective = record.objective
        limits = {"seconds": budget.seconds, "epochs": budget.epochs, "trials": budget.trials}
        aim = "maximize" if objective.maximizes else "minimize"
        self._write({"kind": "Begun", "study": name, "metric": objective.metric, "direction": aim, "budget": limits})
        held, self._held = self._held, None
        for event in held or ():
            self.happened(event)

    def happened(self, event: Event) -> None:
        """One line."""
        if self._held is not None:
            self._held.append(event)
            return
        self._write(events.to_json(event))

    def tick(self, now: float) -> None:
        """Nothing."""

    def end(self, verdict: Verdict) -> None:
        """Nothing more: the last event, `Concluded`, says why the study ended."""
        self._held = []

    def _write(self, data: dict[str, Any]) -> None:
        if self._broken:
            return
        stream = self._stream or sys.stdout
        try:
            print(json.dumps({"schema_version": SCHEMA_VERSION, **finite(data)}), file=stream, flush=True)
        except BrokenPipeError:  # the reader has gone: no reason to end a training
            self._broken = True
            if stream is sys.stdout:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finite(data: Any) -> Any:
    """Plain data for JSON, which has no word for NaN and infinity: they become null."""
    if isinstance(data, dict):
        return {str(key): finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
