"""The table of trials holds what the trials hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from foretell.executors.replay import Recording, Replay
from foretell.space import Choice, Space
from foretell.study import Study
from tests.plots.replayed import SPACE, maximized, minimized

FIXED = ["number", "state", "value", "best_step", "step", "horizon", "seconds", "attempts", "parent"]
PARAMS = ["params_rate", "params_kind", "params_decay"]


@pytest.fixture(autouse=True)
def _pandas(needs: Callable[[str], Any]) -> None:
    needs("pandas")


def same(cell: Any, wanted: Any) -> bool:
    """Whether a cell holds what is wanted; a missing one holds NaN or pandas' NA, which a dict shows as None."""
    missing = cell is None or str(cell) in ("nan", "<NA>")
    return missing if wanted is None else not missing and cell == wanted


def test_every_trial_is_a_row() -> None:
    study, seen = minimized()
    frame = study.to_dataframe()
    assert frame.columns.tolist() == [*FIXED, *PARAMS, "metrics_score", "metrics_loss", "reason"]
    assert len(frame) == len(study.trials)
    last = {report.trial: report.metrics for report in seen}
    for row, trial in zip(frame.to_dict("records"), study.trials, strict=True):
        wanted = {
            "number": trial.number, "state": str(trial.state), "value": trial.value, "best_step": trial.best_step,
            "step": trial.step, "horizon": trial.horizon, "seconds": trial.cost, "attempts": trial.attempts,
            "parent": trial.parent, "reason": trial.decisions[-1].reason if trial.decisions else "",
            "params_rate": trial.params["rate"], "params_kind": trial.params["kind"],
            "params_decay": trial.params.get("decay"),
        }  # fmt: skip
        for metric in ("loss", "score"):
            value = last.get(trial.number, {}).get(metric, math.nan)
            wanted[f"metrics_{metric}"] = None if math.isnan(value) else value
        assert {name for name in wanted if not same(row[name], wanted[name])} == set()


def test_missing_numbers_do_not_turn_whole_ones_into_floats() -> None:
    frame = minimized()[0].to_dataframe()
    assert {name: str(frame[name].dtype) for name in ("best_step", "horizon", "parent", "step")} == {
        "best_step": "Int64", "horizon": "Int64", "parent": "Int64", "step": "int64",
    }  # fmt: skip
    assert frame["params_decay"].isna().sum() == (frame["params_kind"] == "plain").sum() > 0


def test_maximized_values_are_in_their_own_units() -> None:
    study = maximized()
    frame = study.to_dataframe()
    assert frame["value"].max() == max(trial.value for trial in study.trials if trial.value is not None)
    assert frame["value"].min() > 0


def test_an_empty_study_has_columns_and_no_row() -> None:
    frame = Study(SPACE, minimize="loss").to_dataframe()
    assert frame.columns.tolist() == [*FIXED, *PARAMS, "reason"]
    assert frame.empty


def test_a_chosen_none_is_not_a_missing_parameter() -> None:
    study = Study(Space(decay=Choice([None, 0.5])), minimize="loss", sampler="grid_search")
    study.run(None, "2 trials", executor=Replay(lambda params: Recording([1.0])), progress="none")
    assert sorted(study.to_dataframe()["params_decay"].tolist(), key=str) == [0.5, None]
