"""Raise the rate while the loss falls, and lower it when it does not."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, final

from foretell.lr import AdaptiveRate
from foretell.lr._formulas import improves, require, require_rate

__all__ = ["Greedy"]


@final
@dataclass(frozen=True)
class Greedy(AdaptiveRate):
    """Divides the rate by `factor` after good checks in a row, multiplies it after bad ones. Signal: a loss.

    For a score that is to grow, give its negative. NaN and infinity are bad checks and do not enter the mean.

    Args:
        lr: the first rate, > 0.
        max_lr: the rate rises no further, >= lr. It has no default: a rate that may rise needs a limit that you chose,
            such as the end of the valley in a range test.
        min_lr: the rate falls no further, >= 0.
        factor: in (0, 1).
        patience: the rate moves when *more* than so many checks in a row were good, or bad; >= 0.
        threshold: smallest gain that makes a check good, >= 0, in the units of the loss.
        cooldown: checks after a move that are not looked at, >= 0.
        window: the mean of so many last losses is judged, >= 1.
        reset: after so many falls that the floor did not allow, everything starts anew at `lr`; None: never.

    Source: Subramanian and Ganapathiraman, Zeroth Order GreedyLR, 2023; transformers' GreedyLR.
    """

    lr: float
    max_lr: float
    _: KW_ONLY
    min_lr: float = 0.0
    factor: float = 0.95
    patience: int = 10
    threshold: float = 1e-6
    cooldown: int = 0
    window: int = 1
    reset: int | None = None

    def __post_init__(self) -> None:
        require_rate("Greedy", lr=self.lr, max_lr=self.max_lr, min_lr=self.min_lr)
        require(
            self.min_lr <= self.lr <= self.max_lr,
            f"Greedy(lr={self.lr}) must lie between min_lr={self.min_lr} and max_lr={self.max_lr}.",
        )
        require(0 < self.factor < 1, f"Greedy(factor={self.factor}) must lie between 0 and 1.")
        require(
            math.isfinite(self.threshold) and self.threshold >= 0,
            f"Greedy(threshold={self.threshold}) must be a finite number, 0 or more.",
        )
        for name, least in (("patience", 0), ("cooldown", 0), ("window", 1), ("reset", 1)):
            value = getattr(self, name)
            allowed = (value is None and name == "reset") or (isinstance(value, int) and value >= least)
            require(allowed, f"Greedy({name}={value!r}) must be a whole number of checks, {least} or more.")

    def init(self) -> dict[str, Any]:
        """The first rate, and nothing seen."""
        return {"lr": self.lr, "best": None, "good": 0, "bad": 0, "pause": 0, "floored": 0, "window": []}

    def update(self, state: dict[str, Any], signal: float) -> dict[str, Any]:
        """One more check of the loss."""
        window = [*state["window"], signal][-self.window :] if math.isfinite(signal) else state["window"]
        loss = math.fsum(window) / len(window) if math.isfinite(signal) else signal
        seen = {**state, "window": window}
        if state["pause"] > 0:
            return {**seen, "good": 0, "bad": 0, "pause": state["pause"] - 1}
        if improves(loss, state["best"], self.threshold, relative=False):
            good = {**seen, "best": loss, "good": state["good"] + 1, "bad": 0}
            return self._raised(good) if good["good"] > self.patience else good
        bad = {**seen, "good": 0, "bad": state["bad"] + 1}
        return self._lowered(bad) if bad["bad"] > self.patience else bad

    def rate(self, state: dict[str, Any]) -> float:
        """The rate where it has been moved so far."""
        return float(state["lr"])

    def _raised(self, state: dict[str, Any]) -> dict[str, Any]:
        lr = min(state["lr"] / self.factor, self.max_lr)
        return {**state, "lr": lr, "good": 0, "pause": self.cooldown, "floored": 0}

    def _lowered(self, state: dict[str, Any]) -> dict[str, Any]:
        lr = max(state["lr"] * self.factor, self.min_lr)
        floored = state["floored"] + 1 if lr <= self.min_lr else state["floored"]
        if self.reset is not None and floored >= self.reset:
            return {**self.init(), "pause": self.cooldown}
        return {**state, "lr": lr, "bad": 0, "pause": self.cooldown, "floored": floored}
