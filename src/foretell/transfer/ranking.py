"""Which source to start from: candidates scored on a sample of the target's own data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import combinations
from typing import Any, final

import numpy as np

from foretell.errors import did_you_mean
from foretell.transfer import TransferError, _features, _scores
from foretell.transfer._probe import Held, as_targets, folds, held_out
from foretell.transfer._scores import Array, Integers, Spectrum
from foretell.transfer._shortlist import Figure, Ranked, Shortlist

__all__ = ["rank", "Candidate", "Figure", "Ranked", "Shortlist"]

_FOLDS = 5
_RESAMPLES = 500
_FEWEST = 10
_NORMAL = 1.96
_DOUBTFUL = 0.7  # share of resamples below which the first is not told from the second

_OF_FEATURES: dict[str, Callable[[Spectrum, Integers, Array], float]] = {
    "logme": lambda features, classes, targets: _scores.logme(features, targets),
    "h_score": lambda features, classes, targets: _scores.h_score(features, classes),
    "transrate": lambda features, classes, targets: _scores.transrate(features, classes),
}
_OF_OUTPUTS = {"leep": _scores.leep, "nce": _scores.nce}
_FOR_VALUES = {"logme"}
KNOWN = (*_OF_FEATURES, *_OF_OUTPUTS)

_WEIGHTS = {"size": 1.0, "accuracy": 0.3, "domain": 1.0, "cost": -0.1}
"""Of the prior, in logits of the probe's accuracy: by decade, by logit, for a full match, by decade."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A source, with what is known of it.

    Args:
        source: (n, d) features of the target's samples; or a torch or Keras model, which is run on `rank`'s inputs; or
            a function of those inputs that returns features.
        prepare: what brings the inputs into the form that a model takes.
        probabilities: (n, source classes) what the source says of the target's samples; a model's own if left out.
        parameters: how many weights it has, > 0; a model's own if left out.
        accuracy: on the source's own task, in (0, 1).
        domain: how near its data is to the target's, in [0, 1], in your judgement.
        cost: seconds to run a thousand samples, > 0; measured if left out.
    """

    source: Any
    _: KW_ONLY
    prepare: Callable[[Any], Any] | None = None
    probabilities: Any = None
    parameters: float | None = None
    accuracy: float | None = None
    domain: float | None = None
    cost: float | None = None


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """The target's data: `classes` is None where the labels are values."""

    rows: Integers
    classes: Integers | None
    targets: Array
    fold: Integers
    draws: Integers


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A candidate after all scores: `skill` is the probe's, on the sample and on each resample."""

    name: str
    candidate: Candidate
    figures: dict[str, Figure]
    skill: float
    skills: Array
    notes: tuple[str, ...]


def rank(
    sources: Mapping[str, Any],
    labels: Any,
    *,
    inputs: Any = None,
    task: str | None = None,
    scores: Iterable[str] = KNOWN,
    samples: int = 2000,
    seed: int = 0,
) -> Shortlist:
    """A shortlist of sources, by what a probe makes of their frozen features and by what is known of them.

    The score is the logit of the probe's accuracy (the mean of five-fold ridge regression and nearest neighbours),
    plus 1.0 for each factor of ten in size, 0.3 for each logit of accuracy on the source's own task, 1.0 for a full
    match of domains, minus 0.1 for each factor of ten in cost; what is not known counts as the mean of the others.

    Args:
        sources: by name: features (n, d), a torch or Keras model, a function of `inputs`, or a `Candidate`.
        labels: (n,) classes of any type, or (n,) or (n, k) values.
        inputs: (n, ...) the target's samples, for models and functions.
        task: "classes" or "values"; by default, labels with a fractional part are values.
        scores: which of "logme", "h_score", "transrate", "leep" and "nce" to compute besides.
        samples: at most so many are used, drawn evenly over the classes.
        seed: of that draw, of the folds and of the resampling.

    Raises:
        TransferError: features that are not finite, all constant, or of another number of samples; a single class.
    """
    wanted = list(scores)
    for name in wanted:
        if name not in KNOWN:
            raise TransferError(f"There is no score {name!r}. {did_you_mean(name, KNOWN)}")
    if not sources:
        raise TransferError("There are no sources: give a dict of names and features or models.")
    sample, notes = _sample(labels, task, samples, seed)
    judged = [_judge(name, source, inputs, len(labels), sample, wanted) for name, source in sources.items()]
    return _shortlist(judged, sample, notes)


