"""Quasi-Monte Carlo: a scrambled Sobol sequence fills the cube more evenly than independent draws (Owen 1998)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from foretell.context import Context
from foretell.errors import SpaceError
from foretell.events import Created
from foretell.record import FoldEvent, Record
from foretell.space import Space

__all__ = ["QMC"]

_TRIES = 10_000


@final
@dataclass(frozen=True)
class QMC:
    """Walks one scrambled Sobol sequence, the scrambling made from the study's seed; skips infeasible points."""

    def init(self, space: Space) -> dict[str, Any]:
        """At the start of the sequence; the engine is made at first use, when the seed is known."""
        return {"created": 0, "drawn": 0, "engine": None}

    def update(self, state: dict[str, Any], event: FoldEvent) -> dict[str, Any]:
        """Count the points that became trials."""
        if isinstance(event, Created) and event.origin == "qmc":
            state["created"] += 1
        return state

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """The next feasible point of the sequence."""
        state, space = record.state(self), context.space
        if not len(space):
            return space.decode([])
        if state["engine"] is None or state["drawn"] > state["created"]:
            # After a reopening, or a dropped proposal, the walk starts anew: the same seed gives the same points.
            state.update(engine=_engine(len(space), context.seed), drawn=0)
        misses = 0
        while misses < _TRIES:
            params = space.decode(state["engine"].random(1)[0])
            if not space.feasible(params):
                misses += 1
                continue
            misses = 0
            state["drawn"] += 1
            if state["drawn"] > state["created"]:
                return params
        raise SpaceError(f"None of {_TRIES} points met the constraints: loosen them, or narrow the parameters' ranges.")


def _engine(dimensions: int, seed: int) -> Any:
    from scipy.stats import qmc  # noqa: PLC0415 - SciPy is loaded on first use

    return qmc.Sobol(dimensions, scramble=True, rng=seed)
