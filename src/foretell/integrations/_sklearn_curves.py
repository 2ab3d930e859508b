"""A scikit-learn search over learning curves: every candidate is trained an epoch at a time, on all splits abreast."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import indexable
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from foretell.errors import StudyError
from foretell.integrations._sklearn_asking import Asking
from foretell.integrations._sklearn_racing import Row, like, ranks, score_of, slots_of
from foretell.run import Run


@final
@dataclass(frozen=True)
class Settings:
    """What holds for every training of a search.

    Args:
        resource: parameter that a warm start counts epochs by; None means partial_fit.
        scorer: scikit-learn's.
        fit_params: of the estimator's fit or partial_fit.
        score_params: of the scorer.
        train_scores: whether training scores are wanted.
        error_score: of a fit that failed, or "raise".
    """

    resource: str | None
    scorer: Any
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    train_scores: bool
    error_score: Any


@final
@dataclass
class Candidate:
    """A candidate in training: one estimator for each split, and what came of its best epoch."""

    run: Run
    params: dict[str, Any]
    epochs: Iterator[int]
    estimators: list[Any]
    best: float = -np.inf
    best_epoch: int = 0
    rows: list[Row] = field(default_factory=list)
    error: str = ""


def fit(search: Any, X: Any, y: Any, params: dict[str, Any]) -> None:
    """What `BaseSearchCV.fit` does, for trainings that go an epoch at a time; the outcome is attributes of `search`."""
    _require_epochs(search)
    scorer, refit_metric = search._get_scorers()
    X, y = indexable(X, y)
    routed = search._get_routed_params_for_fit(_check_method_params(X, params=params))
    search._checked_cv_orig = check_cv(search.cv, y, classifier=is_classifier(search.estimator))
    splits = list(search._checked_cv_orig.split(X, y, **routed.splitter.split))
    search.n_splits_ = len(splits)
    settings = Settings(
        search.resource, scorer, routed.estimator.fit, routed.scorer.score, search.return_train_score,
        search.error_score,
    )  # fmt: skip
    asking, done = Asking(search), []
    with Parallel(n_jobs=search.n_jobs) as parallel:
        while asked := asking.batch(slots_of(search)):
            batch = [
                Candidate(run, found, run.epochs(search.max_epochs), [_made(search, found) for _ in splits])
                for run, found in asked
            ]
            done += batch
            for live in _rounds(batch):
                _train_all(live, parallel, (X, y, splits), settings, search.refit, asking.study.objective.metric)
            for candidate in batch:
                asking.study.tell(candidate.run, error=candidate.error or None)
    search.study_, search.scorer_ = asking.study, getattr(scorer, "_scorers", scorer)
    _conclude(search, done, refit_metric)
    if search.refit:
        _refit(search, X, y, settings)


def _require_epochs(search: Any) -> None:
    name = type(search.estimator).__name__
    if search.racing:
        raise StudyError("racing and max_epochs decide about the same candidates: give one of the two.")
    if search.resource is None:
        if not hasattr(search.estimator, "partial_fit"):
            raise StudyError(
                f"max_epochs trains an epoch at a time, and {name} has no partial_fit: name the parameter that its "
                "warm_start counts by, e.g. resource='n_estimators', or leave max_epochs out."
            )
        return
    known = search.estimator.get_params()
    if search.resource not in known or _warm_start(search.resource) not in known:
        raise StudyError(
            f"resource={search.resource!r} needs a parameter of that name and {_warm_start(search.resource)!r}, and "
            f"{name} lacks one: leave max_epochs out, or name another."
        )


def _warm_start(resource: str) -> str:
    """The parameter beside the resource that has fits continue, in a pipeline too."""
    owner, separator, _ = resource.rpartition("__")
    return f"{owner}{separator}warm_start"


def _made(search: Any, params: dict[str, Any]) -> Any:
    """The estimator of a candidate, untrained."""
    return clone(search.estimator).set_params(**clone(params, safe=False))


def _rounds(batch: list[Candidate]) -> Iterator[list[Candidate]]:
    """Those of a batch that train one epoch more, until there are none."""
    live = batch
    while live := [candidate for candidate in live if not candidate.error and next(candidate.epochs, None) is not None]:
        yield live


def _train_all(
    live: list[Candidate], parallel: Any, data: tuple[Any, Any, Any], settings: Settings, refit: Any, metric: str
) -> None:
    """One epoch of every candidate on every split, and what its run is told of it."""
    X, y, splits = data
    trained = parallel(
        delayed(_epoch)(estimator, X, y, split, candidate.run.step + 1, settings)
        for candidate in live
        for estimator, split in zip(candidate.estimators, splits, strict=True)
    )
    for index, candidate in enumerate(live):
        mine = trained[index * len(splits) : (index + 1) * len(splits)]
        candidate.estimators, rows = [estimator for estimator, _ in mine], [row for _, row in mine]
        candidate.error = next((row["fit_error"] for row in rows if row["fit_error"]), "")
        if candidate.error:
            candidate.rows = candidate.rows if candidate.best_epoch else rows
            continue
        mean = float(np.mean([score_of(row["test_scores"], refit) for row in rows]))
        if mean > candidate.best or not candidate.rows:
            candidate.best, candidate.best_epoch, candidate.rows = mean, candidate.run.step + 1, rows
        candidate.run.report({metric: mean})


def _epoch(estimator: Any, X: Any, y: Any, split: Any, epoch: int, settings: Settings) -> tuple[Any, Row]:
    """Train one epoch on the training part of a split, and score."""
    train, test = split
    X_train, y_train = _safe_split(estimator, X, y, train)
    X_test, y_test = _safe_split(estimator, X, y, test, train)
    begun = time.time()
    row: Row = {"fit_error": None, "n_test_samples": len(test), "score_time": 0.0}
    try:
        fit_params = _check_method_params(X, params=settings.fit_params, indices=train)
        _advance(estimator, X_train, y_train, epoch, settings.resource, y, fit_params)
        row["fit_time"] = time.time() - begun
        row["test_scores"] = _scores(estimator, X_test, y_test, X, test, settings)
        if settings.train_scores:
            row["train_scores"] = _scores(estimator, X_train, y_train, X, train, settings)
        row["score_time"] = time.time() - begun - row["fit_time"]
    except Exception:
        if settings.error_score == "raise":
            raise
        row |= {"fit_error": traceback.format_exc(), "fit_time": time.time() - begun}
    return estimator, row


def _scores(estimator: Any, X_part: Any, y_part: Any, X: Any, rows: Any, settings: Settings) -> Any:
    params = _check_method_params(X, params=settings.score_params, indices=rows)
    return settings.scorer(estimator, X_part, *(() if y_part is None else (y_part,)), **params)


def _advance(
    estimator: Any, X: Any, y: Any, epoch: int, resource: str | None, y_all: Any, fit_params: dict[str, Any]
) -> None:
    """Epoch number `epoch`, from 1, of an estimator that has trained those before it."""
    targets = () if y is None else (y,)
    if resource is not None:
        estimator.set_params(**{resource: epoch, _warm_start(resource): True}).fit(X, *targets, **fit_params)
    elif epoch == 1 and "classes" in inspect.signature(estimator.partial_fit).parameters:
        estimator.partial_fit(X, *targets, classes=np.unique(y_all), **fit_params)  # a split may lack a class
    else:
        estimator.partial_fit(X, *targets, **fit_params)


def _conclude(search: Any, done: list[Candidate], refit_metric: str) -> None:
    """The table of all candidates, each at its best epoch, and the winner."""
    known = next((row for candidate in done for row in candidate.rows if "test_scores" in row), None)
    if known is None:
        raise ValueError(f"All fits failed. The last error:\n{done[-1].error}")
    search.multimetric_ = isinstance(known["test_scores"], dict)
    if search.multimetric_:
        refit_metric = search.refit
    rows = [row for candidate in done for row in candidate.rows]
    out = [like(known, search.error_score, seconds=row["fit_time"]) if row["fit_error"] else row for row in rows]
    table = BaseSearchCV._format_results(search, [candidate.params for candidate in done], search.n_splits_, out, {})
    cut = np.array([candidate.run.stopped_by_study for candidate in done])
    table["n_epochs"] = np.array([candidate.run.step for candidate in done])
    table["best_epoch"] = np.array([candidate.best_epoch for candidate in done])
    table["stopped"] = cut
    for key in [key for key in table if key.startswith("rank_test_")]:
        table[key] = ranks(table[f"mean_{key.removeprefix('rank_')}"], ~cut)
    search.cv_results_ = table
    search.best_index_ = search._select_best_index(search.refit, refit_metric, table)
    if not callable(search.refit):
        search.best_score_ = table[f"mean_test_{refit_metric}"][search.best_index_]
    search.best_params_ = table["params"][search.best_index_]
    search.best_epoch_ = int(table["best_epoch"][search.best_index_])


def _refit(search: Any, X: Any, y: Any, settings: Settings) -> None:
    """Train the winner on all data, for as many epochs as were best."""
    begun = time.time()
    search.best_estimator_ = _made(search, search.best_params_)
    for epoch in range(1, max(1, search.best_epoch_) + 1):
        _advance(search.best_estimator_, X, y, epoch, settings.resource, y, settings.fit_params)
    search.refit_time_ = time.time() - begun
    if hasattr(search.best_estimator_, "feature_names_in_"):
        search.feature_names_in_ = search.best_estimator_.feature_names_in_
