"""Random search: independent draws from the space's prior (Bergstra and Bengio 2012)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from foretell.context import Context
from foretell.record import Record
from foretell.samplers import Belief

__all__ = ["RandomSearch"]


@final
@dataclass(frozen=True)
class RandomSearch:
    """Draws every configuration independently of all others.

    Args:
        beliefs: by parameter, where its best value is expected; they lead the first draws and fade.
    """

    beliefs: Mapping[str, Belief] = field(default_factory=dict)

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """A draw from the prior, with the randomness of this decision."""
        if not self.beliefs:
            return context.space.sample(context.rng)
        from foretell.samplers._beliefs import Beliefs  # noqa: PLC0415 -- random search alone needs no SciPy

        return Beliefs.of(context.space, self.beliefs).sample(context.space, len(record), context.rng)
