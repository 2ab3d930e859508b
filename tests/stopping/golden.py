"""Sequences of losses, and what the early stopping of each library makes of them.

`EXPECTED` was recorded from the living libraries at the versions of `PatienceLike`; "ours" was reasoned by hand. Its
columns are those of `COLUMNS`, each the index of the stop and, where the library keeps one, of the best value: `4,2`.
`–`: it never stops. `off`: the setting switches early stopping off. `no`: the library refuses the setting. `·`: it has
no such setting. Run `python -m tests.stopping.golden` to print what `docs/stopping.md` shows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from foretell.curve import Curve, Point
from foretell.objective import Objective
from foretell.stopping import RunContext, StoppingRule, after
from foretell.stopping._dialects import DIALECTS
from foretell.stopping.calibrated_threshold import CalibratedThreshold
from foretell.stopping.divergence import Divergence
from foretell.stopping.epoch_limit import EpochLimit
from foretell.stopping.generalization_loss import GeneralizationLoss
from foretell.stopping.goal_reached import GoalReached
from foretell.stopping.hopeless import Hopeless
from foretell.stopping.patience import Patience
from foretell.stopping.patience_like import PatienceLike
from foretell.stopping.progress_quotient import ProgressQuotient
from foretell.stopping.relative_change import RelativeChange
from foretell.stopping.successive_increases import SuccessiveIncreases
from foretell.stopping.threshold import Threshold
from foretell.stopping.time_limit import TimeLimit
from foretell.trial import CONTINUE

NAN, INF = math.nan, math.inf
COLUMNS = ["ours", *DIALECTS]
SHOWN = 9  # the rows of the page
Pair = tuple[int | None, int | None]


class Case(NamedTuple):
    """One sequence with its settings; `relative` is for those who know it (skorch by default)."""

    name: str
    losses: list[float]
    patience: int
    min_delta: float = 0.0
    relative: bool = False
    baseline: float | None = None


CASES = [
    Case("10 9 8 9 8.9 8.8 …", [10, 9, 8, 9, 8.9, 8.8, 8.7, 8.6], 2),
    Case("5 4 3 2 1", [5, 4, 3, 2, 1], 0),
    Case("gains of .01, minimum .05", [1 - i / 100 for i in range(40)], 6, 0.05),
    Case("NaN 5 4 3 2 1 …", [NAN, 5, 4, 3, 2, 1, 0.5, 0.25], 3),
    Case("5 4 NaN 3 2 1 1 1 …", [5, 4, NAN, 3, 2, 1, 1, 1, 1, 1], 3),
    Case("5 4 then NaN for ever", [5, 4, *[NAN] * 8], 3),
    Case("constant 1.0", [1.0] * 10, 3),
    Case("-10, rising to -8.6, minimum .1", [-10 + i / 5 for i in range(8)], 3, 0.1),
    Case("-10, rising to -8.6, minimum a tenth", [-10 + i / 5 for i in range(8)], 3, 0.1, True),
    Case("10, falling by a sixteenth, minimum a tenth", [10 - i / 16 for i in range(30)], 4, 0.1, True),
    Case("scores near zero, minimum a tenth", [-0.5, -0.25, -0.125, 0, 0.25, 0.5, 0.25, 0], 2, 0.1, True),
    Case("all NaN", [NAN] * 6, 2),
    Case("infinite, then good", [INF, INF, INF, 3, 2, 1], 2),
    Case("good, then infinite", [3, 2, INF, INF, INF, INF], 2),
    Case("minus infinity first", [-INF, 3, 2, 1, 0, -1], 3),
    Case("NaN first, patience 0", [NAN, 2, 1, 1], 0),
    Case("patience 0, a tie", [2, 2, 1], 0),
    Case("patience 1, a tie", [2, 2, 1], 1),
    Case("ties of the best", [3, 2, 2.5, 2, 2.5, 2, 2.5, 2], 4),
    Case("gain equal to the minimum", [4, 3.75, 3.5, 3.25, 3, 2.75, 2.5, 2.25], 2, 0.25),
    Case("gain just over the minimum", [4, 3.5, 3, 2.5, 2, 1.5, 1, 0.5], 2, 0.25),
    Case("gains under the precision of float32", [1 - i * 1e-9 for i in range(8)], 3),
    Case("decimals, 1.6 to 0.9, minimum .7", [1.6, 0.9], 1, 0.7),
    Case("decimals, 0.8 to 0.5, minimum .3", [0.8, 0.5], 1, 0.3),
    Case("decimals, 0.9 to 0.2, minimum .7", [0.9, 0.2], 1, 0.7),
    Case("two of three gains are lost", [4, 4.5, 4.25, 3.5, 4.5, 4.25, 3, 4.5, 4.25, 3.75, 4], 3),
    Case("NaN between equals", [2, NAN, 2, NAN, 2, NAN, 2, NAN], 3),
    Case("NaN resets who lets it", [3, 4, NAN, 4, 4, NAN, 4, 4, 4, 4], 3),
    Case("baseline never reached", [9 - i / 4 for i in range(12)], 3, 0.0, False, 1.0),
    Case("baseline reached late", [4, 3.5, 3, 2.5, 0.5, 1, 1, 1, 1], 3, 0.0, False, 1.0),
    Case("baseline reached, lost", [0.5, 0.75, 0.25, 0.5, 0.5, 0.5], 3, 0.0, False, 1.0),
    Case("baseline just missed", [1.125, 1.0, 1.0, 1.0, 1.0], 2, 0.125, False, 1.0),
    Case("no check at all", [], 3),
    Case("one check", [1.0], 1),
]

# ours keras lightning lightning_unchecked hf ignite ignite_cumulative skorch sklearn_mlp sklearn_hgb xgboost lightgbm
EXPECTED = {
    "10 9 8 9 8.9 8.8 …":                           "4,2  4,2  4 4 4,2 4  4  4,2  5,2  4  4,2  4,2",
    "5 4 3 2 1":                                    "no   –,4  – – 0,0 no no 0,0  no   no 0,0  off",
    "gains of .01, minimum .05":                    "–,39 –,36 – – 6,6 6  –  –,36 7,7  –  –,36 –,36",
    "NaN 5 4 3 2 1 …":                              "–,7  3,0  0 – –,7 –  –  –,7  –,7  3  3,0  3,0",
    "5 4 NaN 3 2 1 1 1 …":                          "8,5  8,5  2 8 8,5 8  8  8,5  –,5  5  8,5  8,5",
    "5 4 then NaN for ever":                        "4,1  4,1  2 4 4,1 –  –  4,1  –,1  4  4,1  4,1",
    "constant 1.0":                                 "3,0  3,0  3 3 3,0 3  3  3,0  –,0  3  3,0  3,0",
    "-10, rising to -8.6, minimum .1":              "3,0  3,0  3 3 3,0 3  3  3,0  4,0  3  3,0  3,0",
    "-10, rising to -8.6, minimum a tenth":         "3,0  ·    · · ·   –  –  –,7  ·    ·  ·    ·",
    "10, falling by a sixteenth, minimum a tenth":  "4,4  ·    · · ·   4  4  4,0  ·    ·  ·    ·",
    "scores near zero, minimum a tenth":            "2,0  ·    · · ·   2  2  2,0  ·    ·  ·    ·",
    "all NaN":                                      "1    2,0  0 1 2   –  –  1    –    2  2,0  2,0",
    "infinite, then good":                          "1    2,0  0 1 2   2  2  1    –,5  2  2,0  2,0",
    "good, then infinite":                          "3,1  3,1  2 3 3,1 3  3  3,1  4,1  3  3,1  3,1",
    "minus infinity first":                         "–,5  3,0  0 3 3,0 3  3  3,0  4,0  3  3,0  3,0",
    "NaN first, patience 0":                        "no   1,0  0 0 0   no no 1,1  no   no 0,0  off",
    "patience 0, a tie":                            "no   1,0  1 1 0,0 no no 0,0  no   no 0,0  off",
    "patience 1, a tie":                            "1,0  1,0  1 1 1,0 1  1  1,0  –,2  1  1,0  1,0",
    "ties of the best":                             "5,1  5,1  5 5 5,1 5  5  5,1  –,1  5  5,1  5,1",
    "gain equal to the minimum":                    "–,7  –,6  – – 2,2 2  –  –,6  –,7  –  –,6  –,6",
    "gain just over the minimum":                   "–,7  –,7  – – –,7 –  –  –,7  –,7  –  –,7  –,7",
    "gains under the precision of float32":         "–,7  3,0  3 3 –,7 –  –  –,7  –,7  –  –,7  –,7",
    "decimals, 1.6 to 0.9, minimum .7":             "–,1  1,0  – – –,1 –  –  –,1  –,1  –  –,1  –,1",
    "decimals, 0.8 to 0.5, minimum .3":             "1,1  1,0  1 1 –,1 1  1  1,0  –,1  1  1,0  1,0",
    "decimals, 0.9 to 0.2, minimum .7":             "–,1  1,0  1 1 1,1 –  –  –,1  –,1  –  –,1  –,1",
    "two of three gains are lost":                  "9,6  9,6  9 9 9,6 9  9  9,6  10,6 9  9,6  9,6",
    "NaN between equals":                           "3,0  3,0  1 3 3,0 –  –  3,0  –,0  3  3,0  3,0",
    "NaN resets who lets it":                       "3,0  3,0  2 3 3,0 9  9  3,0  9,0  3  3,0  3,0",
    "baseline never reached":                       "2,2  –,11 · · ·   ·  ·  ·    ·    ·  ·    ·",
    "baseline reached late":                        "2,2  7,4  · · ·   ·  ·  ·    ·    ·  ·    ·",
    "baseline reached, lost":                       "5,2  5,2  · · ·   ·  ·  ·    ·    ·  ·    ·",
    "baseline just missed":                         "1,1  1,0  · · ·   ·  ·  ·    ·    ·  ·    ·",
    "no check at all":                              "–    –    – – –   –  –  –    –    –  –    –",
    "one check":                                    "–,0  –,0  – – –,0 –  –  –,0  –,0  –  –,0  –,0",
}  # fmt: skip


def rule(dialect: str, case: Case) -> StoppingRule:
    """The dialect with the settings of a case; "ours" is `Patience`."""
    if dialect == "ours":
        return Patience(case.patience, case.min_delta, case.relative, case.baseline)
    return PatienceLike(dialect, case.patience, case.min_delta, case.relative, case.baseline)


def applies(dialect: str, case: Case) -> bool:
    """Whether the library has the settings of a case at all."""
    if dialect == "ours":
        return True
    known = DIALECTS[dialect]
    return not (case.relative and known.improves_relative is None) and (case.baseline is None or known.has_baseline)


def is_off(tested: StoppingRule) -> bool:
    """Whether the library does nothing with this setting, not even remember its best."""
    return isinstance(tested, PatienceLike) and tested.dialect == "lightgbm" and tested.patience == 0


def outcome(tested: StoppingRule, losses: list[float], objective: Objective | None = None) -> Pair:
    """Indices of the stop and of the best value."""
    context, curve, state = RunContext(objective or Objective("loss")), Curve(), tested.init()
    best: Any = None
    for step, loss in enumerate(losses):
        curve.append(step, loss)
        state = tested.update(state, Point(step, loss, 0.0))
        if not isinstance(tested, PatienceLike):
            best = curve.best_step
        elif DIALECTS[tested.dialect].keeps_best and not is_off(tested):
            best = state[-1 if context.objective.maximizes else 0]["best_step"]
        if tested.check(curve, state, context).stop:
            return step, best
    return None, best


def cell(stop: int | None, best: int | None) -> str:
    """An outcome as the tables write it."""
    return ("–" if stop is None else str(stop)) + ("" if best is None else f",{best}")


def answer(dialect: str, case: Case) -> str:
    """What we make of a case: one cell of the table."""
    if not applies(dialect, case):
        return "·"
    try:
        tested = rule(dialect, case)
    except ValueError:
        return "no"
    return "off" if is_off(tested) else cell(*outcome(tested, case.losses))


def table() -> str:
    """The table of `docs/stopping.md`, from the code of today."""
    rows = [["sequence (patience)", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    rows += [[f"{case.name} ({case.patience})", *(answer(name, case) for name in COLUMNS)] for case in CASES[:SHOWN]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


OVERFITTED = [0.90, 0.60, 0.45, 0.38, 0.34, 0.32, 0.31, 0.32, 0.33, 0.33, 0.35, 0.36, 0.38, 0.41, 0.45]
LEVEL = CalibratedThreshold.of_folds([0.33, 0.35, 0.31, 0.36, 0.34, 0.32, 0.37])
RULES = [
    Threshold(0.33, held=2), Threshold(lambda curve: 0.4 * float(curve.losses[0])), LEVEL, GoalReached(0.34, checks=3),
    Hopeless(0.3, checks=10), Patience(3), Patience(3, 0.05, relative=True), Patience(4, baseline=0.3),
    PatienceLike("sklearn_mlp", 3), RelativeChange(0.05, window=2), GeneralizationLoss(5),
    SuccessiveIncreases(2, strip=3), ProgressQuotient(0.5, strip=3), after(3, Divergence(0.4)), TimeLimit(60),
    EpochLimit(12),
]  # fmt: skip


def sentences() -> str:
    """The sentences of `docs/stopping.md`, from the code of today."""
    context, said = RunContext(Objective("val_loss")), []
    for tested in RULES:
        curve, state, found = Curve(), tested.init(), CONTINUE
        for step, loss in enumerate(OVERFITTED, start=1):
            if not found.stop:
                curve.append(step, loss, 10.0 * step)
                state = tested.update(state, curve.last)
                found = tested.check(curve, state, context)
        said.append(f"{found}\n")
    return "".join(said)


if __name__ == "__main__":
    print(table())
    print(sentences(), end="")
