"""What members share: phases that lead from one rate to another, sums of stairs, gains, and checks of settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import NamedTuple

from foretell.errors import did_you_mean

# The share of the way that is gone after the share u of a phase, and its integral from 0 to u.
SHAPES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "linear": (lambda u: u, lambda u: u * u / 2),
    "cosine": (lambda u: (1 - math.cos(math.pi * u)) / 2, lambda u: (u - math.sin(math.pi * u) / math.pi) / 2),
    "sqrt": (math.sqrt, lambda u: u**1.5 * 2 / 3),
}


class Phase(NamedTuple):
    """From one rate to another within `length` steps, along a shape."""

    length: float
    start: float
    end: float
    shape: str = "linear"


def rate_of(phases: tuple[Phase, ...], step: float) -> float:
    """The rate of phases in a row; behind the last, its end."""
    for phase in phases:
        if step < phase.length:
            if phase.start == phase.end:  # a mean of two equal numbers may round away from them
                return phase.end
            gone = SHAPES[phase.shape][0](step / phase.length)
            return phase.start * (1 - gone) + phase.end * gone
        step -= phase.length
    return phases[-1].end


def area_of(phases: tuple[Phase, ...], step: float) -> float:
    """The integral of `rate_of` from 0 to `step`."""
    total = 0.0
    for phase in phases:
        if step <= 0:
            return total
        share = min(step / phase.length, 1.0) if phase.length else 0.0
        total += phase.length * (phase.start * share + (phase.end - phase.start) * SHAPES[phase.shape][1](share))
        step -= phase.length
    return total + max(step, 0.0) * phases[-1].end


def geometric(ratio: float, count: int) -> float:
    """1 + ratio + ratio**2 + ..., `count` terms."""
    return float(count) if ratio == 1 else (1 - ratio**count) / (1 - ratio)


def improves(loss: float, best: float | None, threshold: float, relative: bool) -> bool:
    """Whether a loss is finite and beats the best by more than the threshold."""
    if best is None or not math.isfinite(loss):
        return math.isfinite(loss)
    return loss < best - threshold * (abs(best) if relative else 1.0)


def require(condition: bool, message: str) -> None:
    """Refuse a setting that makes no sense, with a message that names the cure."""
    if not condition:
        raise ValueError(message)


def require_shape(setting: str, value: str, known: Collection[str]) -> None:
    """Refuse a word that is none of those a setting can be."""
    if value not in known:
        raise ValueError(f"{setting} cannot be {value!r}. {did_you_mean(str(value), known)}")


def require_rate(owner: str, **rates: float) -> None:
    """Refuse learning rates below 0, and infinite ones."""
    for name, rate in rates.items():
        require(math.isfinite(rate) and rate >= 0, f"{owner}({name}={rate}) must be a learning rate, 0 or more.")


def require_steps(owner: str, **lengths: float) -> None:
    """Refuse lengths of 0 and below, and infinite ones."""
    for name, length in lengths.items():
        require(math.isfinite(length) and length > 0, f"{owner}({name}={length}) must be a number of steps above 0.")
