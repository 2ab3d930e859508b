"""Stop at a target that was learned from data, and that knows how well it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from foretell.curve import Curve
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["CalibratedThreshold"]


@final
@dataclass(frozen=True)
class CalibratedThreshold(StoppingRule):
    """Goal reached, with a limit that is a quantile of measured values. Made by `of_losses`, `of_scores` or `of_folds`.

    The interval holds whatever the distribution: it lies between two of the sorted values, and the number of values
    under the true quantile is binomial. It is never narrower than stated; with ties it may be wider than need be.

    Args:
        limit: the quantile of the sample, in the units of the metric, finite.
        lower: lower end of the interval of the quantile, at or under the limit.
        upper: upper end, at or over the limit.
        sample_size: values that were measured.
        quantile: share of the values at or under the limit, in (0, 1).
        confidence: of the interval, in (0, 1).

    Source: David and Nagaraja, Order Statistics, 3rd edition, 2003, section 7.1.
    """

    limit: float
    lower: float
    upper: float
    sample_size: int
    quantile: float = 0.95
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _require_share("quantile", self.quantile)
        _require_share("confidence", self.confidence)
        if not (math.isfinite(self.limit) and self.lower <= self.limit <= self.upper):
            raise ValueError(
                f"CalibratedThreshold(limit={self.limit}) must be finite and in [{self.lower}, {self.upper}]: make it "
                "with CalibratedThreshold.of_losses(losses)."
            )

    @classmethod
    def of_losses(
        cls, losses: Sequence[float] | NDArray[Any], quantile: float = 0.95, confidence: float = 0.95
    ) -> CalibratedThreshold:
        """The value at or under which a share of the losses lies, e.g. of a good model, sample by sample.

        Args:
            losses: (n,) finite, drawn independently; enough of them for the quantile, else the error says how many.
            quantile: share of the losses at or under the limit, in (0, 1).
            confidence: of the interval, in (0, 1).

        Raises:
            ValueError: too few values, or values that are not finite.
        """
        _require_share("quantile", quantile)
        _require_share("confidence", confidence)
        values = np.sort(np.asarray(losses, dtype=float).ravel())
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise ValueError(f"{bad} of {values.size} values are not finite: mend or drop them before you calibrate.")
        tail = (1 - confidence) / 2
        needed = math.ceil(math.log(tail) / math.log(max(quantile, 1 - quantile)))
        if values.size < needed:
            raise ValueError(
                f"{values.size} values are too few for the {quantile:g} quantile with {confidence:g} confidence: "
                f"{needed} are needed. Measure more, or ask for a quantile nearer to the median or less confidence."
            )
        low, high = _ranks(values.size, quantile, tail)
        limit = values[math.ceil(values.size * quantile - 1e-9) - 1]
        return cls(float(limit), float(values[low]), float(values[high]), values.size, quantile, confidence)

    @classmethod
    def of_scores(
        cls, scores: Sequence[float] | NDArray[Any], quantile: float = 0.95, confidence: float = 0.95
    ) -> CalibratedThreshold:
        """The value at or over which a share of the scores lies: `of_losses` for a metric that is maximised."""
        mirror = cls.of_losses(-np.asarray(scores, dtype=float), quantile, confidence)
        return cls(-mirror.limit, -mirror.upper, -mirror.lower, mirror.sample_size, 1 - quantile, confidence)

    @classmethod
    def of_folds(
        cls, values: Sequence[float] | NDArray[Any], quantile: float = 0.5, confidence: float = 0.95
    ) -> CalibratedThreshold:
        """The level that a cross-validation reached: the median, or another quantile, of one value for each fold.

        Folds share training data, so the interval is a little too narrow; repeated cross-validation does not mend that.

        Args:
            values: (k,) the final value of each fold, losses or scores; 6 or more for the median at 95 % confidence.
            quantile: share of the folds at or under the limit, in (0, 1).
            confidence: of the interval, in (0, 1).
        """
        return cls.of_losses(values, quantile, confidence)

    def __str__(self) -> str:
        name = "median" if self.quantile == 0.5 else f"{100 * self.quantile:.4g} % quantile"
        interval = f"{100 * self.confidence:.4g} % interval {self.lower:.4g} to {self.upper:.4g}"
        return f"{self.limit:.4g}, the {name} of {self.sample_size} values ({interval})"

    def check(self, curve: Curve, state: None, context: RunContext) -> Verdict:
        """Stop at the first point that reaches the limit; NaN never does."""
        point, objective = curve.last, context.objective
        if not point.loss <= objective.loss(self.limit):
            return CONTINUE
        value = objective.value(point.loss)
        reason = f"{objective.metric} {value:.4g} reached {self} at epoch {point.step}"
        evidence = {name: getattr(self, name) for name in ("lower", "upper", "sample_size", "quantile", "confidence")}
        return Verdict(
            "stop", "calibrated_threshold", reason, step=point.step, value=value, limit=self.limit, evidence=evidence
        )


def _ranks(size: int, quantile: float, tail: float) -> tuple[int, int]:
    """Indices of the sorted values between which the quantile lies but for `tail` on either side."""
    from scipy.special import bdtr  # noqa: PLC0415 - SciPy loads on first use

    under = bdtr(np.arange(size), size, quantile)  # P(at most i values are under the quantile)
    low = int(np.searchsorted(under, tail, side="right")) - 1
    high = int(np.searchsorted(under, 1 - tail, side="left"))
    return low, high


def _require_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise ValueError(f"{name}={share} is no share: give a number between 0 and 1, e.g. 0.95.")
