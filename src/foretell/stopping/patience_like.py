"""Patience as another library counts it, tie for tie and NaN for NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

from foretell.curve import Curve, Point
from foretell.errors import did_you_mean
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._dialects import DIALECTS, Improves
from foretell.trial import CONTINUE, Verdict

__all__ = ["PatienceLike"]


@final
@dataclass(frozen=True)
class PatienceLike(StoppingRule):
    """Stops at the check at which the early stopping of another library would.

    The dialects, with the version of the library that each reproduces: `keras` 3.15.1, `lightning` and
    `lightning_unchecked` (check_finite=False) 2.6.6, `hf` (transformers) 5.23.0, `ignite` and `ignite_cumulative`
    0.5.5, `skorch` 1.4.0, `sklearn_mlp` and `sklearn_hgb` 1.9.1, `xgboost` 3.2.0, `lightgbm` 4.7.0. What is left out
    takes the library's default. `evidence["best_step"]` of the verdict is the best step of a library that keeps one; the weights that a
    `Run` restores are those of the best finite value, whatever a dialect thinks of NaN.

    Args:
        dialect: name of the dialect.
        patience: checks without improvement that are borne; 0 is what the library makes of it.
        min_delta: smallest gain that counts, >= 0, in the units of the metric.
        relative: whether `min_delta` is a share of the reference; of its value, sign included, as those libraries do.
        baseline: value to be beaten before the count restarts, in the units of the metric; `keras` alone.

    Raises:
        ValueError: an unknown dialect, or a setting that the library does not have or refuses.
    """

    dialect: str
    patience: int | None = None
    min_delta: float | None = None
    relative: bool | None = None
    baseline: float | None = None

    def __post_init__(self) -> None:
        if self.dialect not in DIALECTS:
            raise ValueError(
                f"There is no dialect {self.dialect!r} of patience. {did_you_mean(self.dialect, DIALECTS)}"
            )
        dialect = DIALECTS[self.dialect]
        for name in ("patience", "min_delta", "relative"):  # so that two spellings of the same settings are equal
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(dialect, name))
        if not isinstance(self.patience, int) or self.patience < dialect.least_patience:
            raise ValueError(
                f"PatienceLike({self.dialect!r}, patience={self.patience!r}): {self.dialect} needs a whole number of "
                f"checks, {dialect.least_patience} or more."
            )
        if self.min_delta is None or not (math.isfinite(self.min_delta) and self.min_delta >= 0):
            raise ValueError(f"PatienceLike(min_delta={self.min_delta}) must be a finite number, 0 or more.")
        if self.relative and dialect.improves_relative is None:
            known = ", ".join(name for name, entry in DIALECTS.items() if entry.improves_relative)
            raise ValueError(f"{self.dialect} has no relative minimum gain; these have: {known}. Leave relative out.")
        if self.baseline is not None and not dialect.has_baseline:
            raise ValueError(f"{self.dialect} has no baseline, only keras has: leave it out, or use ft.Patience.")

    def init(self) -> list[dict[str, Any]]:
        """Nothing seen. Where losses and scores are treated differently, one count for each."""
        fold: dict[str, Any] = {"best": None, "best_step": None, "waited": 0, "over": False}
        if DIALECTS[self.dialect].window:
            fold["window"] = []
        return [fold] * len(self._sides())

    def update(self, state: list[dict[str, Any]], point: Point) -> list[dict[str, Any]]:
        """One check more, as the library takes it."""
        advance = self._slide if DIALECTS[self.dialect].window else self._advance
        return [advance(fold, point, side) for fold, side in zip(state, self._sides(), strict=True)]

    def check(self, curve: Curve, state: list[dict[str, Any]], context: RunContext) -> Verdict:
        """Stop where the library would."""
        point, objective = curve.last, context.objective
        fold = state[-1 if objective.maximizes else 0]
        if not fold["over"]:
            return CONTINUE
        best, value = fold["best"], objective.value(point.loss)
        limit = None if best is None else objective.value(float(best))
        reason = self._reason(f"{objective.metric} {{}}", value, limit, fold["waited"])
        evidence = {"waited": fold["waited"]}
        if DIALECTS[self.dialect].keeps_best:
            evidence["best_step"] = fold["best_step"]
        reason = f"{reason}, at epoch {point.step} (as {self.dialect} counts)"
        return Verdict("stop", "patience_like", reason, step=point.step, value=value, limit=limit, evidence=evidence)

    def _reason(self, sentence: str, value: float, limit: float | None, waited: int) -> str:
        if DIALECTS[self.dialect].ends_at_non_finite and not math.isfinite(value):
            return sentence.format(f"is {value}")
        if waited == 0:
            return sentence.format("has a patience of 0 checks, which is used up")
        checks = "1 check" if waited == 1 else f"{waited} checks"
        if limit is None or math.isinf(limit):
            return sentence.format(f"has had no value that counts for {checks}")
        margin = f" by more than {self.min_delta:g}{' of it' if self.relative else ''}" if self.min_delta else ""
        return sentence.format(f"has not beaten {limit:.4g}{margin} for {checks}")

    def _sides(self) -> tuple[int, ...]:
        # A fold does not know whether the metric is a loss or a score; where that matters, both are counted.
        sided = self.relative or self.baseline is not None or DIALECTS[self.dialect].sided
        return (1, -1) if sided else (1,)

    def _advance(self, fold: dict[str, Any], point: Point, side: int) -> dict[str, Any]:
        dialect, loss, gain = DIALECTS[self.dialect], point.loss, self.min_delta
        assert gain is not None and self.patience is not None
        if dialect.ends_at_non_finite and not math.isfinite(loss):
            return {**fold, "over": True}
        best = math.inf if fold["best"] is None else float(fold["best"])
        improves = self._improves()
        accepted = (dialect.first_counts and fold["best"] is None) or improves(loss, best, gain, side)
        moved = (accepted and dialect.moves_when_accepted) or (dialect.moves_when_lower and loss < best)
        restarts = accepted and (self.baseline is None or improves(loss, side * self.baseline, gain, side))
        waited = 0 if restarts else fold["waited"] + 1
        return {
            "best": _plain(loss if moved else best),
            "best_step": point.step if moved else fold["best_step"],
            "waited": waited,
            "over": (dialect.judges_improvements or not accepted) and dialect.used_up(waited, self.patience),
        }

    def _slide(self, fold: dict[str, Any], point: Point, side: int) -> dict[str, Any]:
        assert self.min_delta is not None and self.patience is not None
        window = [*fold["window"][-self.patience :], _plain(point.loss)]
        reference, gain, improves = float(window[0]), self.min_delta, self._improves()
        full = len(window) > self.patience
        over = full and not any(improves(float(loss), reference, gain, side) for loss in window[1:])
        return {"best": window[0], "best_step": None, "waited": len(window) - 1, "over": over, "window": window}

    def _improves(self) -> Improves:
        dialect = DIALECTS[self.dialect]
        return dialect.improves_relative if self.relative and dialect.improves_relative else dialect.improves


def _plain(number: float) -> float | str:
    """JSON has no word for NaN and infinity, but `float` reads theirs."""
    return number if math.isfinite(number) else str(number)
