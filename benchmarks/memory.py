"""Peak memory of the process that runs a study of 10,000 trials with 50 reports each."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, Settings, in_fresh_process
from foretell import Float, Recording, Replay, Run, Space, Study
from foretell.stores.memory import MemoryStore
from foretell.stores.sqlite import SQLiteStore

GOAL_MB, EPOCHS, WORKERS, BATCH = 300.0, 50, 8, 10_000
TITLE = f"peak resident memory of the coordinator, {EPOCHS} reports a trial"


def measure(settings: Settings) -> Iterator[Figure]:
    """Megabytes; each study in a process of its own."""
    trials = 20 if settings.quick else 10_000
    empty, _ = _child("memory", "1")
    yield Figure("a study of one trial", "MB", empty)
    ours, _ = _child("memory", str(trials))
    theirs, _ = _child("optuna", str(trials))
    yield Figure(f"{trials:,} trials, memory store", "MB", ours, theirs, goal=GOAL_MB)
    with tempfile.TemporaryDirectory() as folder:
        _child("fill", str(trials), folder)
        stored, seconds = _child("resume", str(trials), folder)
        yield Figure(f"{trials:,} trials, SQLite, opened and run on", "MB", stored, goal=GOAL_MB)
        yield Figure(f"opening the {trials:,} trials", "s", seconds)


def _child(*arguments: str) -> tuple[float, float]:
    """Peak megabytes of a process that does one thing, and the seconds it counted."""
    peak, seconds = in_fresh_process("-m", "benchmarks.memory", *arguments).split()
    return float(peak), float(seconds)


def _run(study: Study, trials: int) -> None:
    replay = Replay(lambda params: Recording([params["lr"] / epoch for epoch in range(1, EPOCHS + 1)]), WORKERS)
    study.run(_never, f"{trials} trials", executor=replay, progress="none")


def _never(run: Run) -> None:
    raise AssertionError("a replay calls no training function")


def _study(store: MemoryStore | SQLiteStore | None) -> Study:
    space = Space({f"x{number}": Float(0.0, 1.0) for number in range(9)}, lr=Float(1e-4, 1.0, log=True))
    return Study(space, minimize="loss", store=store, sampler="random_search", scheduler="full")


def _fill(trials: int, folder: Path) -> None:
    """Put the log of a finished study into SQLite in large pieces: one commit a report would take minutes."""
    memory = MemoryStore()
    study = _study(memory)
    _run(study, trials)
    store = SQLiteStore(folder)
    store.create(study.name, memory.spec(study.name))
    entries = list(memory.entries(study.name))
    with store.lock(study.name):
        for start in range(0, len(entries), BATCH):
            store.append(study.name, entries[start : start + BATCH])
    store.close()


def _optuna(trials: int) -> None:
    import optuna  # noqa: PLC0415 -- its memory must not count for foretell

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(trials):
        trial = study.ask()
        for number in range(9):
            trial.suggest_float(f"x{number}", 0.0, 1.0)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        for epoch in range(1, EPOCHS + 1):
            trial.report(lr / epoch, epoch)
        study.tell(trial, lr / EPOCHS)


def _peak_megabytes() -> float:
    """Of this process alone: what `getrusage` says begins with the size of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def main(what: str, trials: int, *folders: str) -> None:
    """Do one thing in this process, then print its peak memory and the seconds that opening a study took."""
    seconds = 0.0
    match what:
        case "memory":
            _run(_study(None), trials)
        case "optuna":
            _optuna(trials)
        case "fill":
            _fill(trials, Path(folders[0]))
        case "resume":
            begun = time.monotonic()
            study = _study(SQLiteStore(folders[0]))
            seconds = time.monotonic() - begun
            assert len(study.trials) == trials
            _run(study, trials + WORKERS)
            study.close()
    print(_peak_megabytes(), seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
