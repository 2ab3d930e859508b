"""Terminators: is the study worth going on? The twin of the stopping rules, asked of the whole record."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from foretell.context import Context
from foretell.record import Record
from foretell.trial import Verdict


@runtime_checkable
class Terminator(Protocol):
    """Judges the study before every new decision."""

    def check(self, record: Record, context: Context) -> Verdict:
        """The verdict; one that stops ends the study after what runs has been paused or stopped."""
