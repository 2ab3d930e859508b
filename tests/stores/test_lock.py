"""One process at a time appends to a study, and a dead one stands in nobody's way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foretell.errors import StoreBusy
from foretell.stores import _lock
from foretell.stores.sqlite import SQLiteStore

HOLDER = """
import os, signal, sys
from foretell.errors import StoreBusy
from foretell.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
sys.stdin.readline()
try:
    with store.lock("cnn", wait=sys.argv[2] == "call"):
        print("held", flush=True)
        sys.stdin.readline()
except StoreBusy:
    print("busy", flush=True)
"""

FORKER = """
import os, signal, sys
from foretell.stores.sqlite import SQLiteStore
with SQLiteStore(sys.argv[1]).lock("cnn"):
    child = os.fork()
    if child:
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()
"""


@contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def say(started: subprocess.Popen[str]) -> None:
    assert started.stdin is not None
    started.stdin.write("\n")
    started.stdin.flush()


def heard(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline().strip()


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    return SQLiteStore(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> SQLiteStore:
    """The same store opened a second time; its locks exclude each other as those of two processes do."""
    return SQLiteStore(tmp_path)


def test_a_second_process_hears_who_runs_the_study(store: SQLiteStore, tmp_path: Path) -> None:
    with process(HOLDER, tmp_path, "run") as holder:
        say(holder)
        assert heard(holder) == "held"
        for wait in (False, True):  # nobody waits for a run
            with pytest.raises(StoreBusy) as busy, store.lock("cnn", wait=wait):
                pass
            assert re.fullmatch(
                rf"Study 'cnn' is being run by process {holder.pid} on this machine since \d\d:\d\d\. Wait for it, "
                r"attach with `foretell show cnn`, or stop it with `foretell stop cnn`\.",
                str(busy.value),
            )
        with store.lock("other"):
            pass


@pytest.mark.fault
@pytest.mark.parametrize("wait", [False, True])
def test_a_killed_holder_is_no_obstacle(store: SQLiteStore, tmp_path: Path, wait: bool) -> None:
    with process(HOLDER, tmp_path, "run") as holder:
        say(holder)
        assert heard(holder) == "held"
        holder.kill()
        holder.wait()
        assert json.loads((tmp_path / "locks" / "cnn.lock").read_text())["pid"] == holder.pid
        with store.lock("cnn", wait=wait):
            assert json.loads((tmp_path / "locks" / "cnn.lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / "locks" / "cnn.lock").read_text() == ""


@pytest.mark.fault
def test_a_forked_child_does_not_keep_the_lock_of_a_killed_parent(store: SQLiteStore, tmp_path: Path) -> None:
    with process(FORKER, tmp_path) as parent:
        child = int(heard(parent))
        assert parent.wait() == -signal.SIGKILL
        try:
            os.kill(child, 0)
            with store.lock("cnn"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_of_many_that_race_one_wins(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(process(HOLDER, tmp_path, "run")) for _ in range(4)]
        for racer in racers:
            say(racer)
        assert sorted(map(heard, racers)) == ["busy"] * 3 + ["held"]


def test_a_call_waits_for_another_call(store: SQLiteStore, other: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    held, waits = contextlib.ExitStack(), []
    held.enter_context(other.lock("cnn", wait=True))

    class Clock:
        def wait(self, seconds: float) -> None:
            waits.append(seconds)
            held.close()  # the other one comes to its end while we wait

    monkeypatch.setattr(_lock, "_never", Clock())
    with store.lock("cnn", wait=True):
        assert len(waits) == 1


def test_a_run_does_not_wait_for_a_call(store: SQLiteStore, other: SQLiteStore) -> None:
    with (
        other.lock("cnn", wait=True),
        pytest.raises(StoreBusy, match=rf"being changed by process {os.getpid()} .* in a moment"),
        store.lock("cnn"),
    ):
        pass


def test_patience_ends(store: SQLiteStore, other: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lock, "PATIENCE", 0.02)
    with other.lock("cnn", wait=True), pytest.raises(StoreBusy), store.lock("cnn", wait=True):
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_a_holder_that_has_not_signed_yet(store: SQLiteStore, tmp_path: Path, content: str) -> None:
    (tmp_path / "locks").mkdir()
    path = tmp_path / "locks" / "cnn.lock"
    with _lock.locked(path, patience=0.0):
        path.write_text(content)
        with pytest.raises(StoreBusy, match="just been taken by another process"), store.lock("cnn"):
            pass


def test_a_holder_on_another_machine_and_another_day(store: SQLiteStore, tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    path = tmp_path / "locks" / "cnn.lock"
    with _lock.locked(path, patience=0.0):
        path.write_text(json.dumps({"pid": 7, "host": "elsewhere", "time": 1.0e9, "kind": "run"}))
        with pytest.raises(StoreBusy, match=r"process 7 on elsewhere since 2001-09-0\d \d\d:\d\d"), store.lock("cnn"):
            pass
