"""What each stopping rule saves on recorded trainings and what it gives up, and what an update of its state costs.

Every rule is asked at each epoch of a run, as `Run` asks it, and its run is compared with the one trained to its end.
Losses are measured in spreads: the distance from the median of a task's best losses to the best of them. Families
count alike, and tasks within a family. Without --quick, the table of docs/stopping.md and docs/stopping.svg are made
anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

import foretell as ft
from benchmarks import tables
from benchmarks.figures import ROOT, Figure, Settings, number
from benchmarks.fit_mixture import FAMILIES as FITTED
from benchmarks.fit_mixture import collected, examples, family, fitted
from benchmarks.stopping_plot import comparable, draw, front
from foretell.curve import Curve, Report
from foretell.curve_models import CurveModel, Prediction
from foretell.curve_models._experts import ask
from foretell.curve_models._runs import alone
from foretell.curve_models.mixture import mixed
from foretell.objective import Objective
from foretell.record import Record
from foretell.stopping import RunContext, StoppingRule
from foretell.stopping.forecast import Forecast

TITLE = "stopping rules: an update of each, and what they save and give up on recorded trainings"
FAMILIES = ("deepobs", "momo", "lcbench", "mlp", "lr_scheduling")
GOAL_US, POINTS = 2.0, 2000
RUNS, BEST = 30, 10  # of each task that are looked at: any, and of the best tenth
NOTICED = 0.05  # spreads; who gives up more was stopped wrongly
TRAINING = "train_loss"
PAGE, PLOT, MARKS = ROOT / "docs/stopping.md", ROOT / "docs/stopping.svg", ("<!-- recorded -->\n", "<!-- /recorded -->")
Array = NDArray[np.float64]
Make = Callable[[int], StoppingRule]


def rules(model: CurveModel | None = None) -> dict[str, tuple[str, Make]]:
    """The group of each rule by its name, and how it is made for a horizon: defaults, where there are any."""
    fixed: dict[str, tuple[str, StoppingRule]] = {
        f"Patience({checks})": ("patience", ft.Patience(checks)) for checks in (3, 5, 10, 20)
    }
    for dialect, checks in DIALECTS.items():
        name = f"PatienceLike({dialect!r}{f', {checks}' if checks else ''})"
        fixed[name] = ("patience of others", ft.PatienceLike(dialect, checks))
    fixed |= {
        "RelativeChange()": ("flat", ft.RelativeChange()),
        "GeneralizationLoss()": ("Prechelt", ft.GeneralizationLoss()),
        "SuccessiveIncreases()": ("Prechelt", ft.SuccessiveIncreases()),
        "ProgressQuotient()": ("Prechelt", ft.ProgressQuotient()),
        f"ProgressQuotient(training={TRAINING!r})": ("Prechelt", ft.ProgressQuotient(training=TRAINING)),
        "Forecast()": ("forecast", Forecast(model=model)),
        "Forecast(0.2)": ("forecast", Forecast(0.2, model=model)),
    }
    made: dict[str, tuple[str, Make]] = {name: (group, _always(rule)) for name, (group, rule) in fixed.items()}
    for share in (0.25, 0.5, 0.75):
        made[f"EpochLimit at {share:.0%}"] = ("epoch limit", _limited(share))
    return made


# Those without a patience of their own get ours of the table.
DIALECTS = {
    "keras": None, "lightning": None, "hf": None, "ignite": 10, "ignite_cumulative": 10, "skorch": None,
    "sklearn_mlp": None, "sklearn_hgb": None, "xgboost": 10, "lightgbm": 10,
}  # fmt: skip


def measure(settings: Settings) -> Iterator[Figure]:
    """Microseconds of an update, then the share of the epochs that are trained under each rule."""
    for name, (group, make) in rules().items():
        if group not in ("forecast", "epoch limit"):  # these keep no state
            yield Figure(f"update of {name}", "us CPU", _update(make(50)), goal=GOAL_US)
    folder = tables.data_folder(settings.data)
    there = [name for name in FAMILIES if name in tables.families(folder)]
    tasks = tables.load(folder, *there)
    models = {} if settings.quick else _left_out(folder, there)
    count = (2, 1) if settings.quick else (RUNS, BEST)
    found = [row for task in tasks for row in rows(task, models.get(family(task.name)), *count)]
    summary = summed(found)
    for line in summary:
        yield Figure(f"epochs trained under {line.rule}", "share", 1 - line.saved,
                     note=f"gives up {number(line.given_up)} spreads")  # fmt: skip
    if not settings.quick:
        write(PAGE, table(summary))
        draw(PLOT, summary)


# --- one run ----------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule did to one run.

    Args:
        saved: share of the epochs that were not trained.
        given_up: by how much its best loss is worse than that of the whole run, in spreads, at most 1: how hopeless the
            hopeless runs became is of no matter.
        stopped: whether it was ended before its end.
    """

    saved: float
    given_up: float
    stopped: bool


def outcome(rule: StoppingRule, losses: Array, training: Array | None, spread: float) -> Outcome:
    """Let a rule follow a recorded run, which ends by itself where it diverged.

    Args:
        rule: that is asked at each epoch but the last.
        losses: (epochs,) the first finite.
        training: (epochs,) training losses, if they were recorded.
        spread: of the task, > 0.
    """
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    context, curve, state = RunContext(Objective("loss"), len(losses)), Curve(), rule.init()
    step = 0
    for step, loss in enumerate(losses[:end].tolist(), start=1):
        curve.append(step, loss)
        metrics = {"loss": loss} | ({} if training is None else {TRAINING: float(training[step - 1])})
        state = rule.update(state, Report(step, loss, 0.0, metrics))
        if step < end and rule.check(curve, state, context).stop:
            break
    given_up = (curve.best - float(losses[:end].min())) / spread
    return Outcome(1 - step / end, min(given_up, 1.0), step < end)


