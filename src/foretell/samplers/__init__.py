"""Samplers: what to try next. One method a file; the file's name is the member's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, final, get_args, runtime_checkable

from foretell.context import Context
from foretell.errors import SpaceError, did_you_mean
from foretell.record import Record
from foretell.space import Scalar

Confidence = Literal["low", "medium", "high"]


class Exhausted(Exception):
    """A sampler has nothing left to propose: the grid is walked."""


@final
@dataclass(frozen=True, slots=True)
class Belief:
    """Where the best value of one parameter is expected, and how firmly.

    Args:
        best: a value of the parameter.
        confidence: "low", "medium" or "high". A number is then expected within about 30, 15 or 5 % of its range (of
            its logarithm, where that is searched); an option is drawn for its own sake in 30, 60 or 90 % of draws.

    Raises:
        SpaceError: there is no such confidence.
    """

    best: Scalar
    confidence: Confidence = "medium"

    def __post_init__(self) -> None:
        known = get_args(Confidence)
        if self.confidence not in known:
            raise SpaceError(f"confidence={self.confidence!r} is unknown. {did_you_mean(str(self.confidence), known)}")


@runtime_checkable
class Sampler(Protocol):
    """Proposes configurations."""

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """A configuration to try next: valid in `context.space`, its constraints included.

        Raises:
            Exhausted: there is nothing left to propose; the study ends when what runs has ended.
        """
