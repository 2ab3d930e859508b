"""A rate that is the smaller, the larger the gradient: of this batch, or of all batches so far."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

from foretell.lr import AdaptiveRate
from foretell.lr._formulas import require, require_shape

__all__ = ["GradientNorm"]


@final
@dataclass(frozen=True)
class GradientNorm(AdaptiveRate):
    """`beta / (1 + gamma * S / beta**2) ** power`. Signal: the squared norm of the gradient about to be applied.

    S is the signal itself (`reading="batch"`) or the sum of all signals so far, this one included ("accumulated").

    *Batch.* With power 1 no step is longer than `beta**2 / (2 * sqrt(gamma))`, and its length falls as `1 / |g|` for
    large gradients: a soft form of clipping. Near a minimum the rate is `beta`, so with noisy gradients it needs a
    decay beside it, as plain gradient descent does.

    *Accumulated.* The rate never rises and needs no decay. With `power=0.5` it is AdaGrad-norm,
    `eta / sqrt(b0**2 + S)` for `eta = beta**2 / sqrt(gamma)` and `b0 = beta / sqrt(gamma)`: it converges to a critical
    point of a smooth loss without knowing how smooth, with noise and without. Powers above 0.5 and up to 1 are the
    generalisation of Li and Orabona, whose sum leaves the newest gradient out; 1, the default, is the formula as it
    stands, and falls as fast as 1 / steps where gradients are noisy.

    With `gamma=0` the rate is `beta`. If the gradients and `beta` grow by one factor, so does the rate. A signal that
    is not finite (an overflow, whose step is not made) changes nothing.

    Args:
        beta: the rate at a gradient of 0, > 0.
        gamma: >= 0.
        reading: "batch" or "accumulated".
        power: > 0.

    Source: Ward, Wu and Bottou, AdaGrad Stepsizes, 2019 (accumulated, power 0.5); Li and Orabona, On the Convergence of
    Stochastic Gradient Descent with Adaptive Stepsizes, 2019 (accumulated, power in (0.5, 1]).
    """

    beta: float
    gamma: float = 1.0
    _: KW_ONLY
    reading: str = "batch"
    power: float = 1.0

    def __post_init__(self) -> None:
        require(math.isfinite(self.beta) and self.beta > 0, f"GradientNorm(beta={self.beta}) must be a rate above 0.")
        require(math.isfinite(self.gamma) and self.gamma >= 0, f"GradientNorm(gamma={self.gamma}) must be 0 or more.")
        require(math.isfinite(self.power) and self.power > 0, f"GradientNorm(power={self.power}) must be above 0.")
        require_shape("GradientNorm(reading=...)", self.reading, ("batch", "accumulated"))

    def init(self) -> dict[str, Any]:
        """No gradient seen."""
        return {"squares": 0.0}

    def update(self, state: dict[str, Any], signal: float) -> dict[str, Any]:
        """One more gradient, by its squared norm."""
        if not math.isfinite(signal):
            return state
        return {"squares": signal + (state["squares"] if self.reading == "accumulated" else 0.0)}

    def rate(self, state: dict[str, Any]) -> float:
        """The rate for the gradient that was seen last."""
        return self.beta / math.pow(1 + self.gamma * float(state["squares"]) / self.beta**2, self.power)
