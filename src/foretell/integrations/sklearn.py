"""scikit-learn: a search that asks foretell what to try, and scikit-learn's own searches with fold racing."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn import model_selection
from sklearn.base import _fit_context
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - without it there is no HalvingRandomSearchCV
from sklearn.model_selection import HalvingRandomSearchCV
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._param_validation import Interval

from foretell.budget import Budget
from foretell.errors import MissingExtra, StudyError
from foretell.integrations import _sklearn_curves
from foretell.integrations._sklearn_asking import Asking
from foretell.integrations._sklearn_racing import Race
from foretell.run import Run
from foretell.samplers import Sampler
from foretell.schedulers import Scheduler
from foretell.space import Space
from foretell.stopping import StoppingRule
from foretell.study import Study
from foretell.trial import Verdict

__all__ = ["GridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV", "SearchCV"]


class _Search(BaseSearchCV):  # type: ignore[misc]
    """What foretell adds to any search of scikit-learn: fold racing. Without it, everything is scikit-learn's."""

    racing: bool

    def _run_search(self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any = None) -> None:
        context = {} if callback_ctx is None else {"callback_ctx": callback_ctx}
        if not self.racing:
            super()._run_search(evaluate_candidates, **context)
            return
        with self._race_over(evaluate_candidates, columns=True) as race:
            super()._run_search(race.evaluate, **context)

    @contextlib.contextmanager
    def _race_over(self, evaluate_candidates: Callable[..., Any], *, columns: bool) -> Iterator[Race]:
        if "callback_ctx" not in inspect.signature(evaluate_candidates).parameters:  # scikit-learn before 1.9
            raise MissingExtra(
                "racing=True and SearchCV score a few splits at a time, which scikit-learn allows since 1.9: "
                "install it with `pip install -U scikit-learn`."
            )
        self._race = race = Race(self, evaluate_candidates, racing=self.racing)
        try:
            yield race
        finally:
            del self._race
        race.finish(super()._format_results, columns=columns)

    def _format_results(self, candidate_params: Any, n_splits: int, out: Any, more_results: Any = None) -> Any:
        if "_race" not in self.__dict__:
            return super()._format_results(candidate_params, n_splits, out, more_results)
        self._race.collected["out"] = out  # scikit-learn asks after every batch; the table is made once, at the end
        return self._race.collected

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: Any, results: dict[str, Any]) -> Any:
        index = BaseSearchCV._select_best_index(refit, refit_metric, results)
        if "stopped" in results and results["stopped"][index] and not results["stopped"].all():
            raise ValueError(
                f"refit chose candidate {index}, which was stopped before its last split and so can never be best: "
                "choose among those where cv_results_['stopped'] is False."
            )
        return index

    def __getstate__(self) -> dict[str, Any]:
        # scikit-learn sends the search along with every fit; what holds the data and the workers must stay here.
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_race"}


class GridSearchCV(_Search, model_selection.GridSearchCV):  # type: ignore[misc]
    """scikit-learn's `GridSearchCV`: the same arguments, the same results, and fold racing if it is asked for.

    Args:
        estimator: what is fitted.
        param_grid: values by parameter, or a list of such dicts.
        racing: leave out splits of candidates that are behind; see `SearchCV`.
        scoring: and all others, see scikit-learn.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **model_selection.GridSearchCV._parameter_constraints, "racing": ["boolean"],
    }  # fmt: skip

    def __init__(  # noqa: PLR0913 - scikit-learn's signature
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        racing: bool = False,
    ) -> None:
        super().__init__(
            estimator, param_grid, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose,
            pre_dispatch=pre_dispatch, error_score=error_score, return_train_score=return_train_score,
        )  # fmt: skip
        self.racing = racing


class RandomizedSearchCV(_Search, model_selection.RandomizedSearchCV):  # type: ignore[misc]
    """scikit-learn's `RandomizedSearchCV`: the same arguments, candidates and results, and fold racing if asked for.

    Args:
        estimator: what is fitted.
        param_distributions: lists or distributions by parameter, or a list of such dicts.
        n_iter: candidates, >= 1.
        racing: leave out splits of candidates that are behind; see `SearchCV`.
        scoring: and all others, see scikit-learn.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **model_selection.RandomizedSearchCV._parameter_constraints, "racing": ["boolean"],
    }  # fmt: skip

    def __init__(  # noqa: PLR0913 - scikit-learn's signature
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        racing: bool = False,
    ) -> None:
        super().__init__(
            estimator, param_distributions, n_iter=n_iter, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv,
            verbose=verbose, pre_dispatch=pre_dispatch, random_state=random_state, error_score=error_score,
            return_train_score=return_train_score,
        )  # fmt: skip
        self.racing = racing


