"""The last few checks as one number: what `goal_reached` and `hopeless` share."""

from __future__ import annotations

import math

from foretell.curve import Point
from foretell.objective import Objective

Losses = list[float | None]  # None is a loss that is not finite, and as bad as can be


def require(name: str, limit: float, checks: int, quantile: float | None) -> None:
    """Settings that make sense.

    Raises:
        ValueError: they do not.
    """
    if not math.isfinite(limit):
        raise ValueError(f"{name}({limit}) has no limit: give a finite number.")
    if not isinstance(checks, int) or checks < 1:
        raise ValueError(f"{name}(checks={checks!r}) must be a whole number of checks, 1 or more.")
    if quantile is not None and not 0 < quantile <= 1:
        raise ValueError(f"{name}(quantile={quantile}) must be above 0 and at most 1, or None for the mean.")


def with_point(state: Losses, point: Point, checks: int) -> Losses:
    """The last `checks` losses."""
    kept = state[1 - checks :] if checks > 1 else []
    return [*kept, point.loss if math.isfinite(point.loss) else None]


def summary(state: Losses, quantile: float | None, objective: Objective) -> float:
    """Mean or quantile of the last checks, in the units of the metric; a mean with a None in it is infinitely bad."""
    values = [objective.value(math.inf if loss is None else loss) for loss in state]
    if quantile is None:
        return math.fsum(values) / len(values) if math.inf not in map(abs, values) else objective.value(math.inf)
    return sorted(values)[math.ceil(quantile * len(values) - 1e-9) - 1]


def name_of(checks: int, quantile: float | None) -> str:
    """How a sentence calls the summary."""
    kind = "mean" if quantile is None else "median" if quantile == 0.5 else f"{quantile:g} quantile"
    return f"the {kind} of the last {checks} checks"
