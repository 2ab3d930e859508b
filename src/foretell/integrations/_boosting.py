"""What the bindings of gradient boosting share: which value is watched, and how a booster is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import numpy as np

from foretell.errors import CheckpointError, MetricError, StudyError
from foretell.integrations._loop import metric_of, without
from foretell.run import Run

__all__ = ["Kept", "check_arguments", "check_resumed", "needs_length", "reported", "watched"]

Key = tuple[str, str]  # data set and metric


@final
class Kept:
    """A booster in the care of a run.

    A run copies what it tracks at every new best, which for a booster is nearly every round, and bytes of a whole
    booster are dear. But the best booster is the beginning of any later one. So a copy holds no bytes, but where it may
    come to a checkpoint: then that of the best is made again, in full.

    Args:
        run: that tracks it.
    """

    def __init__(self, run: Run) -> None:
        self.raw = b""  # of the checkpoint that was restored
        self.horizon = 0  # rounds of the full training
        self.loop: object = None
        self._run, self._dump, self._rounds, self._whole = run, None, None, False
        run.track(booster=self)

    _dump: Callable[[int | None], bytes] | None
    _rounds: int | None

    def state_dict(self) -> dict[str, Any]:
        """The booster's own bytes, as an array."""
        raw = self.raw
        if self._dump is not None:
            raw = self._dump(self._rounds) if self._whole or self._run.verdict.action == "pause" else b""
        return {"booster": np.frombuffer(raw, np.uint8).copy(), "horizon": self.horizon}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the bytes of a checkpoint; once it trains there is nothing to load, as the best is cut out."""
        if self._dump is None:
            self.raw, self.horizon = bytes(state["booster"]), int(state["horizon"])

    def train(self, dump: Callable[[int | None], bytes]) -> None:
        """The training begins; `dump` gives the bytes of its first rounds, of all if None."""
        self._dump = dump

    def before_turn(self) -> None:
        """A round is reported, and the run about to end it: make whole copies if it may be saved now."""
        run, step = self._run, self._run.curve.last.step
        used_up = run._until is not None and step >= run._until
        self._whole = run._may_pause and (used_up or run.verdict.action == "pause" or run._keeper.due(run.elapsed))
        if self._whole:
            self.keep_best()

    def keep_best(self) -> None:
        """Copy the best booster in full, for the checkpoint that the winner of a study is loaded from."""
        best = self._run.curve.best_step
        if best is not None and self._dump is not None and self._run.folder is not None:
            self._whole, self._rounds = True, best
            self._run._keeper.remember_best(best)
            self._rounds = None


def check_arguments(run: object, mode: str) -> None:
    """Raises TypeError for what is no run, and ValueError for what is no mode."""
    if run is not None and not isinstance(run, Run):
        raise TypeError(
            f"Foretell({run!r}) is no run: give the one your function got, or ft.Run(minimize='valid-auc')."
        )
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"Foretell(mode={mode!r}) is 'auto', 'min' or 'max'.")
    if run is not None and metric_of(run) is None:
        raise MetricError("The run watches no metric: give it one, e.g. ft.Run(minimize='valid-logloss').")


def check_resumed(run: Run, rounds: int, argument: str) -> None:
    """Raises CheckpointError if a resumed run is to begin with a booster that is not the saved one."""
    if run.resumed and rounds != run.step:
        raise CheckpointError(
            f"This training goes on from round {run.step}, but its booster has {rounds} rounds: pass the saved one, "
            f"train(..., {argument}=foretell.booster), where foretell is the callback."
        )


def needs_length(run: Run, rounds: int | None) -> None:
    """Raises StudyError if a study would not know how long a full training is."""
    if rounds is None and run._link is not None:
        raise StudyError(
            "A study compares trainings by how far they are: give Foretell(run, num_boost_round=...) the number that "
            "xgboost.train gets (n_estimators of XGBClassifier)."
        )


def watched(keys: Iterable[Key], run: Run | None, data_name: str | None, metric_name: str | None, cure: str) -> Key:
    """The data set and metric to watch.

    Args:
        keys: what is measured, the preferred first.
        run: its metric is "data-metric", or "metric" for the preferred data set, unless names are given.
        data_name: of the data set, or None.
        metric_name: of the metric, or None.
        cure: for a training that measures nothing.

    Raises:
        MetricError: it is not measured.
    """
    found = list(keys)
    names = [f"{data}-{metric}" for data, metric in found]
    if not found:
        raise MetricError(f"The training measures nothing that could be watched: {cure}.")
    if run is not None and data_name is None and metric_name is None:
        goal = metric_of(run) or ""
        if goal in names:
            return found[names.index(goal)]
        metric_name, wanted = goal, goal
    else:
        wanted = "-".join(name for name in (data_name, metric_name) if name is not None)
    fitting = [key for key in found if data_name in (None, key[0]) and metric_name in (None, key[1])]
    if not fitting:
        raise without(wanted, names, "Or say which by data_name= and metric_name=.")
    return fitting[0]


def reported(values: Mapping[Key, float], key: Key, run: Run) -> dict[str, float]:
    """All that was measured, by "data-metric", and the watched value under the run's name for it."""
    return {**{f"{data}-{metric}": value for (data, metric), value in values.items()}, str(metric_of(run)): values[key]}
