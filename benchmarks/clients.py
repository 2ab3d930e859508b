"""What runs in the training processes of the benchmarks: it imports nothing that a training would not."""

from __future__ import annotations

import sys
import time

from foretell import Run

ENDLESS = 10**9


def reporting(run: Run) -> None:
    """A training that costs nothing: it reports, waits for the acknowledgement, and reports again."""
    for epoch in run.epochs(ENDLESS):
        run.report(loss=1 / (epoch + 1))


def optuna_reporting(url: str, study_name: str, seconds: float) -> None:
    """The same as a client of Optuna's storage: says when it is ready, waits for a line, then prints its reports."""
    import optuna  # noqa: PLC0415 -- foretell's clients do without

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 100}})
    trial = optuna.load_study(study_name=study_name, storage=storage).ask()
    print("ready", flush=True)
    sys.stdin.readline()
    reports, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        trial.report(1 / (reports + 1), reports)
        reports += 1
    print(reports, flush=True)


if __name__ == "__main__":
    optuna_reporting(sys.argv[1], sys.argv[2], float(sys.argv[3]))
