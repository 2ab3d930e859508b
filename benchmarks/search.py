"""How good a search is after so many full trainings' worth of epochs, on recorded trainings, beside Optuna's.

`python -m benchmarks.search --seeds 10 --json FILE` replays every family with one worker; what was found is kept in
the file, so that a run can be taken up again or extended. Three regrets, of which 0 is the best of the table and 1 its
median configuration: *any*, of the best value at any epoch, which a kept checkpoint gives; *last*, of the final value
of whichever configuration looks best by its last value; *full*, of the best that was trained to its end.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import tables
from benchmarks.figures import Figure, Settings
from benchmarks.full_fidelity import paired
from benchmarks.tables import Task
from foretell import Choice, Float, Recording, Replay, Study
from foretell.record import Observed

TITLE = "normalised regret of the best value after full trainings' worth of epochs, on recorded trainings"
BUDGETS = (6, 12, 20, 50, 100)
FAMILIES = ("lcbench", "taskset", "mlp", "deepobs")
CAP = 1.5
KINDS = ("any", "last", "full")
OURS = {
    "auto": ("auto", "auto"),
    "tpe asha": ("tpe", "asha"),
    "random asha": ("random_search", "asha"),
    "random hyperband": ("random_search", "hyperband"),
    "gp full": ("gp", "full"),
    "random full": ("random_search", "full"),
}
THEIRS = ("optuna tpe", "optuna tpe hyperband", "optuna tpe median")

Array = NDArray[np.float64]


class Seen(NamedTuple):
    """One epoch of a search, in the order they were paid for."""

    trial: Any
    params: Mapping[str, Any]
    step: int
    value: float


def ours(sampler: str, scheduler: str, task: Task, seed: int, epochs: int) -> list[Seen]:
    """Every epoch of a study, replayed."""
    study = Study(task.space, minimize=task.metric, sampler=sampler, scheduler=scheduler, seed=seed)
    study.run(_never, f"{epochs} epochs", executor=Replay(_remembered(task)), progress="none")
    record = study.record
    log = (record.event(position) for position in range(record.log_length()))
    return [
        Seen(event.trial, record.params[event.trial], event.step, event.loss)
        for event in log
        if isinstance(event, Observed)
    ]


def optuna(pruner: str, task: Task, seed: int, epochs: int) -> list[Seen]:
    """Every epoch of an Optuna study; what is pruned is gone, as Optuna has it."""
    import optuna as peer  # noqa: PLC0415 -- the others run without it

    peer.logging.set_verbosity(peer.logging.ERROR)
    pruners: dict[str, Callable[[], Any]] = {
        "": peer.pruners.NopPruner,
        "hyperband": lambda: peer.pruners.HyperbandPruner(
            min_resource=1, max_resource=task.horizon, reduction_factor=3
        ),
        "median": peer.pruners.MedianPruner,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both settings are called experimental, and advised
        sampler = peer.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    study, recording = peer.create_study(sampler=sampler, pruner=pruners[pruner]()), _remembered(task)
    seen: list[Seen] = []
    while len(seen) < epochs:
        trial = study.ask()
        params = {
            dimension.name: _suggested(trial, dimension.name, dimension.parameter)
            for dimension in task.space.dimensions
        }
        values, state = recording(params).values, peer.trial.TrialState.COMPLETE
        for step, value in enumerate(values[: epochs - len(seen)], start=1):
            seen.append(Seen(trial.number, params, step, float(value)))
            if not math.isfinite(value):
                state = peer.trial.TrialState.FAIL
                break
            trial.report(float(value), step)
            if trial.should_prune():
                state = peer.trial.TrialState.PRUNED
                break
        study.tell(trial, seen[-1].value if state is peer.trial.TrialState.COMPLETE else None, state=state)
    return seen


def _suggested(trial: Any, name: str, parameter: Any) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, list(parameter.options))
    suggest = trial.suggest_float if isinstance(parameter, Float) else trial.suggest_int
    return suggest(name, parameter.low, parameter.high, log=parameter.log)


def _never(run: object) -> None:
    raise AssertionError("a replay calls no training function")


def _remembered(task: Task) -> Callable[[Mapping[str, Any]], Recording]:
    found: dict[str, Recording] = {}

    def recording(params: Mapping[str, Any]) -> Recording:
        key = json.dumps(params, sort_keys=True)
        if key not in found:
            found[key] = task.recording(dict(params))
        return found[key]

    return recording


# --- regrets ---------------------------------------------------------------------------------------------------------


def regrets(task: Task, seen: Sequence[Seen], budgets: Sequence[int]) -> dict[str, list[float]]:
    """By kind, the regret at each budget."""
    recording, finals = _remembered(task), _finite(task.values[:, -1])
    lowest = _finite(np.where(np.isfinite(task.values), task.values, np.inf).min(axis=1))
    last: dict[Any, Seen] = {}
    best, finished = math.inf, None
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    marks = [budget * task.horizon for budget in budgets]
    for spent, epoch in enumerate(seen, start=1):
        value = epoch.value if math.isfinite(epoch.value) else math.inf
        last[epoch.trial] = epoch._replace(value=value)
        best = min(best, value)
        if epoch.step == task.horizon and (finished is None or value < finished):
            finished = value
        if spent in marks:
            leader = min(last.values(), key=lambda one: one.value)
            final = recording(leader.params).values[-1]
            found["any"].append(_scaled(best, lowest))
            found["last"].append(_scaled(final, finals))
            found["full"].append(_scaled(math.inf if finished is None else finished, finals))
    return found


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _scaled(value: float, table: Array) -> float:
    low, middle = float(table.min()), float(np.median(table))
    return float(np.clip((value - low) / (middle - low), 0.0, CAP)) if math.isfinite(value) else CAP


def area(row: Sequence[float], budgets: Sequence[int]) -> float:
    """Mean over the logarithm of the budget: the primary figure."""
    return float(np.trapezoid(row, np.log(budgets)) / np.log(budgets[-1] / budgets[0])) if len(row) > 1 else row[0]


# --- as a part, and as a program -------------------------------------------------------------------------------------


class Job(NamedTuple):
    """One search, by names, so that it can go to another process."""

    method: str
    task: str
    smooth: bool
    seed: int
    most: int
    data: str

    @property
    def key(self) -> str:
        """Under which it is kept."""
        return f"{self.method} | {self.task} | {'smooth' if self.smooth else 'nearest'} | {self.seed}"


def searched(job: Job) -> tuple[str, dict[str, Any]]:
    """Run one search: its key, and its regrets, CPU seconds and number of trials."""
    task, begun = _tasks(job.data, job.task.partition("/")[0], smooth=job.smooth)[job.task], time.process_time()
    epochs = job.most * task.horizon
    if job.method in OURS:
        seen = ours(*OURS[job.method], task, job.seed, epochs)
    else:
        seen = optuna(job.method.removeprefix("optuna tpe").strip(), task, job.seed, epochs)
    seconds = time.process_time() - begun
    budgets = [budget for budget in BUDGETS if budget <= job.most] or [job.most]
    return job.key, {**regrets(task, seen, budgets), "cpu": seconds, "trials": len({epoch.trial for epoch in seen})}


@cache
def _tasks(data: str, family: str, *, smooth: bool) -> dict[str, Task]:
    return {task.name: task for task in tables.load(Path(data), family, smooth=smooth)}


def measure(settings: Settings) -> Iterator[Figure]:
    """A few tasks and seeds: ours beside ASHA with random draws and Optuna's TPE with Hyperband."""
    folder = tables.data_folder(settings.data)
    most, seeds, few = (2, 1, 1) if settings.quick else (50, 3, 3)
    names = ("auto", "random asha", "optuna tpe hyperband")
    for family in (name for name in FAMILIES if name in tables.families(folder)):
        chosen = list(_tasks(str(folder), family, smooth=True))[:few]
        found = {
            method: [
                searched(Job(method, task, smooth=True, seed=seed, most=most, data=str(folder)))[1]
                for task in chosen
                for seed in range(seeds)
            ]
            for method in names
        }
        means = {method: float(np.mean([row["any"][-1] for row in rows])) for method, rows in found.items()}
        yield Figure(f"{family}: regret at {most} trainings", "of the median", means["auto"], means[names[2]],
                     peer="Optuna TPE+HB", note=f"ASHA with random draws: {means['random asha']:.3f}")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare methods at length."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["auto", "random asha", "random full", *THEIRS[:2]])
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--tasks", type=int, default=100, help="of each family, at most")
    parser.add_argument("--most", type=int, default=BUDGETS[-1], help="full trainings' worth of epochs")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path, help="what was found, a line each, to go on from")
    options = parser.parse_args(arguments)
    data = str(tables.data_folder(options.data))
    kept: dict[str, Any] = {}
    if options.json and options.json.exists():
        kept = dict(json.loads(line) for line in options.json.read_text().splitlines())
    jobs = [
        Job(method, task, smooth, seed, options.most, data)
        for seed in range(options.seeds)
        for family in options.families
        for task in list(_tasks(data, family, smooth=False))[: options.tasks]
        for smooth in (False, True)
        for method in options.methods
    ]
    waiting = [job for job in jobs if job.key not in kept]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for done, (key, found) in enumerate(pool.imap_unordered(searched, waiting), start=1):
            kept[key] = found
            if options.json:
                with options.json.open("a") as file:
                    file.write(json.dumps([key, found]) + "\n")
            if done % 20 == 0:
                print(f"{done} of {len(waiting)}", file=sys.stderr, flush=True)
    show(kept, options.methods, [budget for budget in BUDGETS if budget <= options.most])
    return 0


