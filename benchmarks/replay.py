"""Reports per second through the whole loop: random search, asha, memory store, simulated workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks import problem, tables
from benchmarks.figures import Figure, Settings, repeated
from foretell import Recording, Replay, Run, Space, Study

TITLE = "replayed trainings through the whole loop: random search, asha, memory, 4 simulated workers"
UNIT = "reports/s CPU"
GOAL, LEAST_LEFT, EPOCHS, WORKERS, TIMES = 5_000.0, 0.8, 50, 4, 10


def measure(settings: Settings) -> Iterator[Figure]:
    """Reports per CPU second at two sizes, and on recorded trainings if they are there."""
    trials, repeats = (20, 1) if settings.quick else (1_000, 3)
    small, theirs_small, large = repeated(
        repeats, partial(_foretell, trials), partial(_optuna, trials), partial(_foretell, TIMES * trials)
    )
    theirs_large = _optuna(TIMES * trials)  # once: it takes minutes
    note = "Optuna: successive halving, one worker, nothing simulated"
    few, many, rate = f"{trials:,} trials", f"{TIMES * trials:,} trials", partial(Figure, more_is_better=True)
    yield rate(few, UNIT, small, theirs_small, goal=GOAL, note=note)
    yield rate(many, UNIT, large, theirs_large, goal=GOAL)
    yield rate(f"rate left at {many}", "share", large / small, theirs_large / theirs_small, goal=LEAST_LEFT)
    try:
        folder = tables.data_folder(settings.data)
    except FileNotFoundError as error:
        if settings.data is not None:
            raise
        yield rate("recorded trainings", UNIT, None, note=str(error))
        return
    for family in tables.families(folder):
        task = tables.load(folder, family)[0]
        (reports,) = repeated(repeats, partial(_rate, task.space, task.recording, trials))
        yield rate(f"{task.name.partition('/')[0]}, {few}", UNIT, reports)


def _never(run: Run) -> None:
    raise AssertionError("a replay calls no training function")


def _rate(space: Space, recording: Callable[[dict[str, Any]], Recording], trials: int) -> float:
    study = Study(space, minimize="loss", sampler="random_search", scheduler="asha")
    begun = time.process_time()
    study.run(_never, f"{trials} trials", executor=Replay(recording, WORKERS), progress="none")
    spent = time.process_time() - begun
    return sum(len(curve) for curve in study.record.curves) / spent


def _foretell(trials: int) -> float:
    return _rate(problem.space(), lambda params: Recording(_curve(params["lr"]).tolist()), trials)


def _optuna(trials: int) -> float:
    study = problem.optuna_study(optuna.pruners.SuccessiveHalvingPruner(min_resource=3, reduction_factor=3))
    reports, begun = 0, time.process_time()
    for _ in range(trials):
        trial = study.ask()
        losses = _curve(float(problem.suggested(trial)["lr"]))  # type: ignore[arg-type]
        state = optuna.trial.TrialState.COMPLETE
        for epoch, loss in enumerate(losses.tolist(), start=1):
            trial.report(loss, epoch)
            reports += 1
            if trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, float(losses[-1]) if state is optuna.trial.TrialState.COMPLETE else None, state=state)
    return reports / (time.process_time() - begun)


def _curve(lr: float) -> NDArray[np.float64]:
    """A power law whose final value depends on the learning rate."""
    return 0.1 + 0.1 * abs(math.log10(lr) + 2.5) + np.arange(1.0, EPOCHS + 1) ** -0.7
