"""CPU time of one trial with random search, as the number of finished trials grows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import problem
from benchmarks.figures import Figure, Settings, cpu_seconds
from foretell import Study

TITLE = "ask and tell of one trial, random search over 10 parameters, in memory"
GOAL_MS, MOST_GROWTH = 0.2, 1.25


def measure(settings: Settings) -> Iterator[Figure]:
    """CPU milliseconds at three sizes of the study, and how they grow."""
    sizes, window, repeats = ((20, 40), 10, 1) if settings.quick else ((100, 1_000, 10_000), 200, 3)
    ours, theirs = _grown(_foretell, repeats, sizes, window), _grown(_optuna, repeats, sizes, window)
    for size, mine, other in zip(sizes, ours, theirs, strict=True):
        yield Figure(f"at {size:,} finished trials", "ms CPU", mine, other, goal=GOAL_MS)
    growth = f"growth from {sizes[0]:,} to {sizes[-1]:,} trials"
    yield Figure(growth, "times", ours[-1] / ours[0], theirs[-1] / theirs[0], goal=MOST_GROWTH)


def _grown(begin: Callable[[], Callable[[], object]], repeats: int, sizes: tuple[int, ...], window: int) -> list[float]:
    """The median of CPU milliseconds of a trial after each number of trials."""
    taken: list[list[float]] = []
    for _ in range(repeats):
        one, finished, row = begin(), 0, []
        for size in sizes:
            _times(size - finished, one)
            row.append(1000 * cpu_seconds(partial(_times, window, one)) / window)
            finished = size + window
        taken.append(row)
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def _times(count: int, one: Callable[[], object]) -> None:
    for _ in range(count):
        one()


def _foretell() -> Callable[[], object]:
    study = Study(problem.space(), minimize="loss", sampler="random_search", scheduler="full")

    def one() -> object:
        run = study.ask()
        return study.tell(run, run.params["lr"])

    return one


def _optuna() -> Callable[[], object]:
    study = problem.optuna_study()

    def one() -> object:
        trial = study.ask()
        return study.tell(trial, float(problem.suggested(trial)["lr"]))  # type: ignore[arg-type]

    return one
