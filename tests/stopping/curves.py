"""Rules shown losses by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from foretell.curve import Curve, Report
from foretell.objective import Objective
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import Verdict


def verdicts(
    rule: StoppingRule, values: Sequence[float], *, scores: bool = False,
    others: Sequence[Mapping[str, float]] | None = None,
) -> list[Verdict]:  # fmt: skip
    """What the rule says after each value, epochs from 1; its state goes through strict JSON at every step.

    Args:
        rule: to be driven.
        values: of the objective "m".
        scores: whether it is to grow.
        others: what else was reported with each value; None drives the rule with bare points.
    """
    objective = Objective("m", "maximize" if scores else "minimize")
    curve, state, found = Curve(), rule.init(), []
    for index, value in enumerate(values):
        curve.append(index + 1, objective.loss(value), float(index + 1))
        point = Report(*curve.last, {} if others is None else {"m": value, **others[index]})
        state = json.loads(json.dumps(rule.update(state, point), allow_nan=False))
        found.append(rule.check(curve, state, RunContext(objective)))
    return found


def stop(
    rule: StoppingRule, values: Sequence[float], *, scores: bool = False,
    others: Sequence[Mapping[str, float]] | None = None,
) -> int | None:  # fmt: skip
    """The index of the first value at which the rule stops."""
    said = verdicts(rule, values, scores=scores, others=others)
    return next((index for index, verdict in enumerate(said) if verdict.stop), None)


def sentence(
    rule: StoppingRule, values: Sequence[float], *, scores: bool = False,
    others: Sequence[Mapping[str, float]] | None = None,
) -> str:  # fmt: skip
    """What the first verdict that stops says."""
    said = verdicts(rule, values, scores=scores, others=others)
    return next(str(verdict) for verdict in said if verdict.stop)