class SearchCV(_Search):
    """Cross-validated search in which foretell proposes the candidates.

    After `fit`, everything that scikit-learn's searches have is there, and `study_` is the search as a `Study`, with a
    trial for each candidate. Candidates are asked for when those before them are scored, `n_jobs` at a time.

    With `racing`, a candidate is scored on no further split once its mean is under the worst single split of the best
    candidate so far: its unscored splits are NaN in `cv_results_`, its mean is over the scored ones, `n_splits_scored`
    and `stopped` say so, and it can never be best.

    With `max_epochs`, every candidate is trained an epoch at a time on all splits, and the scheduler and the stopping
    rule see the mean score after each. An epoch is one call of `partial_fit`, or a step of `resource`.

    Args:
        estimator: what is fitted.
        space: a `Space`, or by parameter a Float, Int, Choice, list, frozen scipy distribution or fixed value.
        n_trials: candidates at most, >= 1.
        budget: other limits, e.g. "10 min"; looked at before each batch of candidates.
        sampler: "gp" (Bayesian), "random_search", "grid_search", another member's name, or a `Sampler`.
        racing: leave out splits of candidates that are behind. Not together with `max_epochs`.
        max_epochs: epochs of a full training, >= 1; None fits every candidate once.
        resource: parameter that an estimator with `warm_start` counts epochs by, e.g. "n_estimators"; None means that
            it has `partial_fit`.
        scheduler: who trains how far: "full", "asha", another member's name, or a `Scheduler`.
        stopping: when a candidate's training ends itself, e.g. `ft.Patience(5)`.
        random_state: seed of the proposals.
        scoring: and all others, as in scikit-learn. With several metrics, `refit` names the one that is followed.

    Raises:
        SpaceError: the space makes no sense.
        MetricError: there are several metrics, and `refit` names none of them.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseSearchCV._parameter_constraints,
        "space": "no_validation",
        "n_trials": [Interval(Integral, 1, None, closed="left")],
        "budget": [str, Budget, None],
        "sampler": "no_validation",
        "racing": ["boolean"],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "resource": [str, None],
        "scheduler": "no_validation",
        "stopping": "no_validation",
        "random_state": ["random_state"],
    }

    def __init__(  # noqa: PLR0913 - what a search can be told, all of it by name
        self,
        estimator: Any,
        space: Space | Mapping[str, Any],
        *,
        n_trials: int = 20,
        budget: Budget | str | None = None,
        sampler: str | Sampler = "gp",
        racing: bool = False,
        max_epochs: int | None = None,
        resource: str | None = None,
        scheduler: str | Scheduler = "full",
        stopping: StoppingRule | None = None,
        random_state: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose, pre_dispatch=pre_dispatch,
            error_score=error_score, return_train_score=return_train_score,
        )  # fmt: skip
        self.space, self.n_trials, self.budget = space, n_trials, budget
        self.sampler, self.racing, self.random_state = sampler, racing, random_state
        self.max_epochs, self.resource, self.scheduler, self.stopping = max_epochs, resource, scheduler, stopping

    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, **params: Any) -> SearchCV:
        """Search, and fit the best candidate on all data.

        Args:
            X: (samples, features) what scikit-learn's searches take.
            y: (samples,) or (samples, outputs) targets; None for unsupervised learning.
            params: for the estimator's `fit`, the scorer and the splitter.
        """
        if self.max_epochs is None:
            super().fit(X, y, **params)
        else:
            _sklearn_curves.fit(self, X, y, params)
        return self

    def _run_search(self, evaluate_candidates: Callable[..., Any], *, callback_ctx: Any = None) -> None:
        if self.scheduler != "full" or self.stopping is not None or self.resource is not None:
            raise StudyError(
                "scheduler, stopping and resource decide about learning curves, and a search without max_epochs has "
                "none: give max_epochs, or leave them out. To save fits, give racing=True."
            )
        asking = Asking(self)
        with self._race_over(evaluate_candidates, columns=self.racing) as race:
            while asked := asking.batch(race.slots):
                numbers = race.batch([params for _, params in asked])
                for (run, _), number in zip(asked, numbers, strict=True):
                    _tell(asking.study, run, race, number)
        self.study_ = asking.study


def _tell(study: Study, run: Run, race: Race, number: int) -> None:
    """The mean after each split as a curve of the trial; a candidate whose fits failed has failed."""
    scores, metric = race.scores(number), study.objective.metric
    if not np.isfinite(scores).all():
        study.tell(run, error=f"{metric} is not finite: a fit or its scoring failed (splits: {scores.tolist()})")
        return
    for split in range(len(scores)):
        run.report({metric: scores[: split + 1].mean()}, step=split + 1)
    if race.stopped[number]:
        run.verdict = Verdict("stop", "racing", race.stopped[number], step=len(scores), value=float(scores.mean()))
        run.stopped_by_study = True
    study.tell(run)
