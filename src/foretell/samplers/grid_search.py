"""Grid search: every combination once, in order; conditional branches count only where they are active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from foretell.context import Context
from foretell.events import Created
from foretell.record import FoldEvent, Record
from foretell.samplers import Exhausted
from foretell.space import Space

__all__ = ["GridSearch"]


@final
@dataclass(frozen=True)
class GridSearch:
    """Walks the grid of the space; a resumed study goes on where it was.

    Args:
        points: how many values a numeric parameter takes, for all (int) or by name; None takes every value of an
            `Int`, a `Choice` and a stepped `Float`, and refuses a continuous `Float`.
    """

    points: int | Mapping[str, int] | None = None

    def size(self, space: Space) -> int:
        """How many combinations the grid has, before constraints."""
        return space.size(self.points)

    def init(self, space: Space) -> dict[str, Any]:
        """Nothing proposed yet."""
        return {"next": 0, "space": space}

    def update(self, state: dict[str, Any], event: FoldEvent) -> dict[str, Any]:
        """Step past the grid point that was proposed, and past infeasible ones before it."""
        if isinstance(event, Created) and event.origin == "grid_search":
            state["next"] = self._feasible(state["space"], state["next"]) + 1
        return state

    def suggest(self, record: Record, context: Context) -> dict[str, Any]:
        """The next feasible grid point."""
        index = self._feasible(context.space, record.state(self)["next"])
        if index >= self.size(context.space):
            raise Exhausted(f"all {self.size(context.space)} points of the grid were tried")
        return context.space.at(index, self.points)

    def _feasible(self, space: Space, index: int) -> int:
        size = self.size(space)
        while index < size and not space.feasible(space.at(index, self.points)):
            index += 1
        return index