def show(kept: Mapping[str, Mapping[str, Any]], methods: Sequence[str], budgets: Sequence[int]) -> None:
    """Print, for each family and look-up, every method at every budget, and what it is beside the first."""
    rows: dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]] = {}
    for key, found in kept.items():
        method, task, look, seed = key.split(" | ")
        rows.setdefault((task.partition("/")[0], look), {}).setdefault((task, int(seed)), {})[method] = found
    for (family, look), cells in sorted(rows.items()):
        shared = {cell: by for cell, by in cells.items() if set(methods) <= by.keys()}
        names = sorted({task for task, _ in shared})
        seeds = min((sum(task == name for task, _ in shared) for name in names), default=0)
        if not seeds:
            continue
        chosen = [
            [shared[name, seed] for _, seed in sorted(c for c in shared if c[0] == name)[:seeds]] for name in names
        ]
        print(f"\n{family}, {look}: {len(names)} tasks, {seeds} seeds")
        print(f"regret after {tuple(budgets)} full trainings, and its mean over the logarithm of the budget")
        for kind in KINDS:
            table = {m: np.array([[by[m][kind] for by in of_task] for of_task in chosen]) for m in methods}
            areas = {m: np.apply_along_axis(area, 2, rows_, budgets) for m, rows_ in table.items()}
            for method in methods:
                cells_ = " ".join(f"{value:.3f}" for value in table[method].mean(axis=(0, 1)))
                mean, low, high, p = paired(areas[methods[0]], areas[method])
                against = (
                    "" if method == methods[0] else f"  {methods[0]} is {mean:+.3f} [{low:+.3f}, {high:+.3f}] p {p:.2g}"
                )
                print(f"{kind:5} {method:22} {cells_}  {areas[method].mean():.3f}{against}")


if __name__ == "__main__":
    sys.exit(main())
