"""Metrics besides the objective, by the names a rule was given."""

from __future__ import annotations

from collections.abc import Sequence

from foretell.curve import Report
from foretell.errors import MetricError, did_you_mean


def reported(rule: object, point: Report, names: Sequence[str], *, begun: bool) -> list[float] | None:
    """The values at a check, or None if one of them was not reported with it: then the check does not count.

    Args:
        rule: that asks.
        point: the check.
        names: of the metrics.
        begun: whether a check has counted yet, so that the names are right.

    Raises:
        MetricError: a metric is missing at the first check already; says what was reported.
    """
    missing = [name for name in names if name not in point.metrics]
    if not missing:
        return [point.metrics[name] for name in names]
    if point.metrics and not begun:  # a point that comes out of a curve knows no other metric
        kind = type(rule).__name__
        raise MetricError(
            f"{kind} looks at {missing[0]!r}, which was not reported with the objective at step {point.step}. "
            f"{did_you_mean(missing[0], point.metrics)} Report it in the same call or before; if only some checks have "
            f"it, show {kind} these alone, with ft.after or ft.every."
        )
    return None
