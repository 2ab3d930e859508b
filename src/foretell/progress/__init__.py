"""Progress: how a running study shows itself. One manner a file; all read the record and write nothing to it."""

from __future__ import annotations

import os
import sys
from typing import Protocol, runtime_checkable

from foretell.budget import Budget
from foretell.events import Event
from foretell.record import Record
from foretell.trial import Verdict


@runtime_checkable
class Watcher(Protocol):
    """Sees everything that happens in a study, after it is durable."""

    def begin(self, name: str, record: Record, budget: Budget) -> None:
        """The study is about to run."""

    def happened(self, event: Event) -> None:
        """One event was applied to the record."""

    def tick(self, now: float) -> None:
        """Called several times a second; `now` is on the executor's clock."""

    def end(self, verdict: Verdict) -> None:
        """The study has come to its end, or to a pause."""


def automatic() -> str:
    """The manner that fits where the output goes: "live" on a terminal, "plain" elsewhere."""
    interactive = sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
    traced = sys.gettrace() is not None  # a debugger shares the terminal
    return "live" if interactive and not traced else "plain"
