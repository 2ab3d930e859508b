"""The trials of a study as a table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from foretell.study import Study

__all__ = ["table"]


def table(study: Study) -> pd.DataFrame:
    """One row a trial, in the order of their numbers; values in the user's units.

    Args:
        study: may be empty; then the table has its columns and no row.

    Returns:
        number, state, value, best_step, step (epochs trained), horizon, seconds, attempts, parent, `params_<name>` (NaN
        where a configuration does not have the parameter), `metrics_<name>` (the last report; NaN if there is none) and
        reason, that of the last decision.
    """
    trials = list(study.trials)
    columns = {
        "number": pd.Series([trial.number for trial in trials], dtype="int64"),
        "state": pd.Series([str(trial.state) for trial in trials], dtype="str"),
        "value": pd.Series([trial.value for trial in trials], dtype="float64"),
        "best_step": pd.Series([trial.best_step for trial in trials], dtype="Int64"),
        "step": pd.Series([trial.step for trial in trials], dtype="int64"),
        "horizon": pd.Series([trial.horizon for trial in trials], dtype="Int64"),
        "seconds": pd.Series([trial.cost for trial in trials], dtype="float64"),
        "attempts": pd.Series([trial.attempts for trial in trials], dtype="int64"),
        "parent": pd.Series([trial.parent for trial in trials], dtype="Int64"),
    }
    for name in study.space.names:
        columns[f"params_{name}"] = _params([trial.params.get(name, math.nan) for trial in trials])
    for name in study.record.metrics:
        columns[f"metrics_{name}"] = pd.Series([trial.values.get(name, math.nan) for trial in trials], dtype="float64")
    reasons = [trial.decisions[-1].reason if trial.decisions else "" for trial in trials]
    columns["reason"] = pd.Series(reasons, dtype="str")
    return pd.DataFrame(columns)


def _params(values: list[Any]) -> pd.Series:
    """A chosen None stays None: it is not a parameter that is missing."""
    return pd.Series(values, dtype=object if any(value is None for value in values) else None)
