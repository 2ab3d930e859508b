"""A log with everything in it, and the database that schema version 1 made of it.

`golden/store-0001.db` was written by `python -m tests.stores.golden` when version 1 was the newest. It is never written
again: it stands for the stores that users have. A new version of the schema gets a file of its own.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from foretell import events
from foretell.stores import Entry
from foretell.stores._tables import VERSION
from foretell.stores.sqlite import SQLiteStore
from foretell.trial import State, Verdict

FOLDER = Path(__file__).parent / "golden"
SPEC: dict[str, Any] = {
    "space": {"lr": {"kind": "float", "low": 1e-4, "high": 0.1}, "layers": {"kind": "int", "low": 1, "high": 8}},
    "metric": "val_loss",
    "seed": 2**60 + 1,
    "odd": [math.inf, None, True, {"~float": "a key like the mark"}, "Größe \ud800"],
}
PATIENCE = Verdict("stop", "patience", "val_loss has not improved for 2 checks", 4, 0.61, 0.59, {"best_step": 2})
DIVERGED = Verdict("stop", "divergence", "val_loss is not a number", 2, math.nan, math.inf, {"seen": [0.9, math.nan]})
BUDGET = Verdict("stop", "budget", "all 3 trials have ended", value=3.0, limit=3.0)


def _report(trial: int, attempt: int, step: int, **metrics: float) -> events.Reported:
    return events.Reported(trial, attempt, step, metrics, 0.5 * step)


EVENTS: list[Any] = [
    events.SessionStarted(4711, "c0de"),
    events.Created(0, {"lr": 0.1, "layers": 2}, None, "default"),
    events.Created(1, {"lr": 0.001, "layers": 8}, None, "random_search"),
    events.Started(0, 1),
    events.Started(1, 1),
    events.Opened(0, 1, 6, True, True),
    events.Granted(0, 1, 3, "first rung of 3 epochs"),
    _report(0, 1, 1, val_loss=0.75, acc=0.5),
    _report(1, 1, 1, acc=0.25, val_loss=0.9),
    events.Opened(1, 1, 6, False, False),
    _report(0, 1, 2, val_loss=0.59, acc=1.0),
    _report(1, 1, 2, val_loss=math.nan, acc=-0.0, scale=1e308, bound=-math.inf),
    events.Ended(1, 1, State.DIVERGED, 2, 1.0, DIVERGED),
    _report(0, 1, 3, val_loss=0.6),
    events.Reached(0, 1, 3),
    events.Saved(0, 1, 2, "trials/0/checkpoints/2", "ab" * 32, False, True, 0.01),
    events.Saved(0, 1, 3, "trials/0/checkpoints/3", "cd" * 32, True, False, 0.01),
    events.Ended(0, 1, State.QUEUED, 2, 1.5, cause="signal", error="killed by signal 9"),
    events.Created(2, {"lr": 0.02, "layers": 4}, 0, "enqueued"),
    events.SessionStarted(4712, "c0de"),
    events.Started(0, 2, 2),
    events.Opened(0, 2, 6, True, True, 2),
    _report(0, 2, 3, val_loss=0.6, acc=0.75),
    _report(0, 2, 4, val_loss=0.61),
    _report(0, 2, 4),
    events.Dropped(0, "trials/0/checkpoints/3"),
    events.Ended(0, 2, State.STOPPED, 4, 1.0, PATIENCE),
    events.Started(2, 1),
    events.Opened(2, 1, None, False, False),
    _report(2, 1, 1, val_loss=0.5),
    events.Verified(0, 0.58),
    events.Concluded(BUDGET),
]
ENTRIES = [Entry(i, 1.7e9 + 0.25 * i, event) for i, event in enumerate(EVENTS)]


def make(folder: Path) -> None:
    """Write the log into a store, in batches of all sizes, beside a study that has none yet."""
    store = SQLiteStore(folder)
    store.create("cnn", SPEC)
    store.create("empty", {})
    start = 0
    for size in (1, 2, 5, 24):
        store.append("cnn", ENTRIES[start : start + size])
        start += size
    store.close()


if __name__ == "__main__":
    target = FOLDER / f"store-{VERSION}.db"
    if target.exists():
        sys.exit(f"{target} is there, and golden files are never made anew.")
    with tempfile.TemporaryDirectory() as made:
        make(Path(made))
        FOLDER.mkdir(exist_ok=True)
        with closing(sqlite3.connect(Path(made) / "store.db", isolation_level=None)) as connection:
            connection.execute("VACUUM")
        shutil.copyfile(Path(made) / "store.db", target)
