"""Samplers: what to try next. One method a file; the file's name is the member's name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from foretell.context import Context
from foretell.record import Record


class Exhausted(Exception):
    """A sampler has nothing left to propose: the grid is walked."""


@runtime_checkable
class Sampler(Protocol):
    """Proposes configurations."""

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """A configuration to try next: valid in `context.space`, its constraints included.

        Raises:
            Exhausted: there is nothing left to propose; the study ends when what runs has ended.
        """
