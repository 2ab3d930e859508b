"""The learning-rate range test: which rates are worth trying, read off one short training with growing rates.

Loss against the logarithm of the rate has three parts: flat, falling, blowing up. Everything here works on that
logarithm; against the rate itself the smallest rates have the steepest slopes, and noise decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from foretell.lr._formulas import require

__all__ = ["analyse", "RangeTest", "Suggestion"]

_LEAST_POINTS = 20
_MEDIAN = 5  # points of the running median that removes single spikes
_CERTAIN = 4.0  # standard errors by which the smoothed loss must have fallen
_AGREED = 1.0  # decades within which suggestions agree
_BEGUN = 0.2  # share of the fall that counts as its beginning: enough to stand out from the noise before it

_ROUNDING = 1e-9  # share of the loss that is no change

Array = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class Suggestion:
    """What one method makes of a range test.

    Args:
        method: "steepest", "valley" or "minimum".
        lr: the rate, or None.
        reason: why this one, or why none.
    """

    method: str
    lr: float | None
    reason: str


@final
@dataclass(frozen=True, slots=True, eq=False)
class RangeTest:
    """The outcome of a range test; "no usable minimum" is one.

    Args:
        lrs: (n,) rates that were looked at, increasing.
        losses: (n,) the losses at them.
        smoothed: (n,) the losses that the suggestions were read off; empty if there were too few.
        suggestions: one of each method; a method that found none says why.
        lr: the middle suggestion, or None.
        spread: decades between the smallest and the largest suggestion; None if there are none.
        reason: the outcome in words.
    """

    lrs: Array
    losses: Array
    smoothed: Array
    suggestions: tuple[Suggestion, ...]
    lr: float | None
    spread: float | None
    reason: str

    def __getitem__(self, method: str) -> Suggestion:
        """The suggestion of a method."""
        return next(one for one in self.suggestions if one.method == method)


def analyse(lrs: Sequence[float], losses: Sequence[float], *, bandwidth: float = 0.3) -> RangeTest:
    """Read suggestions off a range test.

    "steepest": where the smoothed loss falls fastest against the logarithm of the rate. "valley": halfway, on the log
    scale, from where the fall begins (a fifth of it is done) to the lowest smoothed loss. "minimum": a tenth of the
    rate with the lowest smoothed loss.

    Args:
        lrs: (n,) rates > 0, increasing; best evenly spaced on a log scale.
        losses: (n,) the loss of the batch at each rate; what comes behind the first that is not finite is left out.
        bandwidth: of the smoothing, in decades, > 0.

    Raises:
        ValueError: the two do not belong together.

    Source: Smith, Cyclical Learning Rates, 2017 (the test); the methods are named as in fastai.
    """
    x, y = np.asarray(lrs, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    require(x.ndim == 1 and x.shape == y.shape, f"{x.shape} rates and {y.shape} losses: give one loss for each rate.")
    require(bool((x > 0).all() and (np.diff(x) > 0).all()), "The rates of a range test must be above 0 and increasing.")
    require(bandwidth > 0, f"bandwidth={bandwidth} must be a number of decades above 0.")
    finite = np.isfinite(y)
    last = len(y) if finite.all() else int(np.argmin(finite))
    x, y = x[:last], y[:last]
    if last < _LEAST_POINTS:
        many = f"only {last} losses were finite: a range test needs {_LEAST_POINTS}, so begin at a smaller rate"
        return _outcome(x, y, np.empty(0), many)
    log, cut = np.log10(x), _without_spikes(y)
    # At least two neighbours on either side, or there is nothing to smooth over.
    width = max(bandwidth, 2.0 * float(np.median(np.diff(log))))
    smoothed, slope, errors = _local_lines(log, cut, width, _noise(y))
    begun, lowest = _fall(smoothed)
    trouble = _trouble(smoothed, errors, begun, lowest)
    if trouble:
        return _outcome(x, y, smoothed, trouble)
    return _outcome(x, y, smoothed, "", _suggestions(x, smoothed, slope, begun, lowest))


def _fall(smoothed: Array) -> tuple[int, int]:
    """Where the fall begins for good, and where the loss is lowest."""
    lowest = int(np.argmin(smoothed))
    top, low = smoothed[: lowest + 1].max(), smoothed[lowest]
    return int(np.flatnonzero(smoothed[: lowest + 1] >= top - _BEGUN * (top - low))[-1]), lowest


def _suggestions(x: Array, smoothed: Array, slope: Array, begun: int, lowest: int) -> tuple[Suggestion, ...]:
    top, low = float(smoothed[begun]), float(smoothed[lowest])
    steepest = begun + int(np.argmin(slope[begun : lowest + 1]))
    reach = f"from {top:.4g} at {x[begun]:.2g} to {low:.4g} at {x[lowest]:.2g}"
    tenth = Suggestion("minimum", float(x[lowest] / 10), f"a tenth of {x[lowest]:.2g}, where the loss is lowest")
    if lowest >= len(x) - 2:
        tenth = Suggestion("minimum", None, f"the loss still falls at the largest rate, {x[-1]:.2g}: extend the range")
    return (
        Suggestion("steepest", float(x[steepest]), f"the loss falls fastest, by {-slope[steepest]:.3g} a decade"),
        Suggestion("valley", math.sqrt(x[begun] * x[lowest]), f"halfway down the fall {reach}"),
        tenth,
    )


def _outcome(x: Array, y: Array, smoothed: Array, trouble: str, found: tuple[Suggestion, ...] = ()) -> RangeTest:
    if trouble:
        missing = tuple(Suggestion(method, None, trouble) for method in ("steepest", "valley", "minimum"))
        return RangeTest(x, y, smoothed, missing, None, None, f"no usable minimum: {trouble}")
    rates = sorted(one.lr for one in found if one.lr is not None)
    middle = float(np.exp(np.median(np.log(rates))))
    spread = math.log10(rates[-1] / rates[0])
    verdict = "agree" if spread <= _AGREED else "disagree: look at the curve, or begin with the smallest"
    shown = ", ".join(f"{one.method} {one.lr:.2g}" for one in found if one.lr is not None)
    return RangeTest(x, y, smoothed, found, middle, spread, f"{middle:.2g}; the methods {verdict} ({shown})")


def _without_spikes(y: Array) -> Array:
    """A running median, cut off where the loss blows up: one huge loss must not bend the smoothing before it."""
    half = _MEDIAN // 2
    padded = np.pad(y, half, mode="edge")
    median = np.median(np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN), axis=1)
    start, low = float(np.median(y[: max(_MEDIAN, len(y) // 10)])), float(median.min())
    return np.minimum(median, start + max(start - low, float(np.median(np.abs(np.diff(y))))))


def _noise(y: Array) -> float:
    """Standard deviation of a single loss, from second differences, in which a trend cancels."""
    return 1.4826 * float(np.median(np.abs(np.diff(y, n=2)))) / math.sqrt(6)


def _local_lines(log: Array, y: Array, bandwidth: float, noise: float) -> tuple[Array, Array, Array]:
    """Level and slope of a line fitted around each point under Gaussian weights, and standard errors of the levels."""
    distance = log[None, :] - log[:, None]
    weight = np.exp(-0.5 * (distance / bandwidth) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    centre = (weight * distance).sum(axis=1, keepdims=True)
    away = distance - centre
    share = weight * away / (weight * away**2).sum(axis=1, keepdims=True)
    kernel = weight - share * centre
    # A median is noisier than a mean, by the square root of pi / 2.
    errors = noise * np.sqrt(math.pi / 2 * (kernel**2).sum(axis=1))
    return kernel @ y, share @ y, errors


def _trouble(smoothed: Array, errors: Array, begun: int, lowest: int) -> str:
    """Why nothing can be read off, or an empty text."""
    # Against the level before the fall, not its highest point, which noise has picked.
    fallen = float(np.median(smoothed[: begun + 1]) - smoothed[lowest])
    if lowest == 0 and smoothed[-1] > smoothed[0]:
        return "the loss rises from the first rate on, so begin at a smaller one"
    if fallen <= _ROUNDING * float(np.abs(smoothed).max()):
        return "the loss is the same at every rate: see whether the gradients reach the weights"
    error = math.hypot(errors[: begun + 1].min(), errors[lowest])
    if fallen <= _CERTAIN * error:
        return (
            f"the loss falls by {fallen:.3g} only, which its noise could be (standard error {error:.2g}): "
            "use larger batches or more steps, or see whether the model trains at all"
        )
    return ""
