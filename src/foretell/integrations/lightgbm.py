"""LightGBM: one callback, alone as an early stopping, and in a study as the way to its run."""

from __future__ import annotations

from typing import Any, NoReturn

import lightgbm
from lightgbm.callback import CallbackEnv, EarlyStopException

from foretell.errors import MetricError
from foretell.integrations._boosting import Kept, check_arguments, check_resumed, reported, watched
from foretell.integrations._loop import Loop, lone_run, rule_of
from foretell.run import Run
from foretell.stopping import StoppingRule

__all__ = ["Foretell"]

_BOOSTING = ("boosting", "boosting_type", "boost")


class Foretell:
    """Ends `lightgbm.train` when going on is not worth it, and sets `best_iteration`, up to which LightGBM predicts.

    Alone it takes the arguments of `lightgbm.early_stopping`; one metric of one data set is watched. Given the run of
    a study, it reports every round, and pauses, resumes and stops as the study says. Every metric is reported under
    "data-metric", as in "valid_0-auc".

    A booster of the kind "dart" has no best iteration, since later rounds change the weights of earlier ones.

    Args:
        run: of a study, or an `ft.Run` of your own; its metric is "data-metric", or the metric of the first data set.
        stopping_rounds: rounds without improvement that are borne; None bears them all.
        first_metric_only: whether to watch the first metric, if there are several and none is named.
        verbose: whether the verdict is printed.
        min_delta: smallest gain that counts, >= 0.
        metric_name: of the metric to watch; None is the run's, or else the only one.
        data_name: of the data set to watch; None is the run's, or else the first that is not the training data.
        stopping: any rule of foretell. With a run, rules come on top of the run's own.

    Attributes:
        booster: what a resumed training goes on from, for `lightgbm.train(..., init_model=...)`; else None.

    Raises:
        MetricError: what is to be watched is not measured, or it is not clear which metric is meant.
    """

    def __init__(  # noqa: PLR0913 - LightGBM's, by their names
        self,
        run: Run | None = None,
        *,
        stopping_rounds: int | None = None,
        first_metric_only: bool = False,
        verbose: bool = True,
        min_delta: float = 0.0,
        metric_name: str | None = None,
        data_name: str | None = None,
        stopping: StoppingRule | None = None,
    ) -> None:
        check_arguments(run, "auto")
        self.order = 25  # after LightGBM has recorded the round, and before its own early stopping
        self.before_iteration = False
        self.first_metric_only, self.verbose = first_metric_only, verbose
        self.metric_name, self.data_name = metric_name, data_name
        self.rule = rule_of(stopping_rounds, min_delta, default=None, stopping=stopping)
        self.run, self._is_alone = run, run is None
        self._kept: Kept | None = None
        self._loop: Loop | None = None
        self._at_best: list[Any] = []
        self._is_score: dict[tuple[str, str], bool] = {}
        self.booster: lightgbm.Booster | None = None
        if run is not None:
            self._kept = Kept(run)
            if self._kept.raw:
                self.booster = lightgbm.Booster(model_str=self._kept.raw.decode())
            if run.resumed:  # paused again at once, it costs no round
                self._open(run, self._kept, self._kept.horizon)

    def __call__(self, env: CallbackEnv) -> None:
        """LightGBM's hook after every round: report it, and end the training if there is to be no other.

        Raises:
            EarlyStopException: as LightGBM wants it, to end a training and at the end of a full one.
        """
        results = env.evaluation_result_list or []
        values = {(result[0], result[1]): float(result[2]) for result in results}
        key = self._key(env, list(values))
        if env.iteration == env.begin_iteration:
            self._is_score = {(result[0], result[1]): bool(result[3]) for result in results}
            self._begin(env, key)
        assert self.run is not None and self._kept is not None and self._loop is not None
        if self._loop.over:  # the study ended the run as it opened
            raise EarlyStopException(env.iteration, list(results))
        self.run.report(reported(values, key, self.run))
        if self.run.curve.best_step == env.iteration + 1:
            self._at_best = results
        self._kept.before_turn()
        if not self._loop.advance():
            self._end(env, self.run, key)

    def _end(self, env: CallbackEnv, run: Run, key: tuple[str, str]) -> NoReturn:
        assert self._kept is not None and self._loop is not None
        best, rounds = run.best, run.curve.best_step
        if best is None or rounds is None or _is_dart(env):
            run._restore_best = False  # the run must not say that the best is back
            best, rounds, at_best = None, env.iteration + 1, list(env.evaluation_result_list or ())
        else:  # of a best round before the training was resumed, the watched value is all that is known
            at_best = self._at_best or [(*key, best, self._is_score[key])]
            self._kept.keep_best()
        self._loop.close()
        if self.verbose and run.verdict.stop:
            print(f"foretell: {run.verdict}", flush=True)
        raise EarlyStopException(rounds - 1, at_best)

    def _key(self, env: CallbackEnv, measured: list[tuple[str, str]]) -> tuple[str, str]:
        training = {"train"} if hasattr(env.model, "boosters") else {getattr(env.model, "_train_data_name", "training")}
        held_out = [key for key in measured if key[0] not in training]
        preferred = held_out + [key for key in measured if key[0] in training]
        cure = "give train valid_sets=[validation], and a metric among its parameters"
        run = None if self._is_alone else self.run
        key = watched(preferred, run, self.data_name, self.metric_name, cure)
        metrics = sorted({metric for _, metric in measured})
        if run is None and self.metric_name is None and len(metrics) > 1 and not self.first_metric_only:
            raise MetricError(
                f"The training measures {', '.join(metrics)}: say which is watched, as metric_name={metrics[0]!r}, or "
                "give first_metric_only=True."
            )
        return key

    def _begin(self, env: CallbackEnv, key: tuple[str, str]) -> None:
        if self._is_alone:
            self._loop, self._at_best = None, []
            self.run = lone_run("-".join(key), is_score=self._is_score[key], stopping=self.rule, restore_best=True)
            self._kept = Kept(self.run)
        assert self.run is not None and self._kept is not None
        check_resumed(self.run, env.begin_iteration, "init_model")
        if self._loop is None:
            # One that is paused as it opens is saved as it came, without the round that LightGBM has trained already.
            pausable = isinstance(env.model, lightgbm.Booster)
            self._open(self.run, self._kept, env.end_iteration, start=env.begin_iteration, pausable=pausable)
        if isinstance(env.model, lightgbm.Booster):
            model = env.model
            self._kept.train(lambda rounds: model.model_to_string(num_iteration=rounds or -1).encode())

    def _open(self, run: Run, kept: Kept, horizon: int, *, start: int = 0, pausable: bool = True) -> None:
        kept.horizon = horizon
        # Where another callback ends the training, nobody tells us; the loop lives on as long as its run.
        extra = None if self._is_alone else self.rule
        self._loop = kept.loop = Loop(run, horizon, start=start, stopping=extra, pausable=pausable)


def _is_dart(env: CallbackEnv) -> bool:
    return any(env.params.get(alias) == "dart" for alias in _BOOSTING)
