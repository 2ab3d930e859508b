"""What Prechelt's criteria share."""

from __future__ import annotations

import math


def generalization_loss(loss: float, lowest: float) -> float:
    """GL in per cent of the lowest loss's magnitude; infinite above a lowest loss of 0."""
    if loss <= lowest:
        return 0.0
    return 100 * (loss - lowest) / abs(lowest) if lowest else math.inf


def require(name: str, *, at_least_two: int | None = None, at_least_one: int | None = None, **numbers: float) -> None:
    """Settings that make sense.

    Raises:
        ValueError: they do not.
    """
    for setting, number in numbers.items():
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f"{name}({setting}={number}) must be a finite number, 0 or more.")
    for least, count in ((1, at_least_one), (2, at_least_two)):
        if count is not None and (not isinstance(count, int) or count < least):
            raise ValueError(f"{name} counts checks: {count!r} must be a whole number, {least} or more.")
