"""Candidates of a scikit-learn search raced over its splits: who is behind on the first few is scored on no more.

It works through `evaluate_candidates`, which `BaseSearchCV` hands to its subclasses, so that fitting, scoring, routing
and failing are scikit-learn's own.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.exceptions import FitFailedWarning

from foretell.errors import MetricError

Row = dict[str, Any]  # what scikit-learn returns of one fit: test_scores, fit_time, ...


class Incumbent(NamedTuple):
    """The best candidate that was scored on every split."""

    mean: float
    worst: float


@final
class Splits:
    """The splits of a search, made once, and handed out a few at a time."""

    def __init__(self, cv: Any, count: int) -> None:
        self.cv, self.count, self.wanted = cv, count, range(count)
        self._all: list[Any] | None = None

    def split(self, X: Any, y: Any = None, **params: Any) -> list[Any]:
        """Those that are wanted now."""
        if self._all is None:
            self._all = list(self.cv.split(X, y, **params))
        if len(self._all) != self.count:
            raise ValueError(
                f"cv.split gives {len(self._all)} splits and cv.get_n_splits says {self.count}: the results would be "
                "inconsistent. Correct one of the two."
            )
        return [self._all[index] for index in self.wanted]


@final
class Race:
    """Scores candidates in batches, and keeps what came of every split.

    Args:
        search: the search, being fitted.
        evaluate: the function that `BaseSearchCV.fit` gave to `_run_search`.
        racing: whether to leave out splits that cannot change the outcome any more.

    Source: Bergman, Purucker and Hutter, Don't Waste Your Time: Early Stopping Cross-Validation, AutoML 2024 (the
    "forgiving" rule).
    """

    def __init__(self, search: Any, evaluate: Callable[..., Any], *, racing: bool) -> None:
        self._search, self._evaluate, self._racing = search, evaluate, racing
        self._splits = Splits(search._checked_cv_orig, search.n_splits_)
        self.params: list[dict[str, Any]] = []
        self.rows: list[dict[int, Row | None]] = []  # None where all fits of a batch failed, and so left nothing
        self.stopped: list[str] = []  # why, in words; "" if it was scored on every split
        self.collected: dict[str, Any] = {}  # what scikit-learn takes for the results
        self.incumbent: Incumbent | None = None
        self.slots = slots_of(search)
        self._failure: ValueError | None = None

    def evaluate(self, candidate_params: Iterable[dict[str, Any]], **unused: Any) -> dict[str, Any]:
        """In place of scikit-learn's function of this name: the same candidates, raced."""
        candidates = list(candidate_params)
        if not candidates:
            raise ValueError("No fits were performed: there were no candidates.")
        for start in range(0, len(candidates), self.slots):
            self.batch(candidates[start : start + self.slots])
        return self.collected

    def batch(self, candidates: Sequence[dict[str, Any]]) -> range:
        """Score some candidates side by side; returns their numbers."""
        numbers = range(len(self.params), len(self.params) + len(candidates))
        self.params += candidates
        self.rows += [{} for _ in candidates]
        self.stopped += ["" for _ in candidates]
        live, done, count = list(numbers), 0, self._splits.count
        while live and done < count:
            races = self._racing and self.incumbent is not None
            width = min(count - done, max(1, self.slots // len(live))) if races else count - done
            self._score(live, range(done, done + width))
            done += width
            if races and done < count:
                live = [number for number in live if not self._is_behind(number)]
        for number in live:
            scores = self.scores(number)
            if np.isfinite(scores).all() and (self.incumbent is None or scores.mean() > self.incumbent.mean):
                self.incumbent = Incumbent(float(scores.mean()), float(scores.min()))
        return numbers

    def scores(self, number: int) -> NDArray[np.float64]:
        """(splits scored,) what a candidate got so far, by the metric that counts."""
        error = self._search.error_score
        rows, refit = self.rows[number].values(), self._search.refit
        return np.array([error if row is None else score_of(row["test_scores"], refit) for row in rows], float)

    def _is_behind(self, number: int) -> bool:
        """Forgiving: behind is who has a worse mean so far than the incumbent's worst single split."""
        assert self.incumbent is not None
        scores, (_, worst) = self.scores(number), self.incumbent
        if not np.isfinite(scores).all():
            self.stopped[number] = "a fit failed or has no finite score"
        elif scores.mean() < worst:
            self.stopped[number] = (
                f"mean {scores.mean():.4g} of {len(scores)} splits is under the incumbent's worst split, {worst:.4g}"
            )
        return bool(self.stopped[number])

    def _score(self, live: list[int], splits: range) -> None:
        search = self._search
        self._splits.wanted, search.n_splits_ = splits, len(splits)
        before = len(self.collected.get("out", ()))
        try:
            self._evaluate([self.params[number] for number in live], cv=self._splits)
        except ValueError as failure:
            # scikit-learn takes it for the end of a search if all fits of one call fail; it is the end of these alone.
            if search.error_score == "raise" or not re.match(r"\s*All the \d+ fits failed", str(failure)):
                raise
            warnings.warn(str(failure), FitFailedWarning, stacklevel=2)
            self._failure = failure
            fresh: Iterator[Row | None] = iter([None] * (len(live) * len(splits)))
        else:
            fresh = iter(self.collected["out"][before:])
        finally:
            search.n_splits_ = self._splits.count
        for number in live:
            for split in splits:
                self.rows[number][split] = next(fresh)

    # ------------------------------------------------------------------ the table

    def finish(self, format_results: Callable[..., dict[str, Any]], *, columns: bool) -> None:
        """Make the results from all that was collected.

        Args:
            format_results: scikit-learn's `_format_results`.
            columns: whether the table says how many splits were scored, and who was stopped.

        Raises:
            ValueError: every fit failed.
        """
        known = [row for rows in self.rows for row in rows.values() if row is not None]
        if not known:
            assert self._failure is not None
            raise self._failure
        count = self._splits.count
        missing = like(known[0], np.nan, seconds=np.nan)
        failed = like(known[0], self._search.error_score, seconds=0.0)
        out = [
            missing if split not in rows else (rows[split] or failed) for rows in self.rows for split in range(count)
        ]
        scored = np.array([[split in rows for split in range(count)] for rows in self.rows])
        with warnings.catch_warnings():
            if not scored.all():
                warnings.filterwarnings("ignore", message=".* scores are non-finite", category=UserWarning)
            table = format_results(self.params, count, out, {})
        if not scored.all():
            _over_scored(table, out, scored)
        if columns:
            table["n_splits_scored"] = scored.sum(axis=1)
            table["stopped"] = np.array([bool(reason) for reason in self.stopped])
        self.collected.clear()
        self.collected.update(table)


def slots_of(search: Any) -> int:
    """How many fits of a search run at once."""
    jobs = int(search.n_jobs or 1)
    return jobs if jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + jobs)


def score_of(scores: Any, refit: Any) -> float:
    """The score that counts among those of one fit.

    Raises:
        MetricError: there are several, and `refit` names none of them.
    """
    if not isinstance(scores, dict):
        return float(scores)
    if not isinstance(refit, str) or refit not in scores:
        raise MetricError(
            f"The search has the metrics {', '.join(scores)}, and must know which one to follow: give "
            f"refit={next(iter(scores))!r} or another of them."
        )
    return float(scores[refit])


def like(row: Row, score: Any, *, seconds: float) -> Row:
    """A row without a fit, in the form of another."""
    blank: Row = {"fit_error": None, "fit_time": seconds, "score_time": seconds, "n_test_samples": 0}
    for key in ("test_scores", "train_scores"):
        if key in row:
            blank[key] = dict.fromkeys(row[key], score) if isinstance(row[key], dict) else score
    return blank


def _over_scored(table: dict[str, Any], out: list[Row], scored: NDArray[np.bool_]) -> None:
    """Means and deviations over the splits that were scored, and ranks in which a stopped candidate is behind."""
    complete: NDArray[np.bool_] = np.asarray(scored.all(axis=1))
    for key in [key.removeprefix("mean_") for key in table if key.startswith("mean_")]:
        if f"split0_{key}" in table:
            values = np.column_stack([table[f"split{split}_{key}"] for split in range(scored.shape[1])])
        else:
            values = np.array([row[key] for row in out], dtype=float).reshape(scored.shape)
        mean = np.where(scored, values, 0.0).sum(axis=1) / scored.sum(axis=1)
        spread = np.where(scored, (values - mean[:, None]) ** 2, 0.0).sum(axis=1) / scored.sum(axis=1)
        table[f"mean_{key}"] = np.where(complete, table[f"mean_{key}"], mean)
        table[f"std_{key}"] = np.where(complete, table[f"std_{key}"], np.sqrt(spread))
        if f"rank_{key}" in table:
            table[f"rank_{key}"] = ranks(table[f"mean_{key}"], complete)


def ranks(means: NDArray[np.float64], complete: NDArray[np.bool_]) -> NDArray[np.int32]:
    """1 is the best; those without a finite mean come last, and those that were stopped before them."""
    keys = np.where(np.isfinite(means), means, 0.0)
    groups = np.where(~np.isfinite(means), 0, np.where(complete, 2, 1))
    order = rankdata(-keys, method="dense")
    return np.asarray(rankdata(order - groups * (order.max() + 1), method="min"), dtype=np.int32)
