"""Random search: independent draws from the space's prior (Bergstra and Bengio 2012)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from foretell.context import Context
from foretell.record import Record

__all__ = ["RandomSearch"]


@final
@dataclass(frozen=True)
class RandomSearch:
    """Draws every configuration independently of all others."""

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """A draw from the prior, with the randomness of this decision."""
        return context.space.sample(context.rng)
