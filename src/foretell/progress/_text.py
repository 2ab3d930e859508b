"""What every manner of progress says about a study: numbers for people, and the View that is shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from foretell import _family, events
from foretell.budget import Budget
from foretell.curve_models import Prediction
from foretell.record import FoldEvent, Record
from foretell.trial import State, Verdict

_LOOK_BACK = 4000  # events searched for recent decisions: a look at the screen must not cost what the log is long
_CURVE_POINTS = 16
_FEWEST = 3  # epochs, before anything is foretold
_CUT = (State.DONE, State.STOPPED, State.DIVERGED, State.PAUSED)
_BLOCKS = "▁▂▃▄▅▆▇█"


@final
@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of the budget: `what` is "time" (in seconds), "epochs" or "trials"; `left` is seconds to go."""

    what: str
    spent: float
    limit: float
    left: float | None = None

    def __str__(self) -> str:
        if self.what == "time":
            return f"{seconds(self.spent)} / {seconds(self.limit)}"
        return f"{self.spent:,.0f} / {self.limit:,.0f}"


@final
@dataclass(frozen=True, slots=True)
class Outlook:
    """What a training would come to: nine times in ten a value from `worse` to `better`; `chance` to beat the best."""

    better: float
    worse: float
    chance: float


@final
@dataclass(frozen=True, slots=True)
class Training:
    """A trial that is being trained; values are in the user's units, NaN if there is none yet."""

    number: int
    step: int
    until: int | None
    horizon: int | None
    last: float
    best: float
    seconds: float
    curve: tuple[float, ...]
    outlook: Outlook | None = None


@final
@dataclass(frozen=True, slots=True)
class Leader:
    """The trial with the best value."""

    number: int
    value: float
    step: int | None
    params: str
    state: State


@final
@dataclass(frozen=True, slots=True)
class View:
    """All that is shown of a study at one moment.

    Args:
        name: of the study.
        aim: "minimize val_loss".
        metric: "val_loss".
        seconds: wall-clock over all sessions.
        limits: of the budget.
        running: the best of the trials that are being trained, best first.
        more: how many others are.
        best: the winner so far, or None.
        counts: trials by state, those states that have any.
        decisions: the newest, oldest first, in words.
        trained: epochs trained of `planned`.
        planned: epochs of all trials with a known horizon that came to an end or a pause, had they trained in full.
        verdict: why the study ended, or None while it runs.
    """

    name: str
    aim: str
    metric: str
    seconds: float
    limits: tuple[Limit, ...]
    running: tuple[Training, ...]
    more: int
    best: Leader | None
    counts: tuple[tuple[str, int], ...]
    decisions: tuple[str, ...]
    trained: int
    planned: int
    verdict: Verdict | None = None


def view(
    name: str,
    record: Record,
    budget: Budget,
    *,
    now: float | None = None,
    verdict: Verdict | None = None,
    most_running: int = 8,
    most_decisions: int = 5,
) -> View:
    """The study as it stands.

    Args:
        name: of the study.
        record: of the study.
        budget: its limits.
        now: on the clock of the record's events; None means the last event.
        verdict: why it ended, if it has.
        most_running: trainings listed.
        most_decisions: decisions listed.
    """
    objective = record.objective
    ranked = sorted(record.running, key=lambda number: (record.curves[number].best, number))
    outlooks = _outlooks(record, ranked[:most_running])
    trained, planned = epochs(record)
    return View(
        name=name,
        aim=f"{'maximize' if objective.maximizes else 'minimize'} {clean(objective.metric)}",
        metric=clean(objective.metric),
        seconds=record.seconds(now),
        limits=_limits(record, budget, now),
        running=tuple(_training(record, number, outlooks.get(number)) for number in ranked[:most_running]),
        more=max(0, len(ranked) - most_running),
        best=_leader(record, ended=verdict is not None),
        counts=tuple((state.value, count) for state, count in record.counts.items() if count),
        decisions=recent(record, most_decisions),
        trained=trained,
        planned=planned,
        verdict=verdict,
    )


def summary(shown: View) -> list[tuple[str, str]]:
    """What is left to say at the end, as (label, text)."""
    verdict, best = shown.verdict, shown.best
    reason = clean(verdict.reason) if verdict is not None else ""
    lines = [("ended", f"after {seconds(shown.seconds)}: {reason or 'broken off'}")]
    if best is None:
        lines.append(("best", "none: no trial has a usable value"))
    else:
        at = f" at epoch {best.step}" if best.step else ""
        lines += [("best", f"trial {best.number}, {shown.metric} {number(best.value)}{at}"), ("", best.params)]
    lines.append(("trials", counted(shown.counts)))
    if shown.planned:
        lines.append(("epochs", saving(shown)))
    return [(label, text) for label, text in lines if text]


def saving(shown: View) -> str:
    """What early termination saved."""
    trained, planned = shown.trained, shown.planned
    share = f"{trained:,} of {planned:,} epochs trained"
    if trained >= planned:
        return f"all {planned:,} epochs trained"
    if shown.verdict is not None and shown.verdict.rule == "interrupt":
        return f"{share} so far"
    so_far = " so far" if shown.verdict is None else ""
    return f"early termination saved {100 * (1 - trained / planned):.0f} %{so_far} ({share})"


def epochs(record: Record) -> tuple[int, int]:
    """Epochs trained, and epochs in full, of trials that came to an end or a pause and said how many they want.

    What runs has saved nothing yet, and what failed could not have gone on.
    """
    trained = planned = 0
    for trial, horizon in enumerate(record.horizons):
        if horizon is not None and record.states[trial] in _CUT:
            trained += min(horizon, record.steps[trial])
            planned += horizon
    return trained, planned


