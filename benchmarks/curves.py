"""How well curve models foretell recorded trainings of families that they were not fitted to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks import tables
from benchmarks.figures import Figure, Settings
from benchmarks.fit_mixture import FAMILIES, Batch, collected, examples, family, fitted
from foretell.curve_models import Prediction
from foretell.curve_models._experts import movement
from foretell.curve_models._runs import Runs
from foretell.curve_models.mixture import mixed
from foretell.curve_models.power_law import extrapolated

TITLE = "forecasts of final losses, each family foretold by a gate fitted to the others"
POINTS = ((1, 1), (2, 3), (4, 6), (8, 12), (16, 24))  # epochs seen, from and to
COVER, BOOTSTRAPS, FLOOR = 0.9, 1000, -12.0
Array = NDArray[np.float64]


def measure(settings: Settings) -> Iterator[Figure]:
    """Coverage by family and pooled, and the likelihood beside last value and power law by epochs seen."""
    folder = tables.data_folder(settings.data)
    there = [name for name in FAMILIES if name in tables.families(folder)]
    batches = collected(tables.load(folder, *there))
    if settings.quick:
        batches = batches[::40]
    rng = np.random.default_rng(0)
    inside: list[tuple[str, float]] = []
    gains: dict[tuple[int, int], list[tuple[str, float, float, float]]] = {span: [] for span in POINTS}
    for name in there:
        others = [batch for batch in batches if family(batch.task) != name]
        left_out = [batch for batch in batches if family(batch.task) == name]
        gate = fitted(examples(others, "final"))
        stretches = {"last": _stretch(_last, others), "power": _stretch(_power, others)}
        covered = []
        for batch in left_out:
            rows = examples([batch], "final")
            prediction = mixed(rows.opinions, gate)
            tail = (1 - COVER) / 2
            hits = (prediction.quantile(tail) <= batch.final) & (batch.final <= prediction.quantile(1 - tail))
            covered.append((batch.task, float(hits.mean())))
            for span, found in gains.items():
                if span[0] <= batch.epoch <= span[1]:
                    rivals = (_stretched(_last(batch.runs), stretches["last"]),
                              _stretched(_power(batch.runs), stretches["power"]))  # fmt: skip
                    found.append((batch.task, *(_likelihood(each, batch) for each in (prediction, *rivals))))
        inside += covered
        low, high = _interval(covered, rng)
        yield Figure(f"covered, {name}", "share of 90 % intervals", _mean(covered), goal=0.8, more_is_better=True,
                     note=f"95 % of bootstraps over tasks: {low:.3f} to {high:.3f}")  # fmt: skip
    low, high = _interval(inside, rng)
    yield Figure("covered, all families alike", "share of 90 % intervals", _mean(inside), goal=0.87,
                 more_is_better=True, note=f"at most 0.93 is wanted; {low:.3f} to {high:.3f}")  # fmt: skip
    for (first, last), found in gains.items():
        if not found:
            continue
        ours, persisting, power = (_mean([(row[0], row[k]) for row in found]) for k in (1, 2, 3))
        seen = f"{first} to {last} epochs" if last > first else f"{first} epoch"
        note = f"{ours:.2f} nats; last value {persisting:.2f}, power law {power:.2f}, their widths fitted to the others"
        yield Figure(
            f"likelihood after {seen}", "times last value's", math.exp(ours - persisting), goal=1.0,
            more_is_better=True, note=note,
        )  # fmt: skip


def _last(runs: Runs) -> Prediction:
    return Prediction.normal(runs.last, movement(runs))


def _power(runs: Runs) -> Prediction:
    return extrapolated(runs)


def _stretched(prediction: Prediction, factor: float) -> Prediction:
    return replace(prediction, sds=prediction.sds * factor)


def _stretch(model: object, batches: Sequence[Batch]) -> float:
    """The factor on a baseline's widths that is most likely, so that it loses by its shape and not by its scale."""
    factors = np.exp(np.linspace(-2.0, 4.0, 25))
    chosen = batches[:: max(1, len(batches) // 300)]
    made = [model(batch.runs) for batch in chosen]  # type: ignore[operator]
    totals = [
        _mean(
            [
                (batch.task, _likelihood(_stretched(each, factor), batch))
                for batch, each in zip(chosen, made, strict=True)
            ]
        )
        for factor in factors.tolist()
    ]
    return float(factors[int(np.argmax(totals))])


def _likelihood(prediction: Prediction, batch: Batch) -> float:
    """Mean logarithm of the density of what came, in spreads of the task; a single miss costs no more than 12 nats."""
    away = (batch.final[:, None] - prediction.means) / prediction.sds
    density = (prediction.weights * np.exp(-0.5 * away**2) / prediction.sds).sum(axis=1) / np.sqrt(2 * np.pi)
    with np.errstate(divide="ignore"):
        return float(np.maximum(np.log(density * batch.spread), FLOOR).mean())


def _mean(rows: Sequence[tuple[str, float]]) -> float:
    """Families count alike, and tasks within a family."""
    tasks: dict[str, list[float]] = {}
    for task, value in rows:
        tasks.setdefault(task, []).append(value)
    families: dict[str, list[float]] = {}
    for task, values in tasks.items():
        families.setdefault(family(task), []).append(float(np.mean(values)))
    return float(np.mean([np.mean(values) for values in families.values()]))


def _interval(rows: Sequence[tuple[str, float]], rng: np.random.Generator) -> tuple[float, float]:
    """Of the mean, by resampling tasks within their families."""
    tasks: dict[str, list[float]] = {}
    for task, value in rows:
        tasks.setdefault(task, []).append(value)
    by_family: dict[str, Array] = {}
    for name in {family(task) for task in tasks}:
        by_family[name] = np.array([np.mean(values) for task, values in tasks.items() if family(task) == name])
    draws = [
        np.mean([values[rng.integers(len(values), size=len(values))].mean() for values in by_family.values()])
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
