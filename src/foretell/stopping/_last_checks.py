"""The last few checks as one number: what `goal_reached` and `hopeless` share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from foretell.curve import Report
from foretell.objective import Objective
from foretell.stopping._other_metrics import reported

Values = list[float | None]  # None is a value that is not finite, and as bad as can be

_CHECKS = 5


class Settings(Protocol):
    """What both rules are told."""

    @property
    def limit(self) -> float:
        """In the units of the metric."""

    @property
    def checks(self) -> int | None:
        """How many to look at."""

    @property
    def quantile(self) -> float | None:
        """What is judged; None is the mean."""

    @property
    def metrics(self) -> Sequence[str]:
        """What is looked at; none is the objective."""


def prepare(rule: Settings) -> None:
    """Fill in what was left out, and refuse what makes no sense.

    Raises:
        ValueError: a setting makes no sense.
    """
    name = type(rule).__name__
    if isinstance(rule.metrics, str):
        raise ValueError(f"{name}(metrics={rule.metrics!r}) is one name: give a tuple of them, ({rule.metrics!r},).")
    # Lists are welcome, but what is frozen must be hashable.
    object.__setattr__(rule, "metrics", tuple(rule.metrics))
    if rule.checks is None:
        object.__setattr__(rule, "checks", 1 if rule.metrics else _CHECKS)
    if not math.isfinite(rule.limit):
        raise ValueError(f"{name}({rule.limit}) has no limit: give a finite number.")
    if not isinstance(rule.checks, int) or rule.checks < 1:
        raise ValueError(f"{name}(checks={rule.checks!r}) must be a whole number of checks, 1 or more.")
    if rule.quantile is not None and not 0 < rule.quantile <= 1:
        raise ValueError(f"{name}(quantile={rule.quantile}) must be above 0 and at most 1, or None for the mean.")


def with_point(rule: Settings, state: Values, point: Report) -> Values:
    """The losses of the last checks; or, with names of metrics, their values in the user's units."""
    found = reported(rule, point, rule.metrics, begun=bool(state)) if rule.metrics else [point.loss]
    if not found:
        return state
    kept = [*state, *(value if math.isfinite(value) else None for value in found)]
    return kept[-_full(rule) :]


def summary(rule: Settings, state: Values, objective: Objective) -> float | None:
    """Mean or quantile of full checks, in the units of the metric; a mean with a None in it is infinitely bad."""
    if len(state) < _full(rule):
        return None
    worst = objective.value(math.inf)
    values = [worst if one is None else one if rule.metrics else objective.value(one) for one in state]
    if rule.quantile is None:
        return math.fsum(values) / len(values) if worst not in values else worst
    return sorted(values)[math.ceil(rule.quantile * len(values) - 1e-9) - 1]


def name_of(rule: Settings) -> str:
    """How a sentence calls the summary."""
    quantile, checks = rule.quantile, rule.checks
    kind = "mean" if quantile is None else "median" if quantile == 0.5 else f"{quantile:g} quantile"
    if not rule.metrics:
        return f"the {kind} of the last {checks} checks"
    behind = f" over the last {checks} checks" if checks != 1 else ""
    return f"the {kind} of {', '.join(rule.metrics)}{behind}"


def _full(rule: Settings) -> int:
    assert rule.checks is not None, "filled in when the rule was made"
    return rule.checks * max(1, len(rule.metrics))