def _sample(labels: Any, task: str | None, samples: int, seed: int) -> tuple[_Sample, list[str]]:
    array = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    if task not in (None, "classes", "values"):
        raise TransferError(f"task={task!r} is neither 'classes' nor 'values'.")
    if len(array) < _FEWEST:
        raise TransferError(f"There are {len(array)} labels: a ranking needs at least {_FEWEST}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise TransferError(f"{int((~np.isfinite(array)).sum())} labels are not finite: drop their samples.")
    is_values = task == "values" or (task is None and array.dtype.kind == "f" and bool((array % 1 != 0).any()))
    rng, notes = np.random.default_rng(seed), list[str]()
    classes = None
    if not is_values:
        if array.ndim != 1:
            raise TransferError(f"Labels of shape {array.shape} are no classes: give one for each sample.")
        names, classes = np.unique(array, return_inverse=True)
        if len(names) < 2:
            raise TransferError(f"All labels are {names[0]!r}: there is nothing to tell apart.")
    elif np.ptp(array, axis=0).max() == 0:
        raise TransferError("All values are equal: there is nothing to predict.")
    rows = np.arange(len(array))
    if len(rows) > samples:
        rows = np.sort(np.flatnonzero(folds(classes, len(rows), math.ceil(len(rows) / samples), rng) == 0))
        notes.append(f"{len(rows)} of {len(array)} samples were used.")
    if classes is not None:
        kept, counts = np.unique(classes[rows], return_counts=True)
        notes += _class_notes(names, kept, counts)
        classes = np.searchsorted(kept, classes[rows])
    targets = as_targets(classes, array[rows].astype(np.float64) if is_values else np.empty(0))
    fold = folds(classes, len(rows), _FOLDS, rng)
    return _Sample(rows, classes, targets, fold, rng.integers(0, len(rows), (_RESAMPLES, len(rows)))), notes


def _class_notes(names: Any, kept: Any, counts: Any) -> Iterator[str]:
    absent = [str(name) for place, name in enumerate(names) if place not in set(kept.tolist())]
    if absent:
        yield f"Classes without a sample in the draw were left out: {', '.join(absent)}."
    rare = [str(names[place]) for place, count in zip(kept, counts, strict=True) if count < _FOLDS]
    if rare:
        yield f"Classes with fewer than {_FOLDS} samples, which some folds cannot learn: {', '.join(rare)}."


def _judge(name: str, source: Any, inputs: Any, count: int, sample: _Sample, wanted: Sequence[str]) -> _Judged:
    candidate = source if isinstance(source, Candidate) else Candidate(source)
    began = time.perf_counter()
    features, candidate = _gather(name, candidate, inputs, count, sample.rows)
    features, notes = _checked(name, features)
    gathering = time.perf_counter() - began
    began = time.perf_counter()
    whole = _scores.spectrum(features)
    # Without the features' scale and in as few columns as they span, every fold costs less.
    coordinates = whole.coordinates / math.sqrt((whole.values**2).mean())
    trained = [_scores.spectrum(coordinates[sample.fold != one], width=whole.width, fast=True) for one in range(_FOLDS)]
    held = held_out(coordinates, sample.targets, sample.classes, sample.fold, trained)
    seconds = (time.perf_counter() - began + gathering) / 2
    figures = {}
    for kind, outcome in (("linear", held.linear), ("neighbours", held.neighbours)):
        value, drawn = _rated(outcome, sample)
        low, high = np.quantile(drawn, (0.025, 0.975))
        figures[kind] = Figure(float(value), float(low), float(high), seconds)
    skill, skills = _skill(held, sample)
    for kind in wanted:
        figures[kind] = _known(kind, (whole, trained), candidate.probabilities, sample)
    return _Judged(name, candidate, figures, skill, skills, tuple(notes))


def _gather(name: str, candidate: Candidate, inputs: Any, count: int, rows: Integers) -> tuple[Any, Candidate]:
    """The features of the sample, and the candidate with what was learned of it on the way."""
    source, given = candidate.source, candidate.probabilities
    probabilities = None if given is None else np.asarray(given, np.float64)
    if probabilities is not None and (probabilities.ndim != 2 or len(probabilities) != count):
        raise TransferError(
            f"{name}: probabilities of shape {probabilities.shape} for {count} labels: give (n, classes)."
        )
    drawn = None if probabilities is None else probabilities[rows]
    parameters, cost = candidate.parameters, candidate.cost
    if not (_features.is_model(source) or callable(source)):
        features = source.detach().cpu().numpy() if hasattr(source, "detach") else np.asarray(source)
        if features.ndim < 2 or len(features) != count:
            raise TransferError(f"{name}: features of shape {features.shape} for {count} labels: give (n, d).")
        features = features.reshape(count, -1)[rows]
    elif inputs is None or len(inputs) != count:
        raise TransferError(f"{name} has to be run: give inputs=, one for each of the {count} labels.")
    else:
        taken = (inputs if hasattr(inputs, "shape") else np.asarray(inputs))[rows]
        prepared = candidate.prepare(taken) if candidate.prepare else taken
        if _features.is_model(source):
            seen = _features.see(source, prepared)
            features, parameters = seen.features, parameters or seen.parameters
            cost = cost or seen.seconds
            drawn = _softmax(seen.outputs) if drawn is None and seen.outputs is not None else drawn
        else:
            features = np.asarray(source(prepared)).reshape(len(rows), -1)
    return features, Candidate(source, probabilities=drawn, parameters=parameters, accuracy=candidate.accuracy,
                               domain=candidate.domain, cost=cost)  # fmt: skip


def _softmax(outputs: Any) -> Array | None:
    """Probabilities of classes, from logits or from probabilities; None if there is only one output."""
    values = np.asarray(outputs, np.float64)
    if values.shape[1] < 2 or not np.isfinite(values).all():
        return None
    if (values >= 0).all() and np.allclose(values.sum(1), 1.0, atol=1e-3):
        return values
    powers = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _checked(name: str, features: Any) -> tuple[Array, list[str]]:
    if features.dtype.kind not in "fiub":
        raise TransferError(f"{name}: features of type {features.dtype} are no numbers.")
    values = features.astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise TransferError(
            f"{name}: {int(bad.sum())} of {bad.size} features are not finite, in {int(bad.any(1).sum())} samples and "
            f"{int(bad.any(0).sum())} columns: see that its inputs are scaled as it expects."
        )
    spread = np.ptp(values, axis=0)
    constant = spread <= np.abs(values).max(0) * np.finfo(np.float32).eps
    if constant.all():
        raise TransferError(f"{name}: all its features are constant on this data, so it says nothing about it.")
    notes = [f"{constant.sum()} of {constant.size} features are constant and were left out."] if constant.any() else []
    return values[:, ~constant], notes


def _rated(outcome: Array, sample: _Sample) -> tuple[float, Array]:
    """Accuracy, or R², on the sample and on each resample."""
    means = outcome[sample.draws].mean(1)
    if sample.classes is not None:
        return float(outcome.mean()), means
    variance = sample.targets.var(0).sum()
    spreads = np.array([sample.targets[draw].var(0).sum() for draw in sample.draws])
    return 1 - float(outcome.mean()) / variance, 1 - means / np.maximum(spreads, 1e-300)


def _skill(held: Held, sample: _Sample) -> tuple[float, Array]:
    """The logit of the probe's mean rate; half a sample is added on either side, so that it is finite."""
    rates = [_rated(outcome, sample) for outcome in (held.linear, held.neighbours)]
    value, drawn = (rates[0][0] + rates[1][0]) / 2, (rates[0][1] + rates[1][1]) / 2
    count = len(sample.rows)
    return float(_logit(np.float64(value), count)), _logit(drawn, count)


def _logit(rate: Any, count: int) -> Any:
    clipped = (np.clip(rate, 0.0, 1.0) * count + 0.5) / (count + 1)
    return np.log(clipped / (1 - clipped))


def _known(kind: str, features: tuple[Spectrum, list[Spectrum]], probabilities: Any, sample: _Sample) -> Figure:
    """A score from the literature, with an interval by the jackknife over folds."""
    began = time.perf_counter()
    if sample.classes is None and kind not in _FOR_VALUES:
        return Figure(math.nan, math.nan, math.nan, 0.0, "it is for classes, and the labels are values")
    if kind in _OF_OUTPUTS and probabilities is None:
        return Figure(math.nan, math.nan, math.nan, 0.0, "the source gave no probabilities")

    def score(decomposed: Spectrum, rows: Any) -> float:
        classes = np.empty(0, np.intp) if sample.classes is None else sample.classes[rows]
        present = np.unique(classes, return_inverse=True)[1]
        if kind in _OF_OUTPUTS:
            return _OF_OUTPUTS[kind](probabilities[rows], present)
        targets = sample.targets[rows]
        return _OF_FEATURES[kind](decomposed, present, targets[:, np.ptp(targets, axis=0) > 0])

    value = score(features[0], np.arange(len(sample.rows)))
    left = np.array([score(one, sample.fold != group) for group, one in enumerate(features[1])])
    error = math.sqrt((_FOLDS - 1) / _FOLDS * float(((left - left.mean()) ** 2).sum()))
    seconds = time.perf_counter() - began
    return Figure(value, value - _NORMAL * error, value + _NORMAL * error, seconds)


def _shortlist(judged: list[_Judged], sample: _Sample, notes: list[str]) -> Shortlist:
    prior = _prior([one.candidate for one in judged])
    totals = np.array([one.skill + sum(terms.values()) for one, terms in zip(judged, prior, strict=True)])
    drawn = np.array([one.skills + sum(terms.values()) for one, terms in zip(judged, prior, strict=True)])
    first = np.bincount(drawn.argmax(0), minlength=len(judged)) / drawn.shape[1]
    order = np.argsort(-totals, kind="stable")
    ranked = tuple(
        _ranked(judged[place], prior[place], float(totals[place]), float(first[place]), sample) for place in order
    )
    if len(ranked) > 1 and first[order[0]] < _DOUBTFUL:
        notes.append(
            f"{ranked[0].name} came first in only {ranked[0].first:.0%} of resamples: do not trust the order at the "
            "top, but let the first few race."
        )
    task = "values" if sample.classes is None else "classes"
    return Shortlist(ranked, _agreement(ranked), tuple(notes), len(sample.rows), task)


def _ranked(one: _Judged, terms: dict[str, float], total: float, first: float, sample: _Sample) -> Ranked:
    together = {"probe": one.skill} | terms
    return Ranked(one.name, total, first, together, one.figures, _reason(one, terms, sample), one.notes)


def _prior(candidates: list[Candidate]) -> list[dict[str, float]]:
    """What is known of the candidates, against the mean of those of whom it is known."""
    read: dict[str, Callable[[Candidate], float | None]] = {
        "size": lambda one: math.log10(one.parameters) if one.parameters else None,
        "accuracy": lambda one: None if one.accuracy is None else float(_logit(one.accuracy, 1000)),
        "domain": lambda one: one.domain,
        "cost": lambda one: math.log10(one.cost) if one.cost else None,
    }
    found: list[dict[str, float]] = [{} for _ in candidates]
    for kind, of in read.items():
        values = [of(one) for one in candidates]
        known = [value for value in values if value is not None]
        for terms, value in zip(found, values, strict=True):
            if value is not None and len(known) > 1:
                terms[kind] = _WEIGHTS[kind] * (value - sum(known) / len(known))
    return found


def _reason(one: _Judged, terms: Mapping[str, float], sample: _Sample) -> str:
    what = "accuracy" if sample.classes is not None else "R²"
    linear, near = one.figures["linear"], one.figures["neighbours"]
    words = f"{what} {linear.value:.3f} by ridge regression and {near.value:.3f} by neighbours on frozen features"
    known = [f"{kind} {value:+.2f}" for kind, value in terms.items() if value]
    return words + (f"; prior: {', '.join(known)}" if known else "; nothing else is known of it")


def _agreement(ranked: Sequence[Ranked]) -> dict[tuple[str, str], float]:
    if len(ranked) < 3:
        return {}
    columns = {"score": np.array([one.score for one in ranked])}
    for kind in ranked[0].figures:
        values = np.array([one.figures[kind].value for one in ranked])
        if np.isfinite(values).all():
            columns[kind] = values
    return {(one, two): kendall(columns[one], columns[two]) for one, two in combinations(columns, 2)}


def kendall(one: Array, two: Array) -> float:
    """Kendall's tau-b, in [-1, 1]; NaN if either is constant."""
    first, second = np.sign(one[:, None] - one), np.sign(two[:, None] - two)
    scale = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / scale if scale else math.nan
