"""The study behind a scikit-learn search: candidates are asked for in batches until its budget is spent."""

from __future__ import annotations

import time
from typing import Any, final

from sklearn.utils import check_random_state

from foretell.budget import Budget
from foretell.errors import StudyError
from foretell.integrations._sklearn_space import searched
from foretell.run import Run
from foretell.stopping import require_rule
from foretell.study import Study

_SEEDS = 2**31 - 1


@final
class Asking:
    """Makes the study of a search, and asks it.

    Args:
        search: a `SearchCV`, being fitted.
    """

    def __init__(self, search: Any) -> None:
        if search.stopping is not None:
            require_rule(search.stopping)
        self._search, self._begun = search, time.monotonic()
        self._limits = Budget.of(search.budget)
        space, self._decode = searched(search.space)
        metric = search.refit if isinstance(search.refit, str) else "score"
        goal: dict[str, Any] = {"maximize": f"mean_test_{metric}"}  # scikit-learn's scores are better if higher
        seed = int(check_random_state(search.random_state).randint(_SEEDS))
        self.study = Study(space, **goal, seed=seed, sampler=search.sampler, scheduler=search.scheduler, retries=0)

    def batch(self, slots: int) -> list[tuple[Run, dict[str, Any]]]:
        """Up to `slots` runs, each with the estimator's parameters; none at the end of the search."""
        record, limits = self.study.record, self._limits
        trials = min(self._search.n_trials, limits.trials or self._search.n_trials)
        late = limits.seconds is not None and time.monotonic() - self._begun >= limits.seconds
        spent = limits.epochs is not None and record.epochs_spent >= limits.epochs
        asked: list[tuple[Run, dict[str, Any]]] = []
        while len(record) < trials and len(asked) < slots and not (len(record) and (late or spent)):
            try:
                run = self.study.ask(self._search.stopping)
            except StudyError:
                if not len(record):
                    raise
                break  # the grid is walked
            asked.append((run, self._decode(run.params)))
        return asked
