"""XGBoost: one callback, alone as an early stopping, and in a study as the way to its run."""

from __future__ import annotations

import json
from typing import Any

import xgboost
from xgboost.callback import TrainingCallback

from foretell.integrations._boosting import (
    Kept,
    check_arguments,
    check_resumed,
    needs_length,
    reported,
    watched,
)
from foretell.integrations._loop import Loop, lone_run, rule_of
from foretell.run import Run
from foretell.stopping import StoppingRule

__all__ = ["Foretell"]

_ENDLESS = 1 << 30  # rounds of a training whose length nobody told
_SCORES = ("auc", "pre", "map", "ndcg")  # names that begin so are better if higher, but for mape: as XGBoost has it


class Foretell(TrainingCallback):  # type: ignore[misc, unused-ignore]  # without xgboost, its class is unknown
    """Ends `xgboost.train` when going on is not worth it, and leaves the booster as it was at its best.

    Alone it takes the arguments of `xgboost.callback.EarlyStopping`. Given the run of a study, it reports every round,
    and pauses, resumes and stops as the study says. Every metric is reported under "data-metric", as in "valid-auc".

    Args:
        run: of a study, or an `ft.Run` of your own; its metric is "data-metric", or the metric of the last data set.
        rounds: rounds without improvement that are borne; None bears them all.
        metric_name: of the metric to watch; None is the run's, or else the last.
        data_name: of the data set to watch; None is the run's, or else the last.
        save_best: whether the booster is cut to its best rounds. One of the kind "dart" cannot be, since later rounds
            change the weights of earlier ones, and a "gblinear" has no rounds: they stay whole.
        min_delta: smallest gain that counts, >= 0.
        mode: of a metric that is watched without a run: "min", "max", or "auto" to judge by its name as XGBoost does.
        stopping: any rule of foretell. With a run, rules come on top of the run's own.
        num_boost_round: rounds of the full training, as `xgboost.train` gets it; a study needs it.

    Attributes:
        booster: what a resumed training goes on from, for `xgboost.train(..., xgb_model=...)`; else None.

    Raises:
        MetricError: what is to be watched is not measured.
    """

    def __init__(  # noqa: PLR0913 - XGBoost's, by their names
        self,
        run: Run | None = None,
        *,
        rounds: int | None = None,
        metric_name: str | None = None,
        data_name: str | None = None,
        save_best: bool = True,
        min_delta: float = 0.0,
        mode: str = "auto",
        stopping: StoppingRule | None = None,
        num_boost_round: int | None = None,
    ) -> None:
        super().__init__()
        check_arguments(run, mode)
        self.metric_name, self.data_name, self.save_best, self.mode = metric_name, data_name, save_best, mode
        self.num_boost_round = num_boost_round
        self.rule = rule_of(rounds, min_delta, default=None, stopping=stopping)
        self.run, self._is_alone = run, run is None
        self._kept: Kept | None = None
        self._loop: Loop | None = None
        self._start = 0
        self.booster: xgboost.Booster | None = None
        if run is not None:
            needs_length(run, num_boost_round)
            self._kept = Kept(run)
            if self._kept.raw:
                self.booster = xgboost.Booster(model_file=bytearray(self._kept.raw))

    def before_training(self, model: Any) -> Any:
        """XGBoost's hook: the run begins, or goes on."""
        self._start = model.num_boosted_rounds()
        if self._is_alone:
            self.run = self._kept = self._loop = None
        else:
            assert self.run is not None
            check_resumed(self.run, self._start, "xgb_model")
            self._begin(self.run, model)
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """XGBoost's hook: no round for a run that was ended before it."""
        return self._loop is not None and self._loop.over

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """XGBoost's hook: report the round, and hear whether there is another."""
        values = {(data, metric): _last(log) for data, entry in evals_log.items() for metric, log in entry.items()}
        alone = None if self._is_alone else self.run
        cure = "give train evals=[(validation, 'valid')], or fit an eval_set"
        key = watched(reversed(values), alone, self.data_name, self.metric_name, cure)
        if self.run is None:
            is_score = _is_score(key[1]) if self.mode == "auto" else self.mode == "max"
            self.run = lone_run("-".join(key), is_score=is_score, stopping=self.rule, restore_best=self.save_best)
            self._kept = Kept(self.run)
            self._begin(self.run, model)
        assert self._loop is not None and self._kept is not None
        self.run.report(reported(values, key, self.run))
        rounds = self.run.curve.best_step
        if rounds is None or rounds == self._start + epoch + 1:  # at once: xgboost.cv reads it when a callback stops it
            model.set_attr(best_iteration=str(self._start + epoch), best_score=str(values[key]))
        self._kept.before_turn()
        return not self._loop.advance()

    def after_training(self, model: Any) -> Any:
        """XGBoost's hook: the best round is noted in the booster, which is cut there."""
        if self._loop is None or self._kept is None or self.run is None:
            return model
        is_cut = self.save_best and isinstance(model, xgboost.Booster) and _kind_of(model) == "gbtree"
        if not is_cut:
            self.run._restore_best = False  # the run must not say that the best is back
        self._loop.close()
        best, rounds = self.run.best, self.run.curve.best_step
        if is_cut and rounds is not None and rounds < model.num_boosted_rounds():
            model = model[:rounds]
            model.set_attr(best_iteration=str(rounds - 1), best_score=str(best))
        if is_cut:
            self._kept.keep_best()
        return model

    def _begin(self, run: Run, model: Any) -> None:
        horizon = _ENDLESS if self.num_boost_round is None else self.num_boost_round
        horizon += 0 if run.resumed else self._start
        extra = None if self._is_alone else self.rule
        # The folds of a cross-validation cannot be gone on with, and a linear booster does not know its rounds.
        pausable = isinstance(model, xgboost.Booster) and _kind_of(model) != "gblinear"
        self._loop = Loop(run, horizon, start=self._start, stopping=extra, pausable=pausable)
        if pausable and self._kept is not None:
            self._kept.train(lambda rounds: _bytes(model, rounds))


def _last(log: Any) -> float:
    """The newest of a metric's values; of xgboost.cv the mean."""
    value = log[-1]
    return float(value[0] if isinstance(value, tuple) else value)


def _is_score(metric: str) -> bool:
    return metric != "mape" and metric.startswith(_SCORES)


def _kind_of(model: xgboost.Booster) -> str:
    return str(json.loads(model.save_config())["learner"]["gradient_booster"]["name"])


def _bytes(model: xgboost.Booster, rounds: int | None) -> bytes:
    is_part = rounds is not None and rounds < model.num_boosted_rounds() and _kind_of(model) == "gbtree"
    return bytes((model[:rounds] if is_part else model).save_raw())
