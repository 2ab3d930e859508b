"""CPU time of one report in memory: in a lone loop, and in a trial of a study."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import problem
from benchmarks.figures import Figure, Settings, repeated
from foretell import Patience, Run, Study

TITLE = "one report of one metric, in memory"
GOAL_US, EPOCHS = 20.0, 50


def measure(settings: Settings) -> Iterator[Figure]:
    """CPU microseconds of a report with its share of the epoch loop around it."""
    trials, repeats = (3, 1) if settings.quick else (400, 5)
    lone, ruled = repeated(repeats, lambda: _lone(trials), lambda: _lone(trials, Patience(EPOCHS)))
    yield Figure("standalone Run", "us CPU", lone, goal=GOAL_US, note="Optuna has no such thing")
    yield Figure("standalone Run with Patience", "us CPU", ruled, goal=GOAL_US)
    ours, theirs = repeated(repeats, lambda: _asked(trials), lambda: _optuna(trials))
    yield Figure(f"within ask and tell, {EPOCHS} epochs a trial", "us CPU", ours, theirs)


def _lone(trials: int, stopping: Patience | None = None) -> float:
    begun = time.process_time()
    for _ in range(trials):
        run = Run(minimize="loss", stopping=stopping, seed=0)
        for epoch in run.epochs(EPOCHS):
            run.report(loss=1 / (epoch + 1))
    return 1e6 * (time.process_time() - begun) / (trials * EPOCHS)


def _asked(trials: int) -> float:
    study, spent = Study(problem.space(), minimize="loss", sampler="random_search", scheduler="full"), 0.0
    for _ in range(trials):
        run = study.ask()
        begun = time.process_time()
        for epoch in run.epochs(EPOCHS):
            run.report(loss=1 / (epoch + 1))
        spent += time.process_time() - begun
        study.tell(run)
    return 1e6 * spent / (trials * EPOCHS)


def _optuna(trials: int) -> float:
    study, spent = problem.optuna_study(), 0.0
    for _ in range(trials):
        trial = study.ask()
        begun = time.process_time()
        for epoch in range(EPOCHS):
            trial.report(1 / (epoch + 1), epoch)
            if trial.should_prune():
                break
        spent += time.process_time() - begun
        study.tell(trial, 1.0)
    return 1e6 * spent / (trials * EPOCHS)
