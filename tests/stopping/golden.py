"""Sequences of losses, and what the early stopping of each library makes of them.

`EXPECTED` was recorded from the living libraries at the versions of `PatienceLike`; "ours" was reasoned by hand. Its
columns are those of `COLUMNS`, each the index of the stop and, where the library keeps one, of the best value: `4,2`.
`–`: it never stops. `off`: the setting switches early stopping off. `no`: the library refuses the setting. `·`: it has
no such setting. Run `python -m tests.stopping.golden` to print the table that `docs/stopping.md` shows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from foretell.curve import Curve, Point
from foretell.objective import Objective
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping._dialects import DIALECTS
from foretell.stopping.patience import Patience
from foretell.stopping.patience_like import PatienceLike

NAN, INF = math.nan, math.inf
COLUMNS = ["ours", *DIALECTS]
SHOWN = 10  # the rows of the page
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
    Case("−10, rising to −8.6, minimum .1", [-10 + i / 5 for i in range(8)], 3, 0.1),
    Case("−10, rising to −8.6, minimum a tenth", [-10 + i / 5 for i in range(8)], 3, 0.1, True),
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


if __name__ == "__main__":
    print(table(), end="")
