"""Arrays of one shape made from arrays of another: one axis at a time, in NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from foretell.transfer._layers import Array

How = Literal["take", "channels", "positions", "cut", "rows"]
_CUBIC = -0.5  # the coefficient of Keys' kernel, as in Pillow and in torch with antialias=True


@final
@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one axis.

    Args:
        place: which axis.
        how: "take" slices or replicates a width; "channels" adapts the colours of an image; "positions" interpolates;
            "cut" keeps the first; "rows" picks rows by label.
        source: factors of the length before.
        target: factors of the length after.
        is_input: for "take": whether the axis is summed over, so that replicas must share their weight.
        rows: for "rows": of each row of the target, the row of the source, or -1.
        fill: for "rows": what a new row becomes, the "mean" of the source's or the target's "own".
        prefix: for "positions": tokens at the beginning that have no place.
    """

    place: int
    how: How
    source: tuple[int, ...]
    target: tuple[int, ...]
    is_input: bool = False
    rows: tuple[int, ...] = ()
    fill: Literal["mean", "own"] = "own"
    prefix: tuple[int, int] = (0, 0)


def apply(array: Array, steps: tuple[Step, ...], own: Array, rng: np.random.Generator, noise: float) -> Array:
    """Take an array through all steps; floating-point numbers are worked on in float64.

    Args:
        array: in the common layout.
        steps: "rows" last, since its new rows may be the target's own.
        own: the target's array, of the final shape.
        rng: breaks the symmetry between replicas.
        noise: relative spread of the weights that replicas share, >= 0.
    """
    kind = array.dtype
    result = array.astype(np.float64) if steps and kind.kind == "f" else array
    for step in steps:
        if step.how == "take":
            result = _take(result, step, rng, noise)
        elif step.how == "channels":
            result = _channels(result, step)
        elif step.how == "positions":
            result = _positions(result, step)
        elif step.how == "cut":
            result = np.take(result, np.arange(math.prod(step.target)), axis=step.place)
        else:
            result = _rows(result, step, own)
    return result.astype(kind)


def index(source: tuple[int, ...], target: tuple[int, ...]) -> NDArray[np.intp]:
    """Of each unit of the target, the unit of the source: evenly spaced if there are fewer, in turn if there are more.

    Source: Xu et al., Initializing Models with Larger Ones, 2024, section 3 (slicing); Chen, Goodfellow and Shlens,
        Net2Net, 2016, section 2.2 (replication, there at random).
    """
    if len(source) != len(target):
        source, target = (math.prod(source),), (math.prod(target),)
    found = np.zeros(1, np.intp)
    for before, after in zip(source, target, strict=True):
        units = np.arange(after)
        units = units * before // after if after <= before else units % before
        found = (found[:, None] * before + units[None, :]).reshape(-1)
    return found


def _take(array: Array, step: Step, rng: np.random.Generator, noise: float) -> Array:
    units = index(step.source, step.target)
    taken = np.take(array, units, axis=step.place)
    if not step.is_input:
        return taken
    before = math.prod(step.source)
    counts = np.bincount(units, minlength=before)
    shares = 1.0 / counts[units]
    last: Array = np.moveaxis(taken, step.place, -1)
    if noise > 0 and counts.max() > 1:
        # Replicas with the same weights behind them would stay replicas for ever. Their shares still sum to one.
        spread = rng.standard_normal(last.shape)
        sums = np.zeros((*last.shape[:-1], before))
        for unit, column in zip(units, np.moveaxis(spread, -1, 0), strict=True):
            sums[..., unit] += column
        spread -= sums[..., units] / counts[units]
        last = last * (1.0 + noise * spread)
    rescale = math.sqrt(before / np.count_nonzero(counts))
    shared: Array = np.moveaxis(last * shares * rescale, -1, step.place)
    return shared


def _channels(array: Array, step: Step) -> Array:
    before, after = math.prod(step.source), math.prod(step.target)
    if after == 1:
        summed: Array = array.sum(axis=step.place, keepdims=True)
        return summed
    return np.take(array, np.arange(after) % before, axis=step.place) * (before / after)


def _positions(array: Array, step: Step) -> Array:
    kept, wanted = step.prefix
    moved = np.moveaxis(array, step.place, 0)
    tokens = moved[:kept][: min(kept, wanted)]
    if wanted > kept:
        tokens = np.concatenate([tokens, np.repeat(moved[:kept].mean(0, keepdims=True), wanted - kept, axis=0)])
    body = moved[kept:].reshape(*step.source, *moved.shape[1:])
    for place, (before, after) in enumerate(zip(step.source, step.target, strict=True)):
        matrix = resampling(before, after)
        body = np.moveaxis(np.tensordot(matrix, body, axes=(1, place)), 0, place)
    body = body.reshape(-1, *moved.shape[1:])
    return np.moveaxis(np.concatenate([tokens, body]), 0, step.place)


def resampling(before: int, after: int) -> NDArray[np.float64]:
    """The matrix (after, before) that resamples a line by cubic convolution, averaging where it shrinks.

    Source: Keys, Cubic Convolution Interpolation, 1981, equation 15; the kernel is widened to shrink, as Pillow does.
    """
    scale = before / after
    width = max(scale, 1.0)
    centres = scale * (np.arange(after) + 0.5)
    x = np.abs((np.arange(before)[None, :] + 0.5 - centres[:, None]) / width)
    near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
    far = _CUBIC * (((x - 5) * x + 8) * x - 4)
    weights: Any = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float64)


def _rows(array: Array, step: Step, own: Array) -> Array:
    rows = np.array(step.rows)
    moved = np.moveaxis(array, step.place, 0)
    new: Any = np.broadcast_to(moved.mean(0), (len(rows), *moved.shape[1:]))
    if step.fill == "own":
        new = np.moveaxis(own, step.place, 0)
    known = (rows >= 0).reshape(-1, *(1,) * (moved.ndim - 1))
    return np.moveaxis(np.where(known, moved[np.maximum(rows, 0)], new), 0, step.place)


def identity(shape: tuple[int, ...]) -> Array:
    """The weight that passes its input on: (n, n), or (n, n, odd, ...) for a convolution."""
    weight: Array = np.zeros(shape, np.float32)
    units = np.arange(shape[0])
    centre = tuple(length // 2 for length in shape[2:])
    weight[(units, units, *centre)] = 1.0  # type: ignore[index]  # NumPy's stubs know no such mixture
    return weight
