"""The plain `Run` in a loop of one's own: what all bindings are held against."""

from __future__ import annotations

import numpy as np
import pytest

from foretell import Patience, Run
from tests.integrations import suite
from tests.integrations.suite import BoomError, Job, Scenario


class Loop:
    def __init__(self, job: Job) -> None:
        self.job, self.trained = job, 0
        self.metric = NumPy.metric + ("x" if job.misspelt else "")
        self.weight = np.zeros(1)
        rule = job.stopping or (Patience(max(job.patience, 1)) if job.patience is not None else None)
        if job.run is None:
            self.run = Run(**{"maximize" if job.maximize else "minimize": self.metric}, stopping=rule, seed=0)
            rule = None
        else:
            self.run = job.run
        self.extra = rule
        self.state = rule.init() if rule else None

    def fit(self) -> None:
        run, job = self.run, self.job
        run.track(weight=self.weight)
        for epoch in run.epochs(len(job.values)):
            if job.fails_in == epoch + 1:
                raise BoomError
            self.weight += 1
            self.trained += 1
            if job.every == 1 or epoch % 2:
                run.report({NumPy.metric: job.value(self.held)})
            if self.extra and self._fed_up():
                break
        if job.values:
            run.require_objective(None)

    def _fed_up(self) -> bool:
        from foretell.objective import Objective
        from foretell.stopping import RunContext

        assert self.extra
        self.state = self.extra.update(self.state, self.run.curve.last)
        return self.extra.check(self.run.curve, self.state, RunContext(Objective(NumPy.metric))).stop

    @property
    def held(self) -> int:
        return int(self.weight[0])

    @property
    def moments(self) -> None:
        return None


class NumPy:
    metric = "val_loss"
    promises = frozenset({"exception", "resume", "late", "zero"})

    def prepare(self, job: Job) -> Loop:
        return Loop(job)


@pytest.mark.parametrize("check", suite.cases(NumPy()))
def test_a_loop_of_ones_own(check: Scenario) -> None:
    check(NumPy())
