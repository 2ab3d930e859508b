"""What other libraries mean by patience: one table of their differences, which one engine reads (`patience_like`).

Every entry was read in the source of the version it names and is compared with the living library by
`tests/differential/test_patience_dialects.py`. Losses are lower-is-better here, as everywhere; what becomes of NaN, of
a tie and of a rounding error is the library's.
"""

from __future__ import annotations

import ctypes
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

# (loss, reference, minimum gain, side): side is 1 for a loss and -1 for a score that was turned into a loss.
Improves = Callable[[float, float, float, int], bool]

_SINGLE_OVERFLOW = float.fromhex("0x1.ffffffp127")  # the least number that float32 rounds to infinity


@final
@dataclass(frozen=True, slots=True)
class Dialect:
    """How one library counts.

    Args:
        version: of the library that was read and driven.
        improves: whether a loss beats the reference by the minimum gain.
        improves_relative: the same with a relative minimum gain, or None if the library has none.
        patience: the library's default, or None if it wants to be told.
        min_delta: the library's default.
        relative: whether its default minimum gain is relative.
        least_patience: what the library refuses to go under.
        first_counts: whether the first value is an improvement unseen, NaN included.
        moves_when_accepted: whether an improvement becomes the reference.
        moves_when_lower: whether any lower loss becomes the reference, be the gain ever so small.
        used_up: (checks waited, patience) -> whether that is too long.
        judges_improvements: whether the run can end at an improvement, which matters for a patience of 0.
        ends_at_non_finite: whether NaN or infinity ends the run at once.
        window: whether the reference is the value `patience` checks ago.
        has_baseline: whether the count only restarts at improvements that beat a baseline.
        keeps_best: whether the library knows the step of its best value.
        sided: whether losses and scores are rounded differently.
    """

    version: str
    improves: Improves
    improves_relative: Improves | None = None
    patience: int | None = None
    min_delta: float = 0.0
    relative: bool = False
    least_patience: int = 0
    first_counts: bool = False
    moves_when_accepted: bool = True
    moves_when_lower: bool = False
    used_up: Callable[[int, int], bool] = operator.ge
    judges_improvements: bool = False
    ends_at_non_finite: bool = False
    window: bool = False
    has_baseline: bool = False
    keeps_best: bool = True
    sided: bool = False


def is_finite_single(value: float) -> bool:
    """Whether a float32 tensor of the value is finite."""
    return abs(value) < _SINGLE_OVERFLOW


def _single(value: float) -> float:
    """Rounded as a float32 tensor rounds."""
    return ctypes.c_float(value).value


def _below(loss: float, best: float, gain: float, side: int) -> bool:
    return loss < best - gain


def _below_share(loss: float, best: float, gain: float, side: int) -> bool:
    # The share is of the value itself, not of its magnitude: for a negative loss the bar moves the wrong way.
    return loss < (best - side * gain * best if best != math.inf else best)


def _below_rounded(loss: float, best: float, gain: float, side: int) -> bool:
    return _single(loss + gain) < _single(best)


def _below_tensor(loss: float, best: float, gain: float, side: int) -> bool:
    return _single(_single(loss) + _single(gain)) < _single(best)


def _further_than(loss: float, best: float, gain: float, side: int) -> bool:
    return loss < best and abs(loss - best) > gain


def _unless_at_or_over(loss: float, best: float, gain: float, side: int) -> bool:
    return not loss >= best - gain  # NaN is an improvement


def _unless_at_or_over_share(loss: float, best: float, gain: float, side: int) -> bool:
    return not loss >= best * (1 - side * gain)  # NaN is an improvement; a share of the value itself, see above


def _unless_over(loss: float, best: float, gain: float, side: int) -> bool:
    return not loss > best - gain  # NaN and a tie are improvements


def _below_unevenly(loss: float, best: float, gain: float, side: int) -> bool:
    return loss < best - gain if side > 0 else loss + gain < best


def _if_switched_on(waited: int, patience: int) -> bool:
    return 0 < patience <= waited


_IGNITE = "0.5.5"
_SKLEARN = "1.9.1"
_LIGHTNING = "2.6.6"

DIALECTS = {
    "keras": Dialect(
        "3.15.1", _below_rounded, patience=0, first_counts=True, has_baseline=True,
    ),
    "lightning": Dialect(
        _LIGHTNING, _below_tensor, patience=3, ends_at_non_finite=True, keeps_best=False,
    ),
    "lightning_unchecked": Dialect(  # check_finite=False
        _LIGHTNING, _below_tensor, patience=3, keeps_best=False,
    ),
    "hf": Dialect(
        "5.23.0", _further_than, patience=1, first_counts=True, moves_when_accepted=False, moves_when_lower=True,
        judges_improvements=True,
    ),
    "ignite": Dialect(
        _IGNITE, _unless_at_or_over, _unless_at_or_over_share, least_patience=1, first_counts=True,
        moves_when_lower=True, keeps_best=False,
    ),
    "ignite_cumulative": Dialect(  # cumulative=True
        _IGNITE, _unless_at_or_over, _unless_at_or_over_share, least_patience=1, first_counts=True, keeps_best=False,
    ),
    "skorch": Dialect(
        "1.4.0", _below, _below_share, patience=5, min_delta=1e-4, relative=True, used_up=operator.eq,
        judges_improvements=True,
    ),
    "sklearn_mlp": Dialect(
        _SKLEARN, _unless_over, patience=10, min_delta=1e-4, least_patience=1, moves_when_accepted=False,
        moves_when_lower=True, used_up=operator.gt,
    ),
    "sklearn_hgb": Dialect(
        _SKLEARN, _below, patience=10, min_delta=1e-7, least_patience=1, window=True, keeps_best=False,
    ),
    "xgboost": Dialect(
        "3.2.0", _below_unevenly, first_counts=True, judges_improvements=True, sided=True,
    ),
    "lightgbm": Dialect(
        "4.7.0", _below, first_counts=True, used_up=_if_switched_on,
    ),
}  # fmt: skip
