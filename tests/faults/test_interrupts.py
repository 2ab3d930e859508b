"""Ctrl-C once saves everything, twice ends at once; SIGTERM likewise. No training is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foretell import events
from foretell.trial import State
from tests.faults import LIMIT, Bench

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and waits for process descriptors"),
]
AT_ONCE = 10.0  # seconds; 2 are promised, and a loaded machine gets some more

Send = Callable[[int, int], None]


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (os.kill, signal.SIGINT, -signal.SIGINT),
        (os.killpg, signal.SIGINT, -signal.SIGINT),
        (os.kill, signal.SIGTERM, 143),
    ],
    ids=["coordinator-SIGINT", "group-SIGINT", "coordinator-SIGTERM"],
)
def test_once_saves_what_runs(tmp_path: Path, send: Send, number: int, code: int) -> None:
    with Bench(tmp_path, budget="12 trials") as bench:
        for reports in (2, 9):
            session, heard = bench.start(), 0
            for line in bench.listen(session):
                heard += line.step is not None
                if heard == reports:
                    send(session.pid, number)
                    break
            ended, words = bench.finish(session)
            assert ended == code
            assert "Once more ends at once" in words
            if number == signal.SIGINT:
                assert "KeyboardInterrupt: the study was interrupted; everything is saved" in words
            check_saved(bench)
        bench.complete()


def check_saved(bench: Bench) -> None:
    """Every attempt has said how it ended, and whoever is paused is saved as of its last epoch: nothing is lost."""
    log = bench.check()
    newest = {e.trial: e.step for _, _, e in log if isinstance(e, events.Saved) and e.newest}
    ended = {(e.trial, e.attempt): e for _, _, e in log if isinstance(e, events.Ended)}
    started = {(e.trial, e.attempt) for _, _, e in log if isinstance(e, events.Started)}
    assert started == ended.keys()
    assert {end.state for end in ended.values()} <= {State.PAUSED, State.DONE}
    for (trial, attempt), end in ended.items():
        if (trial, attempt + 1) not in ended and end.state is State.PAUSED:
            assert end.step == newest[trial]
    assert isinstance(log[-1].event, events.Concluded)
    assert log[-1].event.verdict.rule == "interrupt"


def wait_for_words(session: subprocess.Popen[str]) -> None:
    """Until the coordinator has said that it saw the first signal."""
    assert session.stderr is not None
    read = b""
    while b"Once more ends at once" not in read:
        assert select.select([session.stderr], [], [], LIMIT)[0]
        read += os.read(session.stderr.fileno(), 4096)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)],
    ids=["SIGINT", "SIGTERM"],
)
def test_twice_ends_at_once(tmp_path: Path, number: int, expected: int) -> None:
    with Bench(tmp_path, budget="4 trials", train="hanging", scheduler="full") as bench:
        session = bench.hang()
        os.kill(session.pid, number)
        wait_for_words(session)
        begun = time.monotonic()
        os.kill(session.pid, number)
        code, _ = bench.finish(session)
        taken = time.monotonic() - begun
        print(f"out within {taken:.2f} s")
        assert taken < AT_ONCE
        assert code == expected
        bench.check()


def test_after_the_grace_a_training_that_hangs_is_ended_and_begins_anew(tmp_path: Path) -> None:
    with Bench(tmp_path, budget="4 trials", train="hanging", scheduler="full", grace=0.5) as bench:
        session = bench.hang()
        os.kill(session.pid, signal.SIGINT)
        code, words = bench.finish(session)
        assert code == -signal.SIGINT, words
        ends = [e for _, _, e in bench.check() if isinstance(e, events.Ended)]
        assert sum(end.cause == "cancelled" for end in ends) == 2
        assert all(end.state in (State.QUEUED, State.PAUSED) for end in ends)
        bench.settings = bench.settings._replace(train="steady")
        assert bench.finish(bench.start())[0] == 0
