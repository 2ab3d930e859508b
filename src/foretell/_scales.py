"""Scales: one-to-one maps between the values of a number parameter and places on the unit interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final


class Scale(Protocol):
    """A map between values and [0, 1]; `count` is the number of values, None if there is no end of them."""

    @property
    def count(self) -> int | None: ...

    def to_unit(self, value: float) -> float: ...

    def from_unit(self, u: float) -> float: ...

    def nth(self, index: int, points: int | None) -> float:
        """Value number `index` of `points` evenly spaced ones, or of all if there are no more than that."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Linear:
    """Real numbers, evenly spread, on a grid of so many decimals."""

    low: float
    high: float
    width: float
    decimals: int
    first: float
    last: float

    @classmethod
    def between(cls, low: float, high: float) -> Linear:
        """Twelve digits of the range, but no more than fourteen of the larger bound, where rounding errors begin."""
        decimals = _decimals(high - low, max(abs(low), abs(high)))
        # A grid value too near to a bound would be taken for the bound on the way back.
        gap = 0.5 * 10.0**-decimals
        return cls(low, high, high - low, decimals, low + gap, high - gap)

    @property
    def count(self) -> None:
        return None

    def to_unit(self, value: float) -> float:
        return (value - self.low) / self.width

    def from_unit(self, u: float) -> float:
        if u <= 0.0:
            return self.low
        value = round(self.low + u * self.width, self.decimals) + 0.0  # + 0.0: no -0.0
        if value < self.first:
            return self.low
        return self.high if u >= 1.0 or value > self.last else value

    def nth(self, index: int, points: int | None) -> float:
        return self.from_unit(_fraction(index, points))


@final
@dataclass(frozen=True, slots=True)
class Log:
    """Positive real numbers, evenly spread over orders of magnitude, with twelve significant digits."""

    low: float
    high: float
    log_low: float
    span: float
    first: float
    last: float

    @classmethod
    def between(cls, low: float, high: float) -> Log:
        log_low = math.log(low)
        return cls(low, high, log_low, math.log(high) - log_low, low * (1 + 1e-12), high * (1 - 1e-12))

    @property
    def count(self) -> None:
        return None

    def to_unit(self, value: float) -> float:
        return (math.log(value) - self.log_low) / self.span

    def from_unit(self, u: float) -> float:
        if u <= 0.0:
            return self.low
        value = float(f"{math.exp(self.log_low + u * self.span):.12g}")
        if value < self.first:
            return self.low
        return self.high if u >= 1.0 or value > self.last else value

    def nth(self, index: int, points: int | None) -> float:
        return self.from_unit(_fraction(index, points))


@final
@dataclass(frozen=True, slots=True)
class Lattice:
    """The values low + k * step, each with an equal share of [0, 1]; `decimals` is None for whole numbers."""

    low: float
    step: float
    count: int
    last: float
    decimals: int | None

    @classmethod
    def of_ints(cls, low: int, high: int, step: int) -> Lattice:
        count = (high - low) // step + 1
        return cls(low, step, count, low + (count - 1) * step, None)

    @classmethod
    def of_floats(cls, low: float, high: float, step: float) -> Lattice:
        """A high bound that is a step but for rounding errors is the last value itself."""
        steps = (high - low) / step
        decimals = _decimals(step, max(abs(low), abs(high)))
        if abs(steps - round(steps)) < 1e-6:
            return cls(low, step, round(steps) + 1, high, decimals)
        count = math.floor(steps) + 1
        return cls(low, step, count, round(low + (count - 1) * step, decimals) + 0.0, decimals)

    def value(self, index: int) -> float:
        """Value number `index`."""
        if index == 0:
            return self.low
        if index == self.count - 1:
            return self.last
        value = self.low + index * self.step
        return value if self.decimals is None else round(value, self.decimals) + 0.0

    def index(self, value: float) -> int:
        """The number of the value nearest to this one."""
        return min(max(round((value - self.low) / self.step), 0), self.count - 1)

    def to_unit(self, value: float) -> float:
        return (self.index(value) + 0.5) / self.count

    def from_unit(self, u: float) -> float:
        return self.value(min(max(int(u * self.count), 0), self.count - 1))

    def nth(self, index: int, points: int | None) -> float:
        if points is None or points >= self.count:
            return self.value(index)
        if points == 1:
            return self.value((self.count - 1) // 2)
        return self.value((2 * index * (self.count - 1) + points - 1) // (2 * (points - 1)))


@final
@dataclass(frozen=True, slots=True)
class LogInt:
    """Positive whole numbers, each with the share of [0, 1] that its half units either side have in logarithm."""

    low: int
    high: int
    log_low: float
    span: float

    @classmethod
    def between(cls, low: int, high: int) -> LogInt:
        log_low = math.log(low - 0.5)
        return cls(low, high, log_low, math.log(high + 0.5) - log_low)

    @property
    def count(self) -> int:
        return self.high - self.low + 1

    def to_unit(self, value: float) -> float:
        return (math.log(value) - self.log_low) / self.span

    def from_unit(self, u: float) -> int:
        return min(max(int(math.exp(self.log_low + u * self.span) + 0.5), self.low), self.high)

    def nth(self, index: int, points: int | None) -> int:
        if points is None or points >= self.count:
            return self.low + index
        if points == 1:
            return self.from_unit(0.5)
        # Small numbers lie wider apart than an even spacing: count up one by one until it overtakes (it is convex).
        even = self.low * (self.high / self.low) ** (index / (points - 1))
        return min(max(self.low + index, int(even + 0.5)), self.high)


def _decimals(width: float, magnitude: float) -> int:
    return min(12 - math.floor(math.log10(width)), 14 - math.ceil(math.log10(magnitude)))


def _fraction(index: int, points: int | None) -> float:
    assert points is not None
    return 0.5 if points == 1 else index / (points - 1)