# --- many -------------------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Row:
    """The outcomes of one rule on one task: of any runs, and of those of the best tenth."""

    task: str
    rule: str
    group: str
    any: tuple[Outcome, ...]
    best: tuple[Outcome, ...]


def rows(task: tables.Task, model: CurveModel | None, count: int, best_count: int) -> Iterator[Row]:
    """Every rule on some runs of a task; none if its runs do not differ."""
    rng = np.random.default_rng(0)
    started = np.flatnonzero(np.isfinite(task.values[:, 0]))
    values = task.values[started]
    before = np.logical_and.accumulate(np.isfinite(values), axis=1)  # the divergence
    lowest = np.where(before, values, np.inf).min(axis=1)
    spread = float(np.median(lowest) - lowest.min())
    if not spread > 0:
        return
    tenth = started[np.argsort(lowest, kind="stable")[: max(1, len(started) // 10)]]
    chosen = [rng.choice(pool, min(many, len(pool)), replace=False) for pool, many in
              ((started, count), (tenth, best_count))]  # fmt: skip
    training = task.others.get(TRAINING)
    for name, (group, make) in rules(model).items():
        if TRAINING in name and training is None:
            continue
        rule = make(task.horizon)
        done = [tuple(outcome(rule, task.values[run], None if training is None else training[run], spread)
                      for run in runs) for runs in chosen]  # fmt: skip
        yield Row(task.name, name, group, *done)


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One rule over all tasks: shares of epochs saved, of runs stopped, and wrongly; losses given up in spreads."""

    rule: str
    group: str
    saved: float
    given_up: float
    given_up_by_best: float
    stopped: float
    wrongly: float


def summed(found: Sequence[Row]) -> list[Line]:
    """Means in which families count alike, and tasks within them."""
    lines = []
    for rule, group in {row.rule: row.group for row in found}.items():
        own = [row for row in found if row.rule == rule]

        def mean(value: Callable[[Outcome], float], part: str = "any", own: Sequence[Row] = own) -> float:
            by_family: dict[str, list[float]] = {}
            for row in own:
                values = [value(one) for one in getattr(row, part)]
                by_family.setdefault(family(row.task), []).append(float(np.mean(values)))
            return float(np.mean([np.mean(tasks) for tasks in by_family.values()]))

        lines.append(Line(
            rule, group, mean(lambda one: one.saved), mean(lambda one: one.given_up),
            mean(lambda one: one.given_up, "best"), mean(lambda one: one.stopped),
            mean(lambda one: one.given_up > NOTICED),
        ))  # fmt: skip
    return lines


def table(lines: Sequence[Line]) -> str:
    """The lines as Markdown; bold is what no other rule beats in epochs saved and loss given up."""
    best = front(comparable(lines))
    head = ("rule", "epochs saved", "given up", "by the best tenth", "stopped", "wrongly")
    cells = [
        (_name(line.rule, bold=line in best), f"{line.saved:.0%}", f"{line.given_up:.3f}",
         f"{line.given_up_by_best:.3f}", f"{line.stopped:.0%}", f"{line.wrongly:.0%}")
        for line in lines
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *cells)) + "\n"


def _name(rule: str, *, bold: bool) -> str:
    text = f"`{rule}`" if "(" in rule else rule
    return f"**{text}**" if bold else text


def write(page: Path, text: str) -> None:
    """Put a table between the marks of a page."""
    before, begin, rest = page.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise ValueError(f"{page.name} has lost its marks {MARKS[0].strip()} ... {MARKS[1]}: put them back.")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


# --- what they share --------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class LeftOut:
    """The mixture with a gate that has not seen the family it is asked about."""

    gate: Mapping[str, Any]

    def forecast(self, record: Record, trials: NDArray[np.int64]) -> Prediction:
        """Rules ask about a run alone."""
        raise NotImplementedError

    def alone(self, curve: Curve, horizon: int) -> Prediction:
        """The lowest loss to come."""
        return mixed(ask(alone(curve, horizon)), dict(self.gate))


def _left_out(folder: Path, there: Sequence[str]) -> dict[str, CurveModel]:
    known = [name for name in FITTED if name in tables.families(folder)]
    batches = collected(tables.load(folder, *known))
    return {
        name: LeftOut(fitted(examples([batch for batch in batches if family(batch.task) != name], "best")))
        for name in there
    }


def _update(rule: StoppingRule) -> float:
    rng = np.random.default_rng(0)
    points = [
        Report(step, loss, step / 10, {"loss": loss, TRAINING: loss})
        for step, loss in enumerate((np.geomspace(1, 0.1, POINTS) + rng.normal(0, 0.02, POINTS)).tolist(), start=1)
    ]
    state, update, begun = rule.init(), rule.update, time.process_time()
    for point in points:
        state = update(state, point)
    return 1e6 * (time.process_time() - begun) / POINTS


def _always(rule: StoppingRule) -> Make:
    return lambda horizon: rule


def _limited(share: float) -> Make:
    return lambda horizon: ft.EpochLimit(max(1, round(share * horizon)))
