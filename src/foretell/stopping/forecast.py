"""Stop when the curve's own forecast leaves hardly a chance of anything better."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from foretell import _family
from foretell.curve import Curve
from foretell.curve_models import CurveModel
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import CONTINUE, Verdict

__all__ = ["Forecast"]

_DOUBT = 0.01  # either side: where a forecast from half of the curve leaves what has come, the model is not believed


@final
@dataclass(frozen=True)
class Forecast(StoppingRule):
    """Stops when the probability that the run will yet beat its best, or a mark, is small.

    It abstains without a horizon (a loop without `run.epochs`), before `min_points`, and where the model has shown that
    it does not understand the run: from the first half of the curve it did not foresee the newest point. A check takes
    about half a millisecond, so put a rule for steps that are shorter inside `ft.every`.

    Args:
        chance: probability under which it stops, in (0, 1).
        delta: least improvement that counts, in the units of the metric, >= 0.
        beat: the mark, in the units of the metric, e.g. the best of other runs; None for the run's own best.
        min_points: finite values before the first judgement, >= 2.
        model: a curve model that foretells the lowest loss to come; None takes the mixture of experts.

    Source: Domhan, Springenberg and Hutter, Speeding Up Automatic Hyperparameter Optimization of Deep Neural Networks
        by Extrapolation of Learning Curves, IJCAI 2015, section 3.3.
    """

    chance: float = 0.05
    delta: float = 0.0
    beat: float | None = None
    min_points: int = 4
    model: CurveModel | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.chance < 1.0:
            raise ValueError(f"Forecast(chance={self.chance}) is no probability: use a number between 0 and 1.")
        if not (self.delta >= 0.0 and math.isfinite(self.delta)):
            raise ValueError(f"Forecast(delta={self.delta}) is no improvement: use 0 or more.")
        if self.min_points < 2:
            raise ValueError(f"Forecast(min_points={self.min_points}) has no curve to look at: use 2 or more.")

    def check(self, curve: Curve, state: Any, context: RunContext) -> Verdict:
        """Stop if hardly anything can be gained until the horizon."""
        horizon, point = context.horizon, curve.last
        if horizon is None or point.step >= horizon or not math.isfinite(point.loss) or len(curve) < self.min_points:
            return CONTINUE
        objective = context.objective
        mark = curve.best if self.beat is None else objective.loss(self.beat)
        model: CurveModel = self.model or _family.load("curve_models", "mixture")("best")
        left = float(model.alone(curve, horizon).below(mark - self.delta)[0])
        if left >= self.chance or not self._understood(model, curve):
            return CONTINUE
        by = f" by {self.delta:g}" if self.delta else ""
        reason = (
            f"the chance that {objective.metric} still beats {objective.value(mark):.4g}{by} until epoch {horizon} is "
            f"{left:.1%}, foretold at epoch {point.step}"
        )
        return Verdict("stop", "forecast", reason, step=point.step, value=left, limit=self.chance)

    def _understood(self, model: CurveModel, curve: Curve) -> bool:
        """Whether the model, shown half of the curve, would have thought its lowest loss since then possible."""
        middle = len(curve) // 2
        half, since = curve.truncate(curve[middle - 1].step), curve.losses[middle:]
        if not math.isfinite(half.best):
            return False
        lowest = float(since[np.isfinite(since)].min())
        expected = float(model.alone(half, curve.last.step).below(lowest)[0])
        return _DOUBT < expected < 1.0 - _DOUBT
