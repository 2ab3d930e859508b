"""Lower the rate when the loss has stopped falling."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple, final

from foretell.lr import AdaptiveRate
from foretell.lr._formulas import improves, require, require_rate, require_shape

__all__ = ["Plateau"]


class _Counting(NamedTuple):
    """How a library counts: the checks that are borne beyond `patience`, and whether a pause's last check counts."""

    borne: int
    last_of_pause_counts: bool


_DIALECTS = {"torch": _Counting(1, False), "optax": _Counting(0, False), "keras": _Counting(0, True)}


@final
@dataclass(frozen=True)
class Plateau(AdaptiveRate):
    """Multiplies the rate by `factor` after too many checks without an improvement. Signal: a loss, lower is better.

    For a score that is to grow, give its negative. NaN and infinity are never an improvement and never the best, and a
    relative threshold is a share of the best loss's magnitude, so that negative losses are judged like positive ones.

    Args:
        lr: the first rate, > 0.
        factor: what remains of the rate after a fall, in (0, 1).
        patience: checks without improvement that are borne, >= 0; >= 1 but for "torch".
        threshold: smallest gain that counts, >= 0.
        relative: whether `threshold` is a share of the best loss's magnitude, else it is in its units.
        cooldown: checks after a fall that do not count, >= 0.
        min_lr: the rate falls no further, >= 0.
        dialect: how checks are counted. "torch": the rate falls when *more* than `patience` checks were no improvement.
            "optax": at the `patience`-th. "keras": at the `patience`-th, and the last check of a cooldown counts again.

    Source: PyTorch's and Keras' ReduceLROnPlateau, optax' contrib.reduce_on_plateau.
    """

    lr: float
    factor: float = 0.1
    _: KW_ONLY
    patience: int = 10
    threshold: float = 1e-4
    relative: bool = True
    cooldown: int = 0
    min_lr: float = 0.0
    dialect: str = "torch"

    def __post_init__(self) -> None:
        require_rate("Plateau", lr=self.lr, min_lr=self.min_lr)
        require(0 < self.factor < 1, f"Plateau(factor={self.factor}) must lie between 0 and 1.")
        require_shape("Plateau(dialect=...)", self.dialect, _DIALECTS)
        least = 1 - _DIALECTS[self.dialect].borne
        require(
            isinstance(self.patience, int) and self.patience >= least,
            f"Plateau(patience={self.patience!r}) must be a whole number of checks, {least} or more.",
        )
        require(
            math.isfinite(self.threshold) and self.threshold >= 0,
            f"Plateau(threshold={self.threshold}) must be a finite number, 0 or more.",
        )
        require(
            isinstance(self.cooldown, int) and self.cooldown >= 0,
            f"Plateau(cooldown={self.cooldown!r}) must be a whole number of checks, 0 or more.",
        )

    def init(self) -> dict[str, Any]:
        """The first rate, and nothing seen."""
        return {"lr": self.lr, "best": None, "waited": 0, "pause": 0}

    def update(self, state: dict[str, Any], signal: float) -> dict[str, Any]:
        """One more check of the loss."""
        lr, best, waited, pause = state["lr"], state["best"], state["waited"], state["pause"]
        counting = _DIALECTS[self.dialect]
        improved = improves(signal, best, self.threshold, self.relative)
        resting = pause > (1 if counting.last_of_pause_counts else 0)
        pause = max(pause - 1, 0)
        waited = 0 if improved or resting else waited + 1
        if waited >= self.patience + counting.borne and waited:
            # A rate under the floor to begin with is left where it is: this rule only ever lowers.
            lr, waited, pause = min(lr, max(lr * self.factor, self.min_lr)), 0, self.cooldown
        return {"lr": lr, "best": signal if improved else best, "waited": waited, "pause": pause}

    def rate(self, state: dict[str, Any]) -> float:
        """The rate as it has been lowered so far."""
        return float(state["lr"])
