"""minimize and maximize: a whole search in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foretell.budget import Budget
from foretell.progress import Watcher
from foretell.record import ValueMode
from foretell.run import Run
from foretell.samplers import Sampler
from foretell.schedulers import Scheduler
from foretell.space import Space
from foretell.stopping import StoppingRule
from foretell.stores import Store
from foretell.study import Study
from foretell.termination import Terminator


def minimize(  # noqa: PLR0913 - what a search can be told, all of it by name
    train: Callable[[Run], Any],
    metric: str,
    space: Space,
    budget: Budget | str | None = None,
    *,
    workers: int = 1,
    store: str | Path | Store | None = None,
    name: str | None = None,
    seed: int = 0,
    sampler: str | Sampler = "auto",
    scheduler: str | Scheduler = "auto",
    stopping: StoppingRule | None = None,
    terminator: str | Terminator = "auto",
    value: ValueMode = "auto",
    retries: int = 1,
    gpus_per_run: int = 0,
    default: Mapping[str, Any] | None = None,
    progress: str | Watcher = "auto",
    keep_checkpoints: int = 1,
) -> Study:
    """Search for the configuration whose training gives the lowest value of a metric, under one budget.

    Running the same program again goes on where it was, if a store is given.

    Args:
        train: called with a `Run`; builds, trains, reports.
        metric: name under which the objective is reported.
        space: what is searched.
        budget: e.g. "30 min", "200 trials", "5000 epochs", or several with commas.
        workers: trainings at once in processes of their own; 0 trains in this process.
        store: a folder that keeps the study, or None to keep nothing.
        name: of the study in its store; the name of `train` if left out.
        seed: same seed, same trials with one worker.
        sampler: "auto", a member's name, or a `Sampler`.
        scheduler: "auto", a member's name, or a `Scheduler`.
        stopping: when a run ends itself, e.g. `ft.Patience(5)`.
        terminator: "auto" (the budget alone), a member's name, or a `Terminator`.
        value: "best", "last", or "auto": the best of a trial's curve if its weights are tracked, else the last.
        retries: how often a failing trial is tried again.
        gpus_per_run: CUDA devices each training sees.
        default: a configuration tried first.
        progress: "auto", "live", "plain", "none" or a `Watcher`.
        keep_checkpoints: how many of the best ended trials keep their weights on disk.

    Returns:
        The study.

    Raises:
        StudyMismatch: the store has a study of this name with another space, metric or direction.
        TrainingError: the first three trials all failed.
    """
    study = Study(
        space, minimize=metric, name=name or _name_of(train), store=store, seed=seed, sampler=sampler,
        scheduler=scheduler, terminator=terminator, value=value, retries=retries, default=default,
        keep_checkpoints=keep_checkpoints,
    )  # fmt: skip
    return study.run(train, budget, workers=workers, stopping=stopping, gpus_per_run=gpus_per_run, progress=progress)


def maximize(
    train: Callable[[Run], Any], metric: str, space: Space, budget: Budget | str | None = None, **options: Any
) -> Study:
    """Search for the highest value of a metric; everything else as in `minimize`."""
    settings = {key: options.pop(key) for key in ("workers", "stopping", "gpus_per_run", "progress") if key in options}
    name = options.pop("name", None) or _name_of(train)
    return Study(space, maximize=metric, name=name, **options).run(train, budget, **settings)


def _name_of(train: Callable[[Run], Any]) -> str:
    name = getattr(train, "__name__", "study")
    return name if name.isidentifier() else "study"
