"""A study that is run, broken and run again in processes of its own, and what must hold whatever happened to it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from foretell import events
from foretell.coordinator import trial_seed
from foretell.stores import Entry
from foretell.stores.sqlite import SQLiteStore
from foretell.study import Study
from foretell.trial import State
from tests.faults._study import Settings, undisturbed

SOURCE = Path(__file__).parents[2] / "src"
SCRIPT = Path(__file__).with_name("_study.py")
LIMIT = 60.0  # seconds; only a test that has failed waits so long
MARK = "FORETELL_TEST"  # in the environment of a study and of all that it starts


class Line(NamedTuple):
    """What a training said."""

    pid: int
    trial: int
    attempt: int
    what: str
    digest: str

    @property
    def step(self) -> int | None:
        """The epoch whose report had returned, or None for other words."""
        return int(self.what) if self.what.isdecimal() else None


def parent(pid: int) -> int:
    """Of a training: the template."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@final
class Bench:
    """One study, its sessions, and everything its trainings have ever said.

    Args:
        folder: for its store and its FIFO.
        settings: of `_study.py`, but for the folder.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.settings = Settings(str(folder), **settings)  # type: ignore[arg-type]
        self.lines: list[Line] = []
        self._mark = uuid.uuid4().hex
        self._partial = b""
        self._sessions: list[subprocess.Popen[str]] = []
        for name in ("lines", "never"):
            os.mkfifo(folder / name)
        self._fifo = os.open(folder / "lines", os.O_RDWR | os.O_NONBLOCK)  # our own writing end: it never ends

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever a failed test has left running is ended."""
        for survivor in self.survivors():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(survivor, signal.SIGKILL)
            os.close(survivor)
        for session in self._sessions:
            session.kill()
            session.wait()
            for stream in (session.stdin, session.stdout, session.stderr):
                assert stream is not None
                stream.close()
        os.close(self._fifo)

    # ------------------------------------------------------------------ sessions

    def start(self, fault: str = "") -> subprocess.Popen[str]:
        """Run the study in a group of its own; `fault` is "point:pass"."""
        session = subprocess.Popen(
            [sys.executable, "-W", "error", str(SCRIPT), json.dumps(self.settings._asdict())],
            env=os.environ | {"PYTHONPATH": str(SOURCE), "FORETELL_FAULT": fault, MARK: self._mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._sessions.append(session)
        return session

    def finish(self, session: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the end of a session and of everything it started; its exit code and its complaints."""
        code = self.wait(session)
        assert session.stderr is not None
        words = session.stderr.read()
        self.settle()
        return code, words

    def wait(self, session: subprocess.Popen[str]) -> int:
        """Wait for the end of the coordinator alone, while its trainings may speak."""
        watched = os.pidfd_open(session.pid)
        try:
            while not self._wait((watched,)):
                self._take()
        finally:
            os.close(watched)
        return session.wait()

    def kill(self, session: subprocess.Popen[str], reports: int) -> bool:
        """Kill the coordinator after so many acknowledged reports; False if the study was over before.

        What it has left behind may still be there: call `settle` before `check`.
        """
        heard = 0
        for line in self.listen(session):
            heard += line.step is not None
            if heard >= reports:
                session.kill()
                break
        return self.wait(session) == -signal.SIGKILL

    def hang(self) -> subprocess.Popen[str]:
        """A session, once two of its trainings hang in their second epoch."""
        session, hanging = self.start(), 0
        for line in self.listen(session):
            hanging += line.what == "hang"
            if hanging == 2:
                return session
        raise AssertionError("the session has ended")

    def settle(self) -> None:
        """Wait until nothing of the study is left but its words."""
        self.wait_for_orphans()
        self._take()

    def listen(self, session: subprocess.Popen[str]) -> Iterator[Line]:
        """Lines as they come, until the session ends."""
        watched = os.pidfd_open(session.pid)
        try:
            seen = len(self.lines)
            while True:
                over = self._wait((watched,))
                self._take()
                while seen < len(self.lines):
                    seen += 1
                    yield self.lines[seen - 1]
                if over:
                    return
        finally:
            os.close(watched)

    def _wait(self, watched: tuple[int, ...]) -> bool:
        """Wait for words or for one of the descriptors; whether it was one of them."""
        ready = select.select([self._fifo, *watched], [], [], LIMIT)[0]
        assert ready, "nothing has happened for too long"
        return bool(set(ready) - {self._fifo})

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._partial += os.read(self._fifo, 1 << 16)
        *whole, self._partial = self._partial.split(b"\n")
        for words in whole:
            pid, trial, attempt, what, digest = words.decode().split()
            self.lines.append(Line(int(pid), int(trial), int(attempt), what, digest))

    # ------------------------------------------------------------------ what must hold

    def wait_for_orphans(self) -> None:
        """All that the study has started comes to its end by itself."""
        deadline = time.monotonic() + LIMIT
        while survivors := self.survivors():
            for watched in survivors:
                assert select.select([watched], [], [], max(0.0, deadline - time.monotonic()))[0], "a process survives"
                os.close(watched)

    def survivors(self) -> list[int]:
        """Descriptors of the processes that carry the study's mark."""
        found, mark = [], f"{MARK}={self._mark}".encode()
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(os.pidfd_open(int(entry)))
        return found

    def log(self) -> list[Entry]:
        """The study's log as a process that comes later reads it."""
        store = SQLiteStore(self.settings.store)
        try:
            return list(store.entries("study")) if "study" in store.names() else []
        finally:
            store.close()

    def check(self) -> list[Entry]:
        """What holds after every accident: nothing acknowledged is lost, no trial ran twice at once."""
        file = self.settings.store / "store.db"
        with contextlib.closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        log = self.log()
        stored = {(event.trial, event.attempt, event.step) for _, _, event in log if isinstance(event, events.Reported)}
        acknowledged = {(line.trial, line.attempt, line.step) for line in self.lines if line.step is not None}
        assert acknowledged <= stored
        assert not [line for line in self.lines if line.what == "twice"]
        return log

    def complete(self) -> None:
        """Run the study to its end, undisturbed; what holds of a study that is over."""
        code, words = self.finish(self.start())
        assert code == 0, words
        assert not words or (words.count("\n") == 1 and "training function has changed" in words)
        log = self.check()
        with contextlib.closing(Study.open(self.settings.store)) as study:
            assert study.verdict.stop
            assert not study.record.running
            self._check_budget(study, log)
            self._check_weights(study)
            self._check_checkpoints(study)
            if self.settings.budget.endswith("trials"):
                self._check_none_forgotten(study, log)

    def _check_budget(self, study: Study, log: list[Entry]) -> None:
        begun: dict[tuple[int, int], int] = {}
        reached: dict[tuple[int, int], int] = {}
        for _, _, event in log:
            if isinstance(event, events.Started):
                assert (event.trial, event.attempt) not in begun
                begun[event.trial, event.attempt] = event.step
            elif isinstance(event, events.Reported):
                reached[event.trial, event.attempt] = event.step
        spent = sum(step - begun[attempt] for attempt, step in reached.items())
        assert spent == study.record.epochs_spent
        amount, unit = self.settings.budget.split()
        if unit == "trials":
            assert len({trial for trial, _ in begun}) == study.record.started == len(study.trials) == int(amount)
        else:
            assert spent == int(amount)

    def _check_weights(self, study: Study) -> None:
        """Bit for bit those of a training that nobody broke, after every epoch of every attempt."""
        for trial in study.trials:
            expected = undisturbed(trial.params, trial_seed(0, trial.number))
            found = {line.step: line.digest for line in self.lines if line.trial == trial.number and line.step}
            assert found == {step: expected[step] for step in found}

    def _check_checkpoints(self, study: Study) -> None:
        """What is referenced can be read, and a trial that has ended leaves nothing else behind."""
        record = study.record
        for trial in study.trials:
            kept = [record.checkpoint(saved) for saved in record.checkpoints.get(trial.number, {}).values()]
            for checkpoint in kept:
                checkpoint.read()
            folder = record.folder / f"trials/{trial.number:06d}/checkpoints"
            if trial.state.ended and folder.is_dir():
                assert set(folder.iterdir()) == {checkpoint.folder for checkpoint in kept}

    def _check_none_forgotten(self, study: Study, log: list[Entry]) -> None:
        """Whoever is paused, though there are epochs left, waits at a rung, where the scheduler looks for it."""
        reached = {(event.trial, event.step) for _, _, event in log if isinstance(event, events.Reached)}
        for trial in study.trials:
            assert trial.state is not State.QUEUED
            if trial.state is State.PAUSED:
                assert (trial.number, trial.step) in reached
                assert trial.step == study.record.limit(trial.number)
