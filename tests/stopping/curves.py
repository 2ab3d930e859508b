"""Rules shown losses by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

from foretell.curve import Curve
from foretell.objective import Objective
from foretell.stopping import RunContext, StoppingRule
from foretell.trial import Verdict


def verdicts(rule: StoppingRule, values: Sequence[float], *, scores: bool = False) -> list[Verdict]:
    """What the rule says after each value, epochs from 1; its state goes through strict JSON at every step."""
    objective = Objective("m", "maximize" if scores else "minimize")
    curve, state, found = Curve(), rule.init(), []
    for step, value in enumerate(values, start=1):
        curve.append(step, objective.loss(value), float(step))
        state = json.loads(json.dumps(rule.update(state, curve.last), allow_nan=False))
        found.append(rule.check(curve, state, RunContext(objective)))
    return found


def stop(rule: StoppingRule, values: Sequence[float], *, scores: bool = False) -> int | None:
    """The index of the first value at which the rule stops."""
    said = verdicts(rule, values, scores=scores)
    return next((index for index, verdict in enumerate(said) if verdict.stop), None)


def sentence(rule: StoppingRule, values: Sequence[float], *, scores: bool = False) -> str:
    """What the first verdict that stops says."""
    return next(str(verdict) for verdict in verdicts(rule, values, scores=scores) if verdict.stop)