def recent(record: Record, most: int) -> tuple[str, ...]:
    """The newest decisions in words, oldest first."""
    found: list[str] = []
    end = record.log_length()
    for position in range(end - 1, max(-1, end - 1 - _LOOK_BACK), -1):
        if len(found) >= most:
            break
        text = decision(record, record.event(position))
        if text:
            found.append(text)
    return tuple(reversed(found))


def decision(record: Record, event: FoldEvent) -> str:
    """An event in words, if it tells of something decided: an end, a pause, a resumption. Empty if not."""
    if isinstance(event, events.Granted) and event.reason.startswith("resumed"):
        return f"trial {event.trial} {clean(event.reason)}"
    if not isinstance(event, events.Ended):
        return ""
    failed = event.cause not in ("", "lost", "cancelled")
    word = "failed" if failed else "waits again" if event.state is State.QUEUED else event.state.value
    reason = event.verdict.reason or (_last_line(event.error) if failed else "")
    again = ", will be tried again" if failed and event.state is State.QUEUED else ""
    return f"trial {event.trial} {word} at epoch {event.step}{again}" + (f": {clean(reason)}" if reason else "")


# --- words and numbers -----------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Four digits that count; a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"


def seconds(value: float) -> str:
    """A span of time for people, in its two largest units."""
    if not math.isfinite(value):
        return "–"
    if value < 0.95:
        return f"{value:.2g} s"
    if value < 59.5:
        return f"{value:.1f} s" if value < 9.95 and value % 1 else f"{value:.0f} s"
    whole = round(value)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def params(values: Mapping[str, Any]) -> str:
    """A configuration on one line."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{clean(name)}={clean(str(value))}"
        for name, value in values.items()
    )


def counted(counts: Sequence[tuple[str, int]]) -> str:
    """ "57: 12 done, 45 stopped"."""
    total = sum(count for _, count in counts)
    return f"{total:,}: {', '.join(f'{count:,} {state}' for state, count in counts)}" if counts else "none"


def sparkline(values: Sequence[float], width: int = _CURVE_POINTS) -> str:
    """A curve in one line of blocks, the last value of each stretch; a dot where it is not finite."""
    picked = _picked(values, width)
    finite = [value for value in picked if math.isfinite(value)]
    if not finite:
        return "·" * len(picked)
    low, span = min(finite) / 2, max(finite) / 2 - min(finite) / 2  # halves, for their difference is never infinite
    top = len(_BLOCKS) - 1
    return "".join(
        "·" if not math.isfinite(value) else _BLOCKS[round(top * ((value / 2 - low) / span)) if span > 0 else 0]
        for value in picked
    )


def clean(text: str) -> str:
    """On one line, and without control characters, which could do things to a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _picked(values: Sequence[float], width: int) -> list[float]:
    count = len(values)
    if count <= width:
        return list(values)
    return [values[(index + 1) * count // width - 1] for index in range(width)]


def _last_line(text: str) -> str:
    """Of a traceback: what went wrong. What the training printed follows it and is left out."""
    lines = [line for line in text.partition("\nThe end of its output:")[0].splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _limits(record: Record, budget: Budget, now: float | None) -> tuple[Limit, ...]:
    passed = record.seconds(now)
    found = []
    if budget.seconds is not None:
        found.append(Limit("time", passed, budget.seconds, max(0.0, budget.seconds - passed)))
    if budget.epochs is not None:
        spent = record.epochs_spent
        pace = passed / spent if spent else math.nan
        left = None if math.isnan(pace) else max(0.0, (budget.epochs - spent) * pace)
        found.append(Limit("epochs", spent, budget.epochs, left))
    if budget.trials is not None:
        found.append(Limit("trials", record.started, budget.trials))
    return tuple(found)


def _outlooks(record: Record, trials: Sequence[int]) -> dict[int, Outlook]:
    """Of those trials of which something can be foretold: a few epochs are trained, and some are left."""
    known = [
        trial
        for trial in trials
        if len(record.curves[trial]) >= _FEWEST
        and math.isfinite(record.curves[trial].last.loss)
        and record.steps[trial] < (record.horizons[trial] or 0)
    ]
    if not known:
        return {}
    mixture, value, numbers = _family.load("curve_models", "mixture"), record.objective.value, np.array(known)
    final: Prediction = mixture("final").forecast(record, numbers)
    chances = mixture("best").forecast(record, numbers).below(record.incumbent)
    spans = zip(known, final.quantile(0.05).tolist(), final.quantile(0.95).tolist(), chances.tolist(), strict=True)
    return {trial: Outlook(value(low), value(high), chance) for trial, low, high, chance in spans}


def _training(record: Record, trial: int, outlook: Outlook | None) -> Training:
    curve, objective = record.curves[trial], record.objective
    losses: Iterable[float] = _picked(curve.losses.tolist(), _CURVE_POINTS)
    return Training(
        number=trial,
        step=record.steps[trial],
        until=record.untils[trial],
        horizon=record.horizons[trial],
        last=objective.value(curve.last.loss) if len(curve) else math.nan,
        best=objective.value(curve.best) if math.isfinite(curve.best) else math.nan,
        seconds=curve.last.seconds if len(curve) else 0.0,
        curve=tuple(objective.value(loss) for loss in losses),
        outlook=outlook,
    )


def _leader(record: Record, *, ended: bool) -> Leader | None:
    """The winner; while the study runs, the trial that leads, if nothing has finished yet."""
    best = record.best
    if best is None and not ended and math.isfinite(record.incumbent):
        best = int(record.losses.array.argmin())
    if best is None:
        return None
    value = record.objective.value(record.losses[best])
    return Leader(best, value, record.curves[best].best_step, params(record.params[best]), record.states[best])
