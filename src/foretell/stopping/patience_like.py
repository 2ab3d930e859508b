"""Patience as another library counts it, tie for tie and NaN for NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, final

from foretell.curve import Curve, Report
from foretell.errors import did_you_mean
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._dialects import DIALECTS, Dialect, Improves, is_finite_single
from foretell.trial import CONTINUE, Verdict

__all__ = ["PatienceLike"]


@final
@dataclass(frozen=True)
class PatienceLike(StoppingRule):
    """Stops at the check at which the early stopping of another library would.

    The dialects, with the version of the library that each reproduces: `keras` 3.15.1, `lightning` and
    `lightning_unchecked` (check_finite=False) 2.6.6, `hf` (transformers) 5.23.0, `ignite` and `ignite_cumulative`
    0.5.5, `skorch` 1.4.0, `sklearn_mlp` and `sklearn_hgb` 1.9.1, `xgboost` 3.2.0, `lightgbm` 4.7.0. A setting that is
    left out takes the library's default. `evidence["best_step"]` of the verdict is the best step of a library that
    keeps one; the weights that a `Run` restores are those of the best finite value, whatever a dialect makes of NaN.

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
    _engine: Dialect = field(init=False, repr=False, compare=False)
    _improves: Improves = field(init=False, repr=False, compare=False)

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
        # Found once, because a check must cost next to nothing.
        object.__setattr__(self, "_engine", dialect)
        object.__setattr__(self, "_improves", (self.relative and dialect.improves_relative) or dialect.improves)

    def init(self) -> list[dict[str, Any]]:
        """Nothing seen. Where losses and scores are treated differently, one count for each."""
        fold: dict[str, Any] = {"best": None, "best_step": None, "waited": 0, "over": False}
        if self._engine.window:
            fold["window"] = []
        # A fold does not know whether the metric is a loss or a score; where that matters, both are counted.
        sided = self.relative or self.baseline is not None or (self._engine.sided and self.min_delta)
        return [fold, fold] if sided else [fold]

    def update(self, state: list[dict[str, Any]], point: Report) -> list[dict[str, Any]]:
        """One check more, as the library takes it."""
        advance = self._slide if self._engine.window else self._advance
        if len(state) == 1:
            return [advance(state[0], point, 1)]
        return [advance(state[0], point, 1), advance(state[1], point, -1)]

    def check(self, curve: Curve, state: list[dict[str, Any]], context: RunContext) -> Verdict:
        """Stop where the library would."""
        point, objective = curve.last, context.objective
        fold = state[-1 if objective.maximizes else 0]
        if not fold["over"]:
            return CONTINUE
        best, value = fold["best"], objective.value(point.loss)
        limit = None if best is None else objective.value(float(best))
        reason = f"{objective.metric} {self._says(value, limit, fold['waited'])}"
        evidence = {"waited": fold["waited"]}
        if self._engine.keeps_best:
            evidence["best_step"] = fold["best_step"]
        reason = f"{reason}, at epoch {point.step} (as {self.dialect} counts)"
        return Verdict("stop", "patience_like", reason, step=point.step, value=value, limit=limit, evidence=evidence)

    def _says(self, value: float, limit: float | None, waited: int) -> str:
        if self._engine.ends_at_non_finite and not is_finite_single(value):
            return f"is {value:.4g}, which is not finite"
        if waited == 0:
            return "has a patience of 0 checks, which is used up"
        checks = "1 check" if waited == 1 else f"{waited} checks"
        if limit is None or math.isinf(limit):
            return f"has had no value that counts for {checks}"
        margin = f" by more than {self.min_delta:g}{' of it' if self.relative else ''}" if self.min_delta else ""
        return f"has not beaten {limit:.4g}{margin} for {checks}"

    def _advance(self, fold: dict[str, Any], point: Report, side: int) -> dict[str, Any]:
        engine, loss, gain, best = self._engine, point.loss, self.min_delta, fold["best"]
        assert gain is not None and self.patience is not None
        if engine.ends_at_non_finite and not is_finite_single(loss):
            return {**fold, "over": True}
        first, improves = best is None, self._improves
        reference = math.inf if first else float(best)
        accepted = (first and engine.first_counts) or improves(loss, reference, gain, side)
        moved = (accepted and engine.moves_when_accepted) or (engine.moves_when_lower and loss < reference)
        restarts = accepted and (self.baseline is None or improves(loss, side * self.baseline, gain, side))
        waited = 0 if restarts else fold["waited"] + 1
        return {
            "best": _plain(loss) if moved else "inf" if first else best,
            "best_step": point.step if moved else fold["best_step"],
            "waited": waited,
            "over": (not accepted or engine.judges_improvements) and engine.used_up(waited, self.patience),
        }

    def _slide(self, fold: dict[str, Any], point: Report, side: int) -> dict[str, Any]:
        gain, patience, improves = self.min_delta, self.patience, self._improves
        assert gain is not None and patience is not None
        window = [*fold["window"][-patience:], _plain(point.loss)]
        over, reference = len(window) > patience, float(window[0])
        if over:
            for loss in window[1:]:
                if improves(float(loss), reference, gain, side):
                    over = False
                    break
        return {"best": window[0], "best_step": None, "waited": len(window) - 1, "over": over, "window": window}


def _plain(number: float) -> float | str:
    """JSON has no word for NaN and infinity, but `float` reads theirs."""
    return number if math.isfinite(number) else str(number)
