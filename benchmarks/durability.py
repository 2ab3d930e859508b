"""Durable reports per second: many training processes, each waiting for its acknowledgement, one SQLite file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import optuna

from benchmarks import clients
from benchmarks.figures import ROOT, Figure, Settings, repeated
from foretell import Float, Space, Study

TITLE = "durable reports with SQLite, each client waiting for its acknowledgement ($TMPDIR chooses the disk)"
GOAL_RATIO, MANY_CLIENTS = 20.0, 8
_PAGE = bytes(4096)


def measure(settings: Settings) -> Iterator[Figure]:
    """Reports per second of wall time, all clients together, after the last of them has started."""
    counts, seconds, repeats = ((1, 2), 0.3, 1) if settings.quick else ((1, 8, 32), 5.0, 3)
    syncs = repeated(repeats, lambda: _syncs(min(1.0, seconds)))[0]
    yield Figure("fsyncs of this disk, 4 kB each", "per s", syncs, more_is_better=True, note="by one process")
    for count in counts:
        ours, theirs = repeated(repeats, partial(_foretell, count, seconds), partial(_optuna, count, seconds))
        goal = GOAL_RATIO if count >= MANY_CLIENTS else None
        name = "1 client" if count == 1 else f"{count} clients"
        yield Figure(name, "reports/s", ours, theirs, goal_ratio=goal, more_is_better=True)


def _syncs(seconds: float) -> float:
    with tempfile.TemporaryFile() as file:
        begun, count = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            os.write(file.fileno(), _PAGE)
            os.fsync(file.fileno())
            count += 1
        return count / (time.monotonic() - begun)


@dataclass
class _Window:
    """Counts acknowledged reports from the moment that every client has reported, and ends the study after a while."""

    clients: int
    seconds: float
    stop: Callable[[], object]
    seen: set[int] = field(default_factory=set)
    begun: float = 0.0
    ended: float = 0.0
    reports: int = 0

    def __call__(self, trial: int, step: int, metrics: Mapping[str, float]) -> None:
        """One report is durable."""
        if self.ended:
            return
        now = time.monotonic()
        if not self.begun:
            self.seen.add(trial)
            self.begun = now if len(self.seen) == self.clients else 0.0
            return
        self.reports += 1
        if now - self.begun >= self.seconds:
            self.ended = now
            self.stop()


def _foretell(count: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        study = Study(
            Space(lr=Float(0.0, 1.0)), minimize="loss", store=folder, sampler="random_search", scheduler="full"
        )
        window = _Window(count, seconds, study.stop)
        study.run(clients.reporting, f"{count} trials", workers=count, progress="none", on_report=window)
        study.close()
    return window.reports / (window.ended - window.begun)


def _optuna(count: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'optuna.db'}"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        optuna.create_study(study_name="study", storage=url)
        command = [sys.executable, "-m", clients.__name__, url, "study", str(seconds)]
        processes = [
            subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a client of Optuna did not start; its words are above")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate()[0] for process in processes]
    return sum(map(int, outputs)) / seconds
